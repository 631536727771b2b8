"""A budget stops an execution before the command that would exceed it, and by the log alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, LOOP, WORKFLOWS, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.inspection.diff import diff
from noetl_serverless.prices import load

AGAIN = """
    - step: a
      tool: {kind: noop}
      set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
      next: {arcs: [{step: a, when: "{{ ctx.n < 9 }}"}]}
    """


def budget(**limits: float) -> dict[str, Any]:
    return {**limits, "prices": asdict(load())}


def exceeded(run: Any) -> dict[str, Any]:
    assert run.state.status == "failed"
    assert run.failure["code"] == "budget.exceeded"
    return run.state.error  # type: ignore[no-any-return]


def test_the_command_beyond_the_last_is_not_issued() -> None:
    run = Run(CHAIN, budget=budget(max_invocations=2))
    run.done("a", {"v": 1})
    run.done("b")
    assert exceeded(run)["step"] == "c"
    assert run.issued("c") == []
    assert run.types()[-1] == e.FAILED


def test_a_budget_that_is_kept_changes_nothing() -> None:
    run = Run(CHAIN, budget=budget(max_invocations=3, max_billed_seconds=1, max_cost_usd=1))
    for step in ("a", "b", "c"):
        run.done(step, {"v": 1}, meta={"duration_ms": 100})
    assert run.state.status == "completed"


def test_what_is_out_counts() -> None:
    run = Run(WORKFLOWS["diamond"], budget=budget(max_invocations=2))
    run.done("split")
    assert exceeded(run)["step"] == "right"


def test_a_loop_stops_in_its_midst() -> None:
    run = Run(LOOP, budget=budget(max_invocations=6))
    run.done("a")
    assert exceeded(run)["step"] == "each"
    assert len(run.issued("each")) == 5


def test_a_step_is_expected_to_take_what_it_took_before() -> None:
    run = Run(AGAIN, budget=budget(max_billed_seconds=1.0))
    run.done("a", meta={"duration_ms": 400})
    run.done("a", meta={"duration_ms": 400})
    assert exceeded(run)["message"].endswith("0.8 s are used, 0.4 s more are expected, 1 s is the limit")


def test_what_has_never_run_is_expected_to_take_nothing() -> None:
    run = Run(CHAIN, budget=budget(max_billed_seconds=1.0))
    run.done("a", {"v": 1}, meta={"duration_ms": 1000})
    assert run.running == {"b"}
    run.done("b", meta={"duration_ms": 1})
    assert exceeded(run)["step"] == "c"


def test_money_is_counted_by_the_prices_of_the_log() -> None:
    price = load().command(1000)
    run = Run(AGAIN, budget=budget(max_cost_usd=2.5 * price))
    run.done("a", meta={"duration_ms": 1000})
    run.done("a", meta={"duration_ms": 1000})
    assert exceeded(run)["step"] == "a"
    assert len(run.issued("a")) == 2


def test_a_command_that_comes_back_from_a_delay_counts_again() -> None:
    run = Run(CHAIN, budget=budget(max_invocations=1))
    run.report("a#1", e.CALL_DEFERRED, delay=1)
    (timer,) = run.state.timers
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": timer})
    assert exceeded(run)["step"] == "a"


@pytest.mark.parametrize("name", WORKFLOWS)
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_the_log_alone_decides(name: str, limit: int) -> None:
    run = play(Run(WORKFLOWS[name], budget=budget(max_invocations=limit)), limit)
    assert diff("7", run.log, run.plan, run.plan).empty


def test_a_version_with_a_smaller_budget_would_have_stopped() -> None:
    run = play(Run(CHAIN), 1, defer=0.0)
    other = replace(run.plan, hash="other")
    found = diff("7", run.log, run.plan, other, budget=budget(max_invocations=2))
    assert [step.step for step in found.removed] == ["c"]
    assert found.ending[1]["error"] == "budget.exceeded"


@pytest.mark.parametrize("meta", [{}, {"duration_ms": None}, {"duration_ms": "7"}, {"duration_ms": True}])
def test_a_report_that_does_not_say_how_long_it_took_is_billed_for_the_least_there_is(meta: Any) -> None:
    fine = replace(load(), granularity_ms=0.25)
    run = Run(CHAIN, budget={"max_cost_usd": 1.0, "prices": asdict(fine)})
    run.done("a", {"v": 1}, meta=meta)
    assert run.state.spent == {"a": (1, 0.25, fine.command(0))}


def test_a_delay_and_a_frame_are_spent_too() -> None:
    run = Run(LOOP, budget=budget(max_billed_seconds=9.0))
    run.report("a#1", e.CALL_DEFERRED, delay=1, meta={"duration_ms": 30})
    (timer,) = run.state.timers
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": timer})
    run.done("a", meta={"duration_ms": 70})
    run.frame("each#1.0", [1], meta={"duration_ms": 200})
    price = load()
    assert run.state.spent == {
        "a": (2, 100.0, price.command(30) + price.command(70)),
        "each": (1, 200.0, price.command(200)),
    }


def test_without_a_budget_nothing_is_counted() -> None:
    assert play(Run(LOOP), 1).state.spent == {}
