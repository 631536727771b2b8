"""Calls of tools of the catalog: `tool: {kind: tool, path: tools/geocode, version: 2, input: {...}}`.

A call is resolved when its playbook is registered: the text of the definition becomes a part of the playbook's text,
as a script does. So a later version of the tool changes nothing, and what runs or is replayed is complete in itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ConfigDict, Field

from .grammar import CATALOG_TOOL
from .model import CatalogPath
from .part import Name, Part
from .task_places import tasks_of
from .template import has_markers

KIND: Final = CATALOG_TOOL
# the code of the fault of a call whose definition is not known yet
TOOL_MISSING: Final = "playbook.tool_missing"
# no script has a location that begins like this
_SCHEME: Final = "catalog:"


class ToolCall(Part):
    """A tool of the catalog. It is resolved when the playbook is registered: a later version of it changes nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    path: CatalogPath = Field(description="Path of the tool in the catalog.")
    version: int | None = Field(
        None,
        ge=1,
        lt=1 << 31,
        description="Version of the tool. Default: the newest when the playbook is registered.",
    )
    credentials: dict[Name, str] = Field(
        {},
        description="Names of stored credentials, or templates that give them, for those that the tool needs. Default: "
        "those that the tool names.",
    )


def calls_of(root: Any) -> Iterator[tuple[tuple[str | int, ...], ToolCall]]:
    """The valid calls of a playbook's document, each with its place."""
    for path, tool in tasks_of(root):
        if tool.get("kind") == KIND and isinstance(tool.get("path"), str) and not has_markers(tool["path"]):
            try:
                yield path, ToolCall.model_validate({key: tool[key] for key in ("path", "version") if key in tool})
            except ValueError:
                # the compiler reports it
                continue


def location(path: str, version: int) -> str:
    """Of a definition among the parts of a playbook's text."""
    return f"{_SCHEME}{path}@{version}"


def newest(path: str) -> str:
    """The location of the number of the version that was the newest."""
    return f"{_SCHEME}{path}"


def is_definition(place: str) -> bool:
    return place.startswith(_SCHEME)


def found(call: ToolCall, parts: Mapping[str, str]) -> tuple[int, str] | None:
    """The version that a call means and the text of its definition, if the parts of the playbook's text have them."""
    version = call.version
    if version is None:
        written = parts.get(newest(call.path), "")
        version = int(written) if written.isdecimal() else None
    text = None if version is None else parts.get(location(call.path, version))
    return None if version is None or text is None else (version, text)


def parts_of(call: ToolCall, version: int, text: str) -> dict[str, str]:
    """What a call adds to its playbook's text."""
    pin = {newest(call.path): str(version)} if call.version is None else {}
    return {**pin, location(call.path, version): text}
