"""Whether two values are the same in everything that a playbook could tell them apart by.

Equality of Python is not enough: it takes 1 for 1.0 and for true, and a mapping for one in another order. Equality of
JSON takes a tuple for a list.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from noetl_serverless.engine.state import SNAPSHOT, Command, Loop, State, Suspended, Token

# the version in which it neither notes nor names what it has met before: the same value always gives the same bytes
VERSION = 2
PARTS = (*SNAPSHOT, "workload")
_PARTS = {kind: attrgetter(*(field.name for field in fields(kind))) for kind in (Token, Command, Loop, Suspended)}


def exact(value: Any) -> bytes:
    """`value` as bytes: types, order and all. ValueError for what is no plain data, a subclass of text for example."""
    return marshal.dumps(value, VERSION)


def parts(state: State) -> dict[str, Any]:
    """A state as plain data, part by part."""
    return {name: _plain(getattr(state, name)) for name in PARTS}


def exactly(state: State) -> bytes:
    """ValueError if there is something in the state that is no plain data."""
    return marshal.dumps(parts(state), VERSION)


def same(one: State, other: State) -> bool:
    return exactly(one) == exactly(other)


def differing(one: State, other: State) -> str:
    """The parts of two states that are not the same, as Python writes them."""
    left, right = parts(one), parts(other)
    return "; ".join(f"{name}: {left[name]!r} / {right[name]!r}" for name in PARTS if _differs(left[name], right[name]))


def _differs(one: Any, other: Any) -> bool:
    try:
        return exact(one) != exact(other)
    except ValueError:
        return True


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        some = next(iter(value.values()), None)
        if (get := _PARTS.get(type(some))) is not None:
            return {key: get(item) for key, item in value.items()}
    return value
