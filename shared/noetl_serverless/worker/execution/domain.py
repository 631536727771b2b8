"""All that a worker reports is in the domain of values (see playbook.values) and within its limits, or it is an error.

The result of a task is checked when the task ends, so that its rules see the error, and only that item of a loop fails.
Outcomes are checked once more before they are reported (`fit_outcome`); nothing may change or refuse them after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from ... import limits
from ...limits import RESULT_DEPTH, VALUE_DEPTH
from ...playbook.values import InvalidValue, as_read, stored
from ...protocol import Outcome
from ...tables.listed import has_table
from ...tables.value import tables_in, without_tables
from ...tools.encoding import NATIVE, convert
from .errors import step_error

# a value of more bytes of JSON takes milliseconds, and is converted in a thread
IN_LOOP_BYTES = 512 * 1024
_NEEDS_CONVERSION = object()
_SCALARS = frozenset({str, int, float, bool, type(None)})
# for the meta that a tool returns: the worker adds its own
TOOL_META_BYTES = limits.META_BYTES // 2

# the payload of a sub-playbook, and its name in error messages
CHILD_PAYLOAD = "child.payload"
DATA = "data"
DISPLAY_NAMES = {CHILD_PAYLOAD: "the payload of the sub-playbook", DATA: "the result"}

# the parts of an outcome that come neither from `to_domain` nor from the result store
PART_BYTES = {
    "error": limits.ERROR_BYTES,
    "extra": limits.EXTRA_BYTES,
    "set": limits.SET_BYTES,
    "set_refs": limits.SET_BYTES,
    "meta": limits.META_BYTES,
    "resume": limits.RESUME_BYTES,
}


# what the worker itself writes into the meta of every outcome: numbers and, added last, instants
MEASURED_META = frozenset({"attempt", "started_at", "ended_at", "duration_ms", "waited_ms", "delivery"})


class TooLarge(ValueError):
    """A part of an outcome that is larger than it may be."""


async def to_domain(value: Any, name: str, on_table: Callable[[], object] | None = None) -> Any:
    """`value`, of any size, as it is stored; raises InvalidValue, with a path that begins with `name`. Tables in it
    stay what they are; `on_table` is called if there are any."""
    content = _to_json(value)
    if content is not None and len(content) < IN_LOOP_BYTES:
        return _validated(value, content, name)
    value = await asyncio.to_thread(_validated, value, content, name)
    if content is None and on_table is not None and has_table(value):
        on_table()
    return value


def _validated(value: Any, content: bytes | None, name: str) -> Any:
    if content is not None and (converted := _from_json(value, content, RESULT_DEPTH)) is not _NEEDS_CONVERSION:
        return converted
    try:
        return stored(value, convert, RESULT_DEPTH)
    except InvalidValue as error:
        error.path.insert(0, name)
        raise


def _to_json(value: Any) -> bytes | None:
    """The value as JSON by orjson; None if it contains a type that orjson does not know, or writes differently."""
    try:
        return orjson.dumps(value, option=NATIVE)
    except TypeError:
        return None


def _from_json(value: Any, content: bytes, depth: int) -> Any:
    """What `stored` would make of `value`, but several times as fast; _NEEDS_CONVERSION where only `stored` decides."""
    parsed = orjson.loads(content)
    # NaN and the infinities are written as null
    if b"null" in content and parsed != value:
        return _NEEDS_CONVERSION
    return parsed if as_read(parsed, content, depth) else _NEEDS_CONVERSION


def size_of(value: Any) -> int:
    """The size in bytes of JSON; of a table, those of its columns."""
    try:
        return len(orjson.dumps(value))
    except TypeError:
        return len(orjson.dumps(without_tables(value))) + sum(table.file.size for _, table in tables_in(value))


def inline_rows(value: Any) -> Any:
    """The value that `set` assigns, with lists in the place of its tables if it is small enough for an event."""
    if type(value) in _SCALARS or _to_json(value) is not None or size_of(value) > limits.SET_VALUE_BYTES:
        return value
    return without_tables(value, list)


def check_size(value: Any, name: str, limit: int, setting: str | None = None) -> None:
    """Raises TooLarge for a value of more than `limit` bytes of JSON. `setting`: what in the playbook says so."""
    _check(size_of(value), name, limit, setting)


def _check(size: int, name: str, limit: int, setting: str | None = None) -> None:
    if size > limit:
        label = DISPLAY_NAMES.get(name, f"'{name}'")
        source = "" if setting is None else f", by {setting}"
        raise TooLarge(f"{label} has {size} bytes of JSON; the limit is {limit}{source}")


def value_error(error: InvalidValue | TooLarge, **fields: Any) -> dict[str, Any]:
    """`fields`: fields that say where the value comes from."""
    if isinstance(error, TooLarge):
        return step_error("value", "value.too_large", str(error), **fields)
    label = DISPLAY_NAMES.get(str(next(iter(error.path), "")), "the value")
    return step_error("value", "value.invalid", f"{label} cannot be stored: at {error}", **fields)


def fit_outcome(outcome: Outcome) -> None:
    """Bring the parts of an outcome into the domain; raises InvalidValue or TooLarge."""
    for name, limit in PART_BYTES.items():
        value = getattr(outcome, name)
        if not value or (name == "meta" and value.keys() <= MEASURED_META):
            continue
        setattr(outcome, name, _convert_part(value, name, limit))
    if outcome.child is not None:
        outcome.child.payload = _convert_part(outcome.child.payload, CHILD_PAYLOAD, limits.WORKLOAD_BYTES)
    if outcome.frame is not None and outcome.frame.errors:
        outcome.frame.errors = _convert_and_measure(outcome.frame.errors, "frame.errors")[0]
        for index, error in outcome.frame.errors.items():
            check_size(error, f"frame.errors.{index}", limits.ERROR_BYTES)


def _convert_part(value: Any, name: str, limit: int) -> Any:
    converted, size = _convert_and_measure(value, name)
    _check(size, name, limit)
    return converted


def _convert_and_measure(value: Any, name: str) -> tuple[Any, int]:
    """The value as it is stored, and its size in bytes of JSON."""
    content = _to_json(value)
    if content is not None and (converted := _from_json(value, content, VALUE_DEPTH)) is not _NEEDS_CONVERSION:
        return converted, len(content)
    try:
        converted = stored(value, convert)
        return converted, size_of(converted)
    except InvalidValue as error:
        error.path.insert(0, name)
        raise
