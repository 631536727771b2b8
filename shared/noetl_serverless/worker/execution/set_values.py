"""The values that rules set in ctx, prepared for an event: those that are too large go into the result store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...engine.variables import PREFIX
from ...limits import SET_BYTES, SET_REF_BYTES, SET_STORED_BYTES, SET_VALUE_BYTES
from ...protocol import ClaimedCommand
from ...results.offload import Output
from .domain import TooLarge, size_of
from .result_digest import result_digest
from .store_result import store_result
from .toolbox import Toolbox

# fields left empty in a reference that is too large: its value is then loaded when a part of it is needed
_WITHOUT_PREVIEW: Mapping[str, Any] = {"extracted": {}, "preview": None}


def check_sizes(sizes: Mapping[str, int], *, by_reference: bool) -> None:
    """`sizes`: of all that is set in ctx or as variables, by its key, in bytes of JSON. Raises TooLarge for what does
    not fit into one event: by reference or, if the release of the control plane knows no references, as it is."""
    if not by_reference:
        for name, size in sizes.items():
            _check_limit(f"'set.{name}' has", size, SET_VALUE_BYTES)
        _check_limit("'set' has", _object_size(sizes), SET_BYTES)
        return
    _check_limit("'set' has", _object_size(sizes), SET_STORED_BYTES)
    min_sizes = {name: _min_size(name, size) for name, size in sizes.items()}
    _check_limit("'set' has, with all that can be by reference,", _object_size(min_sizes), SET_BYTES)


async def store_set(values: Mapping[str, Any], command: ClaimedCommand, toolbox: Toolbox) -> dict[str, dict[str, Any]]:
    """`set` and `set_refs` of an outcome. Values above SET_VALUE_BYTES go by reference, and the largest of the others
    until all fit into an event. Raises StoreFailed when the store is unavailable for too long."""
    if not values:
        return {"set": {}, "set_refs": {}}
    sizes = {name: size_of(value) for name, value in values.items()}
    by_reference = _by_reference(sizes)
    refs: dict[str, Any] = {}
    for name in by_reference:
        stored = await store_result(values[name], command, toolbox, part=f"/set/{name}", output=Output(inline_bytes=0))
        if (ref := stored.get("ref")) is None:
            # a number is never stored: it is smaller than its reference
            continue
        if (digest := await result_digest(values[name])) is not None:
            ref["meta"]["digest"] = digest
        refs[name] = {**ref, **_WITHOUT_PREVIEW} if size_of(ref) > SET_REF_BYTES else ref
        # kept in memory for the next reader
        toolbox.resolver.put(ref, values[name])
    return {"set": {name: value for name, value in values.items() if name not in refs}, "set_refs": refs}


def _by_reference(sizes: Mapping[str, int]) -> list[str]:
    chosen = {name for name, size in sizes.items() if size > SET_VALUE_BYTES}
    event_sizes = {name: SET_REF_BYTES if name in chosen else size for name, size in sizes.items()}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if _object_size(event_sizes) <= SET_BYTES:
            break
        if sizes[name] > _min_size(name, sizes[name]):
            chosen.add(name)
            event_sizes[name] = SET_REF_BYTES
    return [name for name in sizes if name in chosen]


def _min_size(name: str, size: int) -> int:
    """The size that a value has in an event at least. That of a variable is never by reference."""
    return size if name.startswith(PREFIX) else min(size, SET_REF_BYTES)


def _object_size(sizes: Mapping[str, int]) -> int:
    """The size of an object of values of these sizes: each with its key, a colon and a comma, in braces."""
    return 1 + sum(size_of(name) + size + 2 for name, size in sizes.items())


def _check_limit(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"{what} {size} bytes of JSON; the limit is {limit}")
