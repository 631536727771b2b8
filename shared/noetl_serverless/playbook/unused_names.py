"""Keys of the workload and of ctx that no template of the document reads.

Nothing is reported where a template reads the workload or ctx as a whole, or where Python code can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jinja2.exceptions import TemplateSyntaxError

from . import sandbox
from .document import Document, Path, walk
from .faults import Faults
from .reads import Reads, find_reads, merge
from .template import has_markers

# Python code sees workload and ctx under this name
_CONTEXT = re.compile(r"\bcontext\b")


def check(document: Document, faults: Faults) -> None:
    if _code_may_read(document.root):
        return
    reads = _reads_of(document)
    # a bare name may be a key of either
    bare = reads.keys()
    workload = document.value(("workload",))
    read = reads.get("workload", frozenset())
    if isinstance(workload, dict) and read is not None:
        for key in workload:
            if key not in read and key not in bare:
                faults.add(f"nothing reads workload.{key}", ("workload", key), "playbook.unused_name", key=True)
    read = reads.get("ctx", frozenset())
    if read is None:
        return
    seen: set[str] = set()
    for path, key in _set_in_ctx(document.root):
        if key not in read and key not in bare and key not in seen:
            faults.add(f"nothing reads ctx.{key}", path, "playbook.unused_name", key=True)
        seen.add(key)


def _reads_of(document: Document) -> Reads:
    texts = {value for path, value in walk(document.root) if path[:1] != ("workload",) and isinstance(value, str)}
    return merge(_reads(text) for text in texts if has_markers(text))


def _reads(text: str) -> Reads:
    try:
        return find_reads(sandbox.TEXT.parse(text))
    except (TemplateSyntaxError, ValueError, RecursionError):
        # Python code is no template, whatever it looks like
        return {}


def _code_may_read(value: Any) -> bool:
    """Whether Python code anywhere in `value` sees all of workload and ctx, or is not there to be looked at."""
    if isinstance(value, list):
        return any(_code_may_read(item) for item in value)
    if not isinstance(value, dict):
        return False
    if value.get("kind") == "python":
        code = value.get("code")
        if not isinstance(code, str) or _CONTEXT.search(code):
            return True
    return any(_code_may_read(item) for item in value.values())


def _set_in_ctx(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Path, str]]:
    """Each `ctx.key` below a `set`, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            if path[-1:] == ("set",) and key.startswith("ctx."):
                yield (*path, key), key.removeprefix("ctx.")
            yield from _set_in_ctx(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _set_in_ctx(item, (*path, index))
