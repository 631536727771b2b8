"""References of results, as people read them: what they refer to, and the command that reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..plurals import counted

# those of loops are read by other means
_KINDS = ("result_ref", "temp_ref")


def reference_in(value: Any) -> Mapping[str, Any] | None:
    """The reference that the value is, or that it has instead of data; None if it is none."""
    if isinstance(value, Mapping) and value.keys() == {"ref"} and isinstance(value["ref"], Mapping):
        value = value["ref"]
    is_one = isinstance(value, Mapping) and value.get("kind") in _KINDS and isinstance(value.get("ref"), str)
    return value if is_one else None


def reference_lines(reference: Mapping[str, Any]) -> Iterator[str]:
    yield f"stored by reference: {_size(reference)}"
    preview = reference.get("preview")
    if isinstance(preview, str) and preview:
        yield f"  it begins: {preview}"
    yield f"  to read it, run: {command_for(reference)}"


def reference_text(reference: Mapping[str, Any]) -> str:
    """The same in one line, without what it begins with."""
    return f"{reference['ref']} ({_size(reference)}; {command_for(reference)})"


def command_for(reference: Mapping[str, Any]) -> str:
    return f"noetls result get {reference['ref']}"


def _size(reference: Mapping[str, Any]) -> str:
    meta = reference.get("meta") or {}
    rows = "" if meta.get("row_count") is None else f"{counted(meta['row_count'], 'row')}, "
    return f"{rows}{counted(int(meta.get('bytes', 0)), 'byte')} of {meta.get('content_type', 'application/json')}"
