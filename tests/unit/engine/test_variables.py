"""Variables of an execution: who sets and reads them, when they expire, and that a replay sees the same."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.engine.run import Run

from noetl_serverless import limits
from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import reason_to_ignore
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import FIRST_VERSION, NEWER_VERSION

CHAIN = """
    - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
    - {step: b, tool: {kind: python, input: {x: "{{ vars.x }}"}, code: "result = x"}}
    """
ROUTED = """
    - step: a
      tool: {kind: noop}
      set: {vars.total: "{{ output.data.n }}"}
      next:
        arcs:
          - {step: high, when: "{{ vars.total > 5 }}", set: {vars.path: high, ctx.seen: "{{ vars.total }}"}}
          - {step: low}
    - {step: high, tool: {kind: noop}}
    - {step: low, tool: {kind: noop}}
    """


def set_variables(run: Run, type: str = "user_defined", **variables: Any) -> list[Event]:
    return run.fact(e.VARIABLES_SET, payload={"variables": variables, "type": type})


def set_until(run: Run, expires_at: int, **variables: Any) -> None:
    payload = {"variables": variables, "type": "user_defined", "expires_at": expires_at}
    run.fact(e.VARIABLES_SET, payload=payload)


def values(run: Run) -> dict[str, Any]:
    return {name: variable.value for name, variable in run.state.variables.items()}


def scope_of(run: Run, command: str) -> dict[str, Any]:
    issued = next(event for event in run.log if event.type == e.ISSUED and event.command_id == command)
    scope: dict[str, Any] = issued.payload["scope"]
    return scope


def test_what_users_set_is_what_later_steps_are_given_and_only_what_they_read() -> None:
    run = Run(CHAIN)
    assert set_variables(run, x=[1, 2], other="unread") == [], "something followed"
    run.done("a")
    assert scope_of(run, "b#1")["vars"] == {"x": [1, 2]}


def test_steps_that_read_no_variables_are_given_none() -> None:
    run = Run("- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n")
    set_variables(run, x=1)
    run.done("a")
    assert scope_of(run, "b#1") == {"ctx": {}, "steps": {}}


def test_steps_and_arcs_set_and_read_them_at_once() -> None:
    run = Run(ROUTED)
    run.done("a", data={"n": 7})
    assert run.running == {"high"}
    assert values(run) == {"total": 7, "path": "high"}
    assert run.state.ctx == {"seen": 7}, "a variable went into ctx"
    total = run.state.variables["total"]
    assert (total.type, total.source_step, total.created_at) == ("step_result", "a", run.now)


def test_setting_again_replaces_value_type_and_expiry_but_not_when_it_was_created() -> None:
    run = Run(ROUTED)
    set_until(run, run.now + 60_000, total="before")
    created_at = run.now
    run.done("a", data={"n": 1})
    total = run.state.variables["total"]
    assert (total.value, total.type, total.expires_at, total.created_at) == (1, "step_result", None, created_at)


MISSING = "- {step: a, tool: {kind: noop}, set: {ctx.y: '{{ vars.y }}'}}\n"
ASKED = "- {step: a, tool: {kind: noop}, set: {ctx.y: '{{ vars.y | default(3) }}', ctx.z: '{{ vars.z is defined }}'}}\n"


def test_a_missing_one_fails_as_any_other_name_and_can_be_asked_about() -> None:
    run = Run(MISSING)
    run.done("a")
    assert (run.failure["code"], run.failure["name"]) == ("template.error", "y")
    run = Run(ASKED)
    run.done("a")
    assert run.state.ctx == {"y": 3, "z": False}


def test_what_else_is_named_vars_hides_them() -> None:
    text = """
        - {step: a, tool: {kind: noop}, set: {ctx.seen: "{{ vars.x }}", vars.x: 2}}
        """
    run = Run(text, "workload: {vars: {x: 1}}\n")
    run.done("a")
    assert run.state.ctx == {"seen": 1}


def test_tasks_set_them_beside_ctx() -> None:
    run = Run("- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n")
    run.done("a", set={"vars.n": 4, "n": 5})
    assert (values(run), run.state.ctx) == ({"n": 4}, {"n": 5})


def test_of_the_items_of_a_parallel_loop_the_last_one_wins() -> None:
    text = """
        - step: a
          loop: {in: [1, 2, 3], iterator: it, spec: {mode: parallel, max_in_flight: 3}}
          tool: {kind: noop}
        """
    run = Run(text)
    for index in (2, 0, 1):
        run.frame(f"a#1.{index}", [index], set={"vars.last": index}, set_by={"vars.last": index})
    assert values(run) == {"last": 2}


@pytest.mark.parametrize(
    ("mode", "expected"), [("parallel", [{}, {}]), ("sequential", [{"x": 1}, {"x": 2}])], ids=["parallel", "sequential"]
)
def test_items_of_a_loop_see_them_as_they_see_ctx(mode: str, expected: list[Any]) -> None:
    """In parallel, all see what was there when the loop was opened; one after another, what is there by then."""
    text = f"""
        - {{step: z, tool: {{kind: noop}}, next: {{arcs: [{{step: a}}]}}}}
        - step: a
          loop:
            in: [1, 2]
            iterator: it
            spec: {{mode: {mode}, policy: {{exec: distributed}}{", max_in_flight: 1" if mode == "parallel" else ""}}}
          tool: {{kind: noop, input: {{x: "{{{{ vars.x }}}}"}}}}
        """
    run = Run(text)
    set_variables(run, x=1)
    run.done("z")
    set_variables(run, x=2)
    run.frame("a#1.0", [None])
    opened = next(event for event in run.log if event.type == e.LOOP_OPENED)
    assert opened.payload["scope"].get("vars", {}) == ({"x": 1} if mode == "parallel" else {})
    assert [scope_of(run, f"a#1.{index}").get("vars", {}) for index in (0, 1)] == expected


class TestExpiry:
    def test_it_is_gone_with_the_first_event_that_is_not_earlier(self) -> None:
        run = Run(CHAIN)
        set_until(run, run.now + 1000, x=1)
        run.now += 997
        set_variables(run, other=1)
        assert values(run) == {"x": 1, "other": 1}, "it expired too early"
        run.done("a")
        assert values(run) == {"other": 1}
        assert "vars" not in scope_of(run, "b#1")

    def test_it_stands_still_during_a_pause(self) -> None:
        run = Run(CHAIN)
        set_until(run, run.now + 1000, x=1)
        run.now += 500
        run.fact(e.PAUSED, payload={})
        run.now += 10_000
        set_until(run, run.now + 1000, during=1)
        run.done("a")
        assert values(run).keys() == {"x", "during"}
        run.now += 300
        run.fact(e.RESUMED, payload={})
        assert values(run).keys() == {"x", "during"}
        left = {name: it.expires_at - run.now for name, it in run.state.variables.items() if it.expires_at}
        assert 490 < left["x"] <= 501
        assert left["during"] == 999, "of one set during the pause, the time since then does not count"

    def test_what_ends_during_a_pause_leaves_them_as_if_it_had_gone_on(self) -> None:
        run = Run(CHAIN)
        set_until(run, run.now + 1000, x=1)
        run.fact(e.PAUSED, payload={})
        paused_at = run.now
        run.now += 5000
        run.fact(e.CANCELLED, payload={})
        x = run.state.variables["x"]
        assert x.expires_at == run.now + (x.set_at + 999 - paused_at)

    def test_one_that_is_set_again_without_an_expiry_stays(self) -> None:
        run = Run(CHAIN)
        set_until(run, run.now + 1000, x=1)
        set_variables(run, x=2)
        run.now += 2000
        run.done("a")
        assert values(run) == {"x": 2}


def test_deleting_names_that_are_not_there_changes_nothing() -> None:
    run = Run(CHAIN)
    set_variables(run, x=1, y=2)
    gone = Event(e.VARIABLES_DELETED, run.now, payload={"names": ["z"]})
    assert reason_to_ignore(run.state, gone) == "there are no such variables"
    run.fact(e.VARIABLES_DELETED, payload={"names": ["x", "z"]})
    assert values(run) == {"y": 2}


def test_a_request_with_an_id_that_came_before_is_ignored() -> None:
    run = Run(CHAIN)
    payload = {"variables": {"x": 1}, "type": "user_defined", "id": "k"}
    run.fact(e.VARIABLES_SET, payload=payload)
    assert reason_to_ignore(run.state, Event(e.VARIABLES_SET, run.now, payload=payload)) is not None


def test_they_are_kept_when_it_has_ended_and_set_no_more() -> None:
    run = Run(CHAIN)
    set_variables(run, x=1)
    run.done("a")
    run.done("b")
    assert run.state.status == "completed"
    set_variables(run, x=2)
    assert values(run) == {"x": 1}


def test_their_state_is_one_that_the_release_before_refuses() -> None:
    run = Run(CHAIN)
    assert run.state.version == FIRST_VERSION
    set_variables(run, x=1)
    assert run.state.version == NEWER_VERSION


def test_what_steps_set_is_in_the_digest_and_what_users_set_only_by_what_it_led_to() -> None:
    def digest_with(n: int, other: Any = None) -> str:
        run = Run(ROUTED)
        if other is not None:
            set_variables(run, other=other)
        run.done("a", data={"n": n})
        return digest("7", run.log).value

    assert digest_with(1) == digest_with(1, other="x")
    assert digest_with(1) != digest_with(2)


class TestLimits:
    def test_a_value_that_is_too_large_fails_the_step_with_its_name(self) -> None:
        run = Run(
            "- {step: a, tool: {kind: noop}, set: {vars.big: '{{ workload.big * 70000 }}'}}\n", "workload: {big: x}\n"
        )
        run.done("a")
        assert run.failure["code"] == "value.invalid"
        assert "vars.big would have 70002 bytes" in run.failure["message"]

    @pytest.mark.parametrize("by", ["step", "task"])
    def test_so_does_one_too_many(self, by: str) -> None:
        run = Run(
            "- {step: a, tool: {kind: noop}, set: {vars.more: 1}}\n"
            if by == "step"
            else "- {step: a, tool: {kind: noop}}\n"
        )
        run.fact(
            e.VARIABLES_SET, payload={"variables": {f"v{n}": n for n in range(limits.VARIABLES)}, "type": "computed"}
        )
        run.done("a", **({} if by == "step" else {"set": {"vars.more": 1}}))
        assert run.failure["code"] == "value.invalid"
        assert f"{limits.VARIABLES + 1} variables, more than {limits.VARIABLES}" in run.failure["message"]

    def test_all_together_are_bounded(self) -> None:
        run = Run(
            "- {step: a, tool: {kind: noop}, set: {vars.more: '{{ workload.big * 60000 }}'}}\n", "workload: {big: x}\n"
        )
        set_variables(run, **{f"v{n}": "x" * 60_000 for n in range(4)})
        run.done("a")
        assert "all variables together" in run.failure["message"]
