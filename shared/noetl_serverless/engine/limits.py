"""What a decision may put into an event or a state: see `noetl_serverless.limits`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from .. import limits
from ..playbook.bounds import WorkMeter
from ..playbook.values import InvalidValue
from .variables import Variables, place_of, split, values_of


def size_of(value: Any) -> int:
    """The size of `value` in bytes of JSON."""
    try:
        return len(orjson.dumps(value))
    except TypeError:
        # integers beyond 64 bits, in a state that an older release has written
        return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


class DecisionTooLarge(Exception):
    """More follows from one fact than one commit may hold; `step` is where the limit was exceeded."""

    def __init__(self, what: str, step: str | None) -> None:
        super().__init__(
            f"more than {what} would follow from one event: the playbook has a cycle without a wait"
            " or starts too much at once"
        )
        self.step = step

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "routing", "code": "decision.too_large", "message": str(self), "retryable": False}


class DecisionSize:
    """How much follows from one fact: the events, the bytes that they set and carry, and the work of deciding them.
    Work is counted and not timed, so that every copy of a state reaches the same result."""

    __slots__ = ("_work", "bytes", "events", "meter")

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self._work = 0
        # the work of rendering
        self.meter = WorkMeter()

    def add_event(self, step: str | None) -> None:
        """Raises DecisionTooLarge."""
        self.events += 1
        if self.events > limits.DECISION_EVENTS:
            raise DecisionTooLarge(f"{limits.DECISION_EVENTS} events", step)
        self.add_work(1, step)

    def add_work(self, units: int, step: str | None) -> None:
        """Add units of about ten microseconds, in addition to those of the meter. Raises DecisionTooLarge."""
        self._work += units
        if self._work + self.meter.spent > limits.DECISION_WORK:
            raise DecisionTooLarge(f"{limits.DECISION_WORK} units of work", step)

    def add_bytes(self, size: int, step: str) -> None:
        """Raises DecisionTooLarge."""
        self.bytes += size
        if self.bytes > limits.DECISION_BYTES:
            raise DecisionTooLarge(f"{limits.DECISION_BYTES} bytes", step)


def check_set(ctx: Mapping[str, Any], values: Mapping[str, Any], variables: Variables | None = None) -> int:
    """Check `values` before they are set in `ctx`, or among the `variables`; returns their bytes. Raises InvalidValue.
    In ctx, a value by reference is represented by its reference."""
    if not values:
        return 0
    sizes = {name: size_of(value) for name, value in values.items()}
    for name, size in sizes.items():
        _check(place_of(name), size, limits.SET_VALUE_BYTES)
    total = sum(sizes.values())
    _check("what one step sets", total, limits.SET_BYTES)
    in_ctx, named = split(values)
    check_ctx({**ctx, **in_ctx})
    if named:
        check_variables({**values_of(variables or {}), **named})
    return total


def check_ctx(ctx: Mapping[str, Any]) -> None:
    """Raises InvalidValue."""
    # most are far below the limit and need not be serialized each time
    if len(ctx) > limits.CTX_BYTES // limits.SET_VALUE_BYTES:
        _check("ctx", size_of(ctx), limits.CTX_BYTES)


def check_variables(values: Mapping[str, Any]) -> None:
    """Raises InvalidValue. `values`: of all variables of the execution, by name."""
    if not values:
        return
    if len(values) > limits.VARIABLES:
        raise InvalidValue(f"the execution would have {len(values)} variables, more than {limits.VARIABLES}")
    longest = limits.VARIABLE_NAME_CHARACTERS
    if (name := next((name for name in values if len(name) > longest), None)) is not None:
        raise InvalidValue(f"the name of the variable {name[:20]!r}... has more than {longest} characters")
    if (size := size_of(values)) > limits.VARIABLES_BYTES:
        raise InvalidValue(f"all variables together would have {size} bytes, more than {limits.VARIABLES_BYTES}")


def check_scope(scope: Mapping[str, Any]) -> int:
    """Check what a command is to be issued with; returns its bytes. Raises InvalidValue."""
    size = size_of(scope)
    _check("what the step reads of ctx and of earlier steps", size, limits.SCOPE_BYTES)
    return size


def _check(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise InvalidValue(
            f"{what} would have {size} bytes, more than {limit}; return it from a step, and read it from there"
        )
