from __future__ import annotations

from dataclasses import fields
from typing import Any

from noetl_serverless.engine.state import Command, State, Token


def full() -> State:
    """A state in which no field has its default."""
    given: dict[str, Any] = {}
    for each in fields(State):
        kind = str(each.type)
        if kind.startswith(("dict[str, Any] |", "Mapping")):
            given[each.name] = {"k": 1}
        elif kind.startswith("dict"):
            given[each.name] = {"a": ["b"]}
        else:
            given[each.name] = 7 if kind == "int" else "running"
    return State(**given)


def test_a_copy_has_every_field() -> None:
    state, default = full(), State("7")
    left = [each.name for each in fields(State) if getattr(state, each.name) == getattr(default, each.name, None)]
    assert not left, f"the test gives no value of their own to {left}"
    assert state.copy() == state


def test_a_change_of_a_copy_is_none_of_the_state() -> None:
    state, same = full(), full()
    after = state.copy()
    after.ctx["new"] = 1
    after.tokens["a#1"] = Token("a", 1, "running")
    after.waiting["a"].append("c")
    after.commands["a#1@1"] = Command("a#1", "step", 1)
    for name in ("generations", "outcomes", "loops", "timers", "children", "spent"):
        getattr(after, name).clear()
    assert state == same
