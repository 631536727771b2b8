"""A frame over a cursor never loses a row that it has claimed, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.builders import FakeTool
from tests.unit.worker.conftest import Bench

from noetl_serverless.errors import NotFound, Unavailable
from noetl_serverless.playbook.plan import Cursor
from noetl_serverless.protocol import Frame
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolFailure, ToolOutcome
from noetl_serverless.worker.execution import cursor as module

FRAME = Frame(index=0, start=0, end=2, concurrency=1)
SERIALIZATION: dict[str, Any] = {
    "kind": "postgres",
    "code": "postgres.error",
    "message": "could not serialize",
    "retryable": True,
}
REFUSED: dict[str, Any] = {"kind": "postgres", "code": "postgres.error", "message": "no such table", "retryable": False}
BROKEN: dict[str, Any] = {
    "kind": "postgres",
    "code": "postgres.connection",
    "message": "the connection failed",
    "retryable": True,
}


class Table(FakeTool):
    """A table of rows that claims take `most` of. Faults by the number of the call, from 1: `claims` before anything is
    done, `commits` after the record, with what becomes of the transaction; `asks` when asked for the end of one."""

    def __init__(self, rows: list[Any], most: int = 2) -> None:
        super().__init__()
        self.free = list(rows)
        self.taken: list[Any] = []
        self.most = most
        self.ends: dict[int, str] = {}
        self.claims: dict[int, dict[str, Any]] = {}
        self.commits: dict[int, tuple[dict[str, Any], str]] = {}
        self.asks: dict[int, Exception] = {}
        self.claimed = self.asked = 0

    async def claim(self, call: ToolCall, context: ToolContext, record: Any, seconds: float) -> ToolOutcome:
        self.claimed += 1
        if error := self.claims.get(self.claimed):
            return ToolOutcome("error", error=dict(error))
        rows = self.free[: self.most]
        transaction = self.claimed
        self.ends[transaction] = "aborted"
        if rows:
            try:
                await record(rows, transaction)
            except ToolFailure as failure:
                return failure.outcome()
        error, end = self.commits.get(self.claimed, ({}, "committed"))
        self.ends[transaction] = end
        if end == "committed":
            self.free = self.free[len(rows) :]
            self.taken += rows
        return ToolOutcome("error", error=dict(error)) if error else make.ok({"rows": rows})

    async def claim_status(self, auth: str, context: ToolContext, transaction: int) -> str:
        self.asked += 1
        if error := self.asks.get(self.asked):
            raise error
        return self.ends[transaction]


def each(*rules: Any, best_effort: bool = False, **more: Any) -> Any:
    cursor = Cursor(
        **{
            "kind": "table",
            "auth": "wh",
            "claim": "UPDATE",
            "max_frames": 100,
            "max_rows": 2,
            "max_bytes": 1 << 20,
            "max_seconds": 30.0,
            "lease_seconds": None,
            "heartbeat_seconds": None,
            "concurrency": 1,
            "by_row": True,
            "retries_all": True,
            "max_attempts": 3,
            **more,
        }
    )
    loop = replace(make.loop(mode="parallel", best_effort=best_effort), cursor=cursor)
    return make.step(make.task("a", *rules, config={"x": "{{ item }}"}), loop=loop)


def echo() -> Any:
    return lambda call, context: make.ok(call.config["x"])


async def run(bench: Bench, step: Any, delivery: int = 1, attempt: int = 1, resume: Any = None) -> Any:
    return await bench.run(step, kind="frame", frame=FRAME, delivery=delivery, attempt=attempt, resume=resume)


async def to_its_end(bench: Bench, step: Any, outcome: Any, most: int = 200) -> tuple[Any, list[float]]:
    """Go on with the frame as often as it is suspended; also the delays."""
    delays: list[float] = []
    for attempt in range(2, most):
        if outcome.status != "deferred":
            return outcome, delays
        delays.append(outcome.delay)
        outcome = await run(bench, step, attempt=attempt, resume=outcome.resume)
    raise AssertionError(f"it never ends: {outcome}")


def table(bench: Bench, *rows: Any, tool: Any = None) -> Table:
    found = Table(list(rows or (1, 2)))
    bench.tools["table"] = found
    bench.tool("a", tool or echo())
    return found


async def test_a_claim_whose_error_may_pass_is_tried_again(bench: Bench) -> None:
    rows = table(bench)
    rows.claims = {1: SERIALIZATION, 2: SERIALIZATION, 3: BROKEN}
    outcome, delays = await to_its_end(bench, each(), await run(bench, each()))
    assert (outcome.status, outcome.data, delays) == ("done", [1, 2], [1.0, 2.0, 4.0])


async def test_it_is_not_tried_for_ever(bench: Bench) -> None:
    rows = table(bench)
    rows.claims = dict.fromkeys(range(1, 100), SERIALIZATION)
    outcome, _ = await to_its_end(bench, each(), await run(bench, each()))
    assert (outcome.status, outcome.error["message"]) == ("error", "could not serialize")
    assert (rows.claimed, outcome.frame.start, outcome.frame.end) == (module.CLAIM_TRIES, 0, 0)


async def test_one_that_is_refused_fails_at_once(bench: Bench) -> None:
    rows = table(bench)
    rows.claims = {1: REFUSED}
    outcome = await run(bench, each())
    assert (outcome.status, outcome.error["code"], rows.claimed) == ("error", "postgres.error", 1)


@pytest.mark.parametrize(("end", "claims"), [("committed", 1), ("aborted", 2)])
async def test_after_a_commit_without_an_answer_the_rows_are_run_once(bench: Bench, end: str, claims: int) -> None:
    rows = table(bench)
    rows.commits = {1: (BROKEN, end)}
    rows.asks = {1: ToolFailure(**BROKEN), 2: ToolFailure(**BROKEN)}
    outcome, delays = await to_its_end(bench, each(), await run(bench, each()))
    assert (outcome.status, outcome.data) == ("done", [1, 2]), "the claimed rows are lost"
    assert (rows.claimed, rows.taken, delays) == (claims, [1, 2], [1.0, 2.0])


async def test_a_worker_that_takes_over_waits_for_a_database_that_is_away(bench: Bench) -> None:
    rows = table(bench)
    await run(bench, each())
    rows.asks = {number: ToolFailure(**BROKEN) for number in range(1, 20)}
    outcome, delays = await to_its_end(bench, each(), await run(bench, each(), delivery=2))
    assert (outcome.status, outcome.data, rows.claimed) == ("done", [1, 2], 1)
    assert delays[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize("error", [Unavailable("away"), NotADirectoryError("away")])
async def test_it_waits_for_a_result_store_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rows = table(bench)
    await run(bench, each())
    get, left = bench.store.get, [error, error]

    async def away(key: str) -> bytes:
        if left and "claim" in key:
            raise left.pop()
        return await get(key)

    monkeypatch.setattr(bench.store, "get", away)
    outcome, delays = await to_its_end(bench, each(), await run(bench, each(), delivery=2))
    assert (outcome.status, outcome.data, rows.claimed, delays) == ("done", [1, 2], 1, [1.0, 2.0])


async def test_each_earlier_delivery_may_have_claimed_the_rows(bench: Bench) -> None:
    rows = table(bench)
    rows.commits = {1: (BROKEN, "aborted")}
    rows.asks = {1: ToolFailure(**BROKEN)}
    await run(bench, each())
    await run(bench, each(), delivery=2)
    rows.asks = {rows.asked + 1: ToolFailure(**BROKEN)}
    outcome, _ = await to_its_end(bench, each(), await run(bench, each(), delivery=3))
    assert (outcome.data, rows.taken) == ([1, 2], [1, 2])


async def test_when_the_end_of_a_claim_stays_unknown_the_loop_fails_with_that(bench: Bench) -> None:
    rows = table(bench)
    await run(bench, each())
    rows.asks = {number: ToolFailure(**BROKEN) for number in range(1, 100)}
    outcome, _ = await to_its_end(bench, each(), await run(bench, each(), delivery=2))
    assert (outcome.status, outcome.error["code"]) == ("error", "loop.claim_unknown")
    assert "may have been claimed" in outcome.error["message"] and "the connection failed" in outcome.error["message"]
    assert rows.asked == module.STATUS_TRIES


async def test_a_row_that_cannot_be_stored_is_named_and_not_claimed(bench: Bench) -> None:
    rows = table(bench, {"id": 1, "n": 5}, {"id": 2, "n": 10**30})
    outcome = await run(bench, each())
    assert outcome.status == "error"
    assert "rows[1].n" in outcome.error["message"], outcome.error
    assert rows.taken == []


async def test_a_slow_row_that_fails_is_processed_as_often_as_it_may(bench: Bench) -> None:
    calls: list[int] = []

    def fails(call: Any, context: Any) -> ToolOutcome:
        calls.append(call.config["x"])
        error = {"kind": "t", "code": "t.slow", "message": "no", "retryable": True}
        return ToolOutcome("error", error=error) if call.config["x"] == 1 else make.ok(call.config["x"])

    table(bench, tool=fails)
    # each command begins one row
    step = each(best_effort=True, max_seconds=-1.0)
    outcome, _ = await to_its_end(bench, step, await run(bench, step))
    assert (outcome.status, outcome.data, outcome.frame.failed) == ("done", [None, 2], 1)
    assert calls == [1, 2] * 3


@pytest.mark.parametrize("best_effort", [False, True])
async def test_a_row_that_failed_before_the_frame_was_suspended_is_processed_again(
    bench: Bench, best_effort: bool
) -> None:
    left = [1]

    def fails_once(call: Any, context: Any) -> ToolOutcome:
        if call.config["x"] == 1 and left:
            left.pop()
            return ToolOutcome("error", error={"kind": "t", "code": "t.x", "message": "no", "retryable": True})
        return make.ok(call.config["x"])

    table(bench, tool=fails_once)
    step = each(best_effort=best_effort, max_seconds=-1.0, retries_all=False)
    outcome, _ = await to_its_end(bench, step, await run(bench, step))
    assert (outcome.status, outcome.data) == ("done", [1, 2])


async def test_a_row_that_waits_is_waited_for_before_others_are_processed_again(bench: Bench) -> None:
    seen: list[int] = []

    def busy(call: Any, context: Any) -> ToolOutcome:
        seen.append(call.config["x"])
        code = "t.busy" if call.config["x"] == 2 else "t.down"
        done = seen.count(call.config["x"]) > 1
        error = {"kind": "t", "code": code, "message": "no", "retryable": True}
        return make.ok(call.config["x"]) if done else ToolOutcome("error", error=error)

    table(bench, tool=busy)
    later = make.rule("retry", "{{ output.error.code == 't.busy' }}", attempts=2, backoff="fixed", delay=3600)
    step = each(later, best_effort=True)
    outcome = await run(bench, step)
    assert (outcome.status, outcome.delay, seen) == ("deferred", 3600, [1, 2])
    outcome, _ = await to_its_end(bench, step, outcome)
    assert (outcome.status, outcome.data) == ("done", [1, 2])


async def test_a_frame_that_fails_as_nobody_expects_ends_its_loop(bench: Bench) -> None:
    rows = table(bench)

    async def odd(*_: Any) -> ToolOutcome:
        raise AttributeError("odd")

    rows.claim = odd  # type: ignore[assignment, method-assign]
    outcome = await run(bench, each(best_effort=True))
    assert (outcome.status, outcome.error["code"]) == ("error", "worker.internal")
    assert (outcome.frame.start, outcome.frame.end) == (0, 0), "its rows would be counted, and others claimed"


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_fails_no_claimed_row_is_lost_or_run_for_two(bench: Bench, seed: int) -> None:
    """Workers that end without a report, connections that break, a database and a store that are away."""
    chance = Random(seed)
    rows = table(bench, *range(chance.randint(0, 3)))
    for number in range(1, 40):
        roll = chance.random()
        if roll < 0.2:
            rows.claims[number] = chance.choice([SERIALIZATION, BROKEN])
        elif roll < 0.4:
            rows.commits[number] = (BROKEN, chance.choice(["committed", "aborted"]))
        if chance.random() < 0.3:
            rows.asks[number] = ToolFailure(**BROKEN)
    get = bench.store.get

    async def sometimes_away(key: str) -> bytes:
        if chance.random() < 0.2:
            raise Unavailable("away")
        return await get(key)

    bench.store.get = sometimes_away  # type: ignore[method-assign]
    step = each(max_seconds=chance.choice([-1.0, 30.0]))
    # one that is tried too often is not the matter here
    tries = {"CLAIM_TRIES": 1000, "STATUS_TRIES": 1000}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tries.items():
            patch.setattr(module, name, value)
        attempt, delivery, resume = 1, 1, None
        for _ in range(300):
            outcome = await run(bench, step, delivery, attempt, resume)
            if chance.random() < 0.3:
                # the worker is lost before it reports, or the same delivery is made once more
                delivery += chance.random() < 0.7
            elif outcome.status == "deferred":
                attempt, delivery, resume = attempt + 1, 1, outcome.resume
            else:
                break
    assert outcome.status == "done", outcome
    assert outcome.data == rows.taken, "rows are claimed that the loop knows nothing of"


CASES: tuple[Callable[[], Exception], ...] = (lambda: NotFound("gone"), lambda: ToolFailure("x", "x.y", "no"))


@pytest.mark.parametrize("failure", CASES)
async def test_an_error_that_stays_names_the_rows_that_it_may_have_cost(
    bench: Bench, failure: Callable[[], Exception]
) -> None:
    rows = table(bench)
    await run(bench, each())
    rows.asks = {1: failure()}
    outcome = await run(bench, each(), delivery=2)
    assert (outcome.status, outcome.error["code"]) == ("error", "loop.claim_unknown")
