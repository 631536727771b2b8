"""Reports that the control plane fails at: the outcomes that are good are committed, in order and soon."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.eventually import eventually
from tests.integration.worker.conftest import WorkerHarness, own

from noetl_serverless.protocol import ReportRequest
from noetl_serverless.worker.orchestrator import MAX_REPORT_TRIES

SEVERAL = [f"c{number}" for number in range(8)]


async def together(harness: WorkerHarness, worker: Any, seconds: float = 60) -> dict[str, Any]:
    """A drain whose commands all end at once, and so are reported in one call."""
    gate = asyncio.Event()

    async def wait(n: Any) -> Any:
        await gate.wait()

    harness.tool.behave = wait
    drain = asyncio.create_task(worker.drain(seconds))
    await eventually(lambda: harness.tool.running == len(SEVERAL))
    gate.set()
    summary: dict[str, Any] = await drain
    return summary


def names(request: ReportRequest) -> list[str]:
    return [outcome.command_id for outcome in request.outcomes]


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_one_that_the_control_plane_stumbles_over_holds_up_no_others(harness: WorkerHarness, status: int) -> None:
    accepted: dict[str, float] = {}
    began = time.monotonic()

    def stumble(request: ReportRequest) -> int | None:
        if "c3" in names(request):
            return status
        accepted.update(dict.fromkeys(names(request), time.monotonic() - began))
        return None

    harness.plane.stumble = stumble
    await harness.send(*SEVERAL)
    summary = await together(harness, harness.worker(lease=1.5))

    assert harness.plane.done() == [name for name in SEVERAL if name != "c3"]
    assert max(accepted.values()) < 20, "the good ones waited for the bad one to be given up"
    assert (summary["done"], summary["unreported"], summary["more"]) == (7, 1, True)
    assert time.monotonic() - began < 40, "the bad one was tried for as long as there was time"
    # it is left to its lease: nobody says that it is held
    assert [key.command_id for key in harness.plane.heartbeats[-1].commands] in (["c3"], [])


async def test_none_of_an_execution_overtakes_another(harness: WorkerHarness) -> None:
    seen: list[list[str]] = []

    def stumble(request: ReportRequest) -> int | None:
        seen.append(names(request))
        if len(request.outcomes) > 1:
            return 500
        # each alone fails a few times more, and would let those behind it pass
        return 500 if seen.count(names(request)) < 4 else None

    harness.plane.stumble = stumble
    await harness.send(*SEVERAL, execution="7")
    summary = await together(harness, harness.worker())
    # the first that ended may have gone alone, before the others
    ended = max(seen, key=len)
    assert len(ended) > 2, "they never went together"
    assert [outcome.command_id for outcome in harness.plane.outcomes if outcome.command_id in ended] == ended
    assert summary["unreported"] == 0


async def test_while_the_control_plane_is_away_nothing_is_split(harness: WorkerHarness) -> None:
    seen: list[list[str]] = []

    def away(request: ReportRequest) -> int | None:
        seen.append(names(request))
        return 503 if len(seen) < 8 else None

    harness.plane.stumble = away
    await harness.send(*SEVERAL)
    summary = await together(harness, harness.worker())
    assert summary["done"] == 8
    assert len({tuple(batch) for batch in seen if len(batch) > 1}) == 1, f"it was asked for parts: {seen}"


async def test_one_that_makes_a_healthy_control_plane_busy_is_distinguished_from_an_outage(
    harness: WorkerHarness,
) -> None:
    harness.plane.stumble = lambda request: 503 if "c3" in names(request) else None
    await harness.send(*SEVERAL)
    summary = await together(harness, harness.worker(lease=1.5))
    assert harness.plane.done() == [name for name in SEVERAL if name != "c3"]
    assert summary["unreported"] == 1


async def test_what_is_not_answered_in_time_is_counted(harness: WorkerHarness) -> None:
    harness.plane.stumble = lambda request: 503
    await harness.send(*SEVERAL)
    summary = await together(harness, harness.worker(), seconds=3)
    assert (summary["done"], summary["unreported"], summary["more"]) == (0, 8, True)


async def test_what_was_under_way_at_the_end_is_counted(harness: WorkerHarness) -> None:
    harness.plane.hang.add("report")
    await harness.send(*SEVERAL)
    worker = harness.worker()
    drain = asyncio.create_task(together(harness, worker))
    await eventually(lambda: worker._drain is not None and len(worker._drain.reporter.unanswered) == len(SEVERAL))
    # the time is over, before the call is
    assert worker._drain is not None
    budget = worker._drain.budget
    budget._closes = budget._over = budget._end = 0.0
    worker._drain.slots.wake()
    summary = await drain
    assert (summary["done"], summary["unreported"], summary["more"]) == (0, 8, True)


async def test_an_outcome_of_an_earlier_hold_is_dropped_when_the_command_is_claimed_again(
    harness: WorkerHarness,
) -> None:
    away, again = True, asyncio.Event()
    seen: list[tuple[str, int]] = []

    def stumble(request: ReportRequest) -> int | None:
        seen.extend((outcome.command_id, outcome.fence) for outcome in request.outcomes)
        return 503 if away else None

    async def wait_the_second_time(n: Any) -> Any:
        if len(harness.tool.ran) > 1:
            await again.wait()

    harness.plane.stumble = stumble
    harness.tool.behave = wait_the_second_time
    await harness.send("a")
    worker = harness.worker()
    drain = asyncio.create_task(worker.drain(30))
    await eventually(lambda: len(seen) >= 3)
    # its lease runs out, and it comes back to the same worker, which is still trying
    del harness.plane.claimed[(own("a"), "a")]
    keys = harness.plane.add(harness.plane.command("a", own("a"), fence=2))
    await harness.notifier.publish("shared", keys)
    await eventually(lambda: len(harness.tool.ran) == 2)
    assert worker._drain is not None and worker._drain.reporter.unanswered == {}, (
        "what can only be stale still waits to be sent"
    )
    again.set()
    await eventually(lambda: ("a", 2) in seen)
    away = False
    summary = await drain

    assert ("a", 1) not in seen[seen.index(("a", 2)) :], f"what can only be stale was sent again: {seen}"
    assert [(outcome.command_id, outcome.fence) for outcome in harness.plane.outcomes] == [("a", 2)]
    assert (summary["done"], summary["unreported"]) == (1, 0)


async def test_what_a_doubtful_report_brought_is_asked_for(harness: WorkerHarness) -> None:
    """The report is carried out, but answered with a failure: what was claimed with it is ours."""
    plane = harness.plane
    plane.follow = lambda outcome: [plane.command("b", outcome.execution_id)] if outcome.command_id == "a" else []
    failures = MAX_REPORT_TRIES

    def carried_out(request: ReportRequest) -> int | None:
        nonlocal failures
        if not failures:
            return None
        if failures == MAX_REPORT_TRIES:
            plane._report(request.model_dump_json().encode())
        failures -= 1
        return 500

    plane.stumble = carried_out
    await harness.send("a")
    await harness.worker().drain(20)
    assert plane.done() == ["a", "b"]
