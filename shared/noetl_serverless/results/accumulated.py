"""What a task has accumulated, in parts: the form in which it is stored, and how it is read.

A manifest names the parts, in order. Those of level 0 are values: consecutive items of a list, a table with some of its
rows, or a part of an object, whose keys later parts may replace. Those of a higher level are lists of parts, so that
neither a manifest nor such a list grows with the number of parts. `rest` is what is not worth an object yet.

    {kind, ref, strategy, merge_path, parts: [{ref, index, count, bytes, level}], rest?, count?, total_parts,
     total_bytes, meta}

A result in which there is such a value is an object with the rest of its fields and the manifests: {"rest",
"collected"}. Its reference has the manifests, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from ..playbook.views import ACCUMULATED, COLLECTED, REST_ONLY
from ..tables.media_types import MANIFEST_WITH_TABLES
from ..tables.table import Table
from ..uri import ResultUri
from .files import ResultFiles

MANIFEST_TYPE: Final = "application/vnd.noetl.manifest+json"
# both forms of the object that names the parts
MANIFEST_TYPES: Final = frozenset({MANIFEST_TYPE, MANIFEST_WITH_TABLES})
MERGE: Final = "merge"

Load = Callable[[dict[str, Any]], Awaitable[Any]]


def is_accumulated(ref: Mapping[str, Any]) -> bool:
    return ref.get("kind") == ACCUMULATED


def base_of(ref: Mapping[str, Any]) -> dict[str, Any]:
    """The reference to the object itself."""
    return {name: part for name, part in ref.items() if name not in (COLLECTED, REST_ONLY)}


async def leaves(
    owner: str, load: Load, parts: Sequence[Mapping[str, Any]], start: int = 0, end: int | None = None
) -> AsyncIterator[tuple[int, Any]]:
    """The values that have items from `start` to `end`, each with the index of its first item. `owner`: the execution
    that they belong to."""
    for part in parts:
        if end is not None and part["index"] >= end:
            return
        if part["index"] + part["count"] <= start:
            continue
        if not part["ref"]["key"].startswith(f"{owner}/"):
            raise ValueError(f"{part['ref']['key']} is no part of execution {owner}")
        value = await load(part["ref"])
        if part["level"]:
            async for leaf in leaves(owner, load, value, start, end):
                yield leaf
        else:
            yield part["index"], value


async def parts_of(manifest: Mapping[str, Any], load: Load) -> AsyncIterator[Any]:
    """The values of all parts in order, and the rest: lists and tables, or objects where these are merged."""
    kinds = dict if manifest["strategy"] == MERGE else list | Table
    async for _, value in leaves(_owner(manifest), load, manifest["parts"]):
        if not isinstance(value, kinds):
            raise TypeError(f"a part of what '{manifest['strategy']}' joins is of type {type(value).__name__}")
        yield value
    if rest := manifest.get("rest"):
        yield rest


async def whole(manifest: Mapping[str, Any], parts: AsyncIterator[Any], files: ResultFiles) -> Any:
    """The value: a list, an object, or a table where all parts are tables with the same columns."""
    if manifest["strategy"] != MERGE:
        from .joined import joined

        return await joined(parts, files)
    merged: dict[str, Any] = {}
    async for part in parts:
        merged.update(part)
    return merged


async def items(manifest: Mapping[str, Any], load: Load, start: int, end: int) -> list[Any]:
    """The items of a list from `start` to `end`; no other parts are loaded."""
    found: list[Any] = []
    async for index, part in leaves(_owner(manifest), load, manifest["parts"], start, end):
        found += part[max(0, start - index) : end - index]
    rest = manifest.get("rest") or []
    index = manifest["count"] - len(rest)
    return found + rest[max(0, start - index) : max(0, end - index)]


def _owner(manifest: Mapping[str, Any]) -> str:
    return ResultUri.parse(manifest["ref"]).execution_id
