"""Reports: each command counts once, under the fence it was claimed with, whatever else stands in the batch."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.limits import INLINE_BYTES

PAY = """
- {step: pay, tool: {kind: noop}, next: {arcs: [{step: after}]}}
- {step: after, tool: {kind: noop}}
"""


async def reclaimed(engine: Any) -> tuple[Any, Any]:
    """One command, claimed twice by one worker: its lease ran out between."""
    (first,) = await engine.claim()
    engine.seconds += 60
    await engine.log.expire(5, 10)
    (second,) = await engine.claim()
    assert second.fence > first.fence
    return first, second


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_two_reports_of_one_command_the_one_with_the_present_fence_counts(
    engine: Any, done: Any, order: tuple[int, int]
) -> None:
    engine.catalog.add("t/t", PAY)
    id = await engine.start()
    both = await reclaimed(engine)
    reports = [done(both[0], "old"), done(both[1], "new")]
    answer = await engine.report(*(reports[place] for place in order))
    assert [answer.results[place].status for place in order] == ["stale", "accepted"]
    (fact,) = [event for event in engine.log.executions[id].events if event.type == e.CALL_DONE]
    assert fact.payload["data"] == "new"
    assert engine.types(id).count(e.ISSUED) == 2, "what follows was decided twice"


async def test_of_two_reports_left_in_the_inbox_one_counts_too(engine: Any, done: Any, monkeypatch: Any) -> None:
    engine.catalog.add("t/t", PAY)
    id = await engine.start()
    first, second = await reclaimed(engine)
    monkeypatch.setattr("noetl_serverless.ledger.reporting.RACES", 0)
    answer = await engine.report(done(first, "old"), done(second, "new"))
    assert [result.status for result in answer.results] == ["stale", "accepted"]
    assert engine.types(id).count(e.CALL_DONE) == 1


async def test_the_leases_that_ran_out_are_told_to_the_next_holder(engine: Any) -> None:
    engine.catalog.add("t/t", PAY)
    await engine.start()
    first, second = await reclaimed(engine)
    assert first.lost is None
    (lost,) = second.lost
    assert (lost["worker"], lost["delivery"]) == ("w-1", 1)
    assert lost["lease_until"] - lost["claimed_at"] == 30_000


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ({"set": {"x": "y" * INLINE_BYTES}}, "set.x"),
        ({"extra": {"http": {"text": "y" * INLINE_BYTES}}}, "extra"),
        ({"meta": {"trace": "y" * INLINE_BYTES}}, "meta"),
        ({"data": 2**64}, "64 bits"),
        ({"data": {"a": ["x\0"]}}, "data.a[0]"),
        ({"status": "parked", "child": {"path": "t/t", "payload": {"x": "y" * INLINE_BYTES}}}, "child.payload"),
        ({"status": "deferred", "delay": -1.0}, "delay"),
        ({"status": "deferred", "delay": 1e300}, "delay"),
    ],
)
async def test_an_outcome_with_a_part_that_cannot_be_stored_fails_its_step_alone(
    engine: Any, done: Any, part: dict[str, Any], rule: str
) -> None:
    engine.catalog.add("t/t", PAY)
    ids = [await engine.start(), await engine.start()]
    bad, good = await engine.claim()
    answer = await engine.report(done(bad, **part), done(good, 1))
    assert [result.status for result in answer.results] == ["refused", "accepted"]
    assert rule in answer.results[0].detail
    failed = next(id for id in ids if id == bad.execution_id)
    assert engine.status(failed) == "FAILED"
    assert engine.log.executions[failed].events[-1].payload["error"]["code"] == "outcome.refused"
    assert engine.status(good.execution_id) == "RUNNING"


async def test_an_error_that_is_too_large_keeps_what_tells_most(engine: Any, done: Any) -> None:
    engine.catalog.add("t/t", PAY)
    id = await engine.start()
    (command,) = await engine.claim()
    error = {"kind": "tool", "code": "boom", "message": "m" * 50_000, "retryable": False, "trace": "t" * 50_000}
    await engine.report(done(command, status="error", error=error))
    kept = engine.log.executions[id].events[-1].payload["error"]
    assert (kept["code"], len(kept["message"]), kept["truncated"]) == ("boom", 2000, True)
