"""Whether two values are the same in everything that a playbook could tell them apart by.

Equality of Python is not enough: it takes 1 for 1.0 and for true, and a mapping for one in another order. Equality of
JSON takes a tuple for a list.
"""

from __future__ import annotations

import marshal
from dataclasses import fields
from operator import attrgetter
from typing import Any

from noetl_serverless.engine.state import (
    Command,
    Compensable,
    Compensating,
    Cursor,
    Loop,
    Paused,
    Signal,
    State,
    Suspended,
    Token,
    Wait,
)

# the version in which it neither notes nor names what it has met before: the same value always gives the same bytes
VERSION = 2
# of a state: what is plain data as it is, and what holds dataclasses, with the way to take these apart
HOLDERS = {
    name: attrgetter(*(field.name for field in fields(kind)))
    for name, kind in (
        ("tokens", Token),
        ("commands", Command),
        ("loops", Loop),
        ("cursors", Cursor),
        ("timers", Suspended),
        ("children", Suspended),
        ("waits", Wait),
        # these two in a row, and the others alone, if at all
        ("signals", Signal),
        ("compensable", Compensable),
        ("paused", Paused),
        ("compensating", Compensating),
    )
}
PLAIN = tuple(field.name for field in fields(State) if field.name not in HOLDERS)
_plain = attrgetter(*PLAIN)


def exact(value: Any) -> bytes:
    """`value` as bytes: types, order and all. ValueError for what is no plain data, a subclass of text for example."""
    return marshal.dumps(value, VERSION)


def parts(state: State) -> dict[str, Any]:
    """A state as plain data, part by part."""
    return {**dict(zip(PLAIN, _plain(state), strict=True)), **{name: _held(state, name) for name in HOLDERS}}


def exactly(state: State) -> bytes:
    """ValueError if there is something in the state that is no plain data."""
    return marshal.dumps((_plain(state), *[_held(state, name) for name in HOLDERS]), VERSION)


def _held(state: State, name: str) -> list[Any]:
    held = getattr(state, name)
    if not held:
        return []
    take_apart = HOLDERS[name]
    if isinstance(held, dict):
        return [(key, take_apart(item)) for key, item in held.items()]
    return [take_apart(item) for item in (held if isinstance(held, tuple) else (held,))]


def same(one: State, other: State) -> bool:
    return exactly(one) == exactly(other)


def differing(one: State, other: State) -> str:
    """The parts of two states that are not the same, as Python writes them."""
    left, right = parts(one), parts(other)
    return "; ".join(f"{name}: {left[name]!r} / {right[name]!r}" for name in left if _differs(left[name], right[name]))


def _differs(one: Any, other: Any) -> bool:
    try:
        return exact(one) != exact(other)
    except ValueError:
        return True
