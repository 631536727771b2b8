"""What a join waits for."""

from __future__ import annotations

import pytest
from tests.unit.engine.run import Run

TWO_JOINS = """
- step: split
  tool: {kind: noop}
  next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: b}, {step: x}, {step: y}]}
- {step: a, tool: {kind: noop}, next: {arcs: [{step: ab}]}}
- {step: b, tool: {kind: noop}, next: {arcs: [{step: ab}]}}
- {step: x, tool: {kind: noop}, next: {arcs: [{step: xy}]}}
- {step: y, tool: {kind: noop}, next: {arcs: [{step: xy}]}}
- {step: ab, tool: {kind: noop}}
- {step: xy, tool: {kind: noop}}
"""


@pytest.mark.parametrize(("first", "second", "open_branch"), [("ab", "xy", "y"), ("xy", "ab", "b")])
def test_a_join_does_not_wait_for_another_that_cannot_reach_it(first: str, second: str, open_branch: str) -> None:
    run = Run(TWO_JOINS)
    run.done("split")
    run.done(second[0])
    for step in first:
        run.done(step)
    assert run.running == {first, open_branch}, "it waits for what the other join waits for"
    run.done(open_branch)
    assert run.running == {first, second}
