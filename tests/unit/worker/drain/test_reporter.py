from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from tests.eventually import in_few_turns
from tests.unit.worker.drain.fake_calls import FakeCalls

from noetl_serverless.errors import InvalidRequest, Problem, Unavailable
from noetl_serverless.protocol import Outcome
from noetl_serverless.worker.drain import reporter
from noetl_serverless.worker.drain.reporter import Reporter
from noetl_serverless.worker.drain.retry import Retry
from noetl_serverless.worker.drain.slots import Slots
from noetl_serverless.worker.drain.summary import Summary
from noetl_serverless.worker.execution.time_budget import TimeBudget


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_of_several_flushes_the_first_due_is_kept_though_it_is_due_at_once(
    loop: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[float] = []
    unused: Any = None

    async def wait() -> None:
        reports = Reporter(unused, unused, unused, unused, unused)
        clock = asyncio.get_running_loop().time
        monkeypatch.setattr(reports, "_flush", lambda: flushed.append(clock()))
        begun = clock()
        # uvloop gives no time for what is due by now
        for seconds in (30.0, 0.0, 0.0, 20.0):
            reports._flush_at(begun + seconds)
        await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(wait())
    assert len(flushed) == 1


def outcome(name: str, fence: int = 1, **more: Any) -> Outcome:
    return Outcome(execution_id=name, command_id="a", **{"fence": fence, "status": "done", **more})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a batch nor what is to be sent again becomes due during the test."""
    monkeypatch.setattr(reporter, "BATCH_SECONDS", 1000.0)
    monkeypatch.setattr(reporter, "Retry", partial(Retry, pause=30.0))


class Harness:
    def __init__(self, *script: Any) -> None:
        self.calls = FakeCalls(*script)
        self.budget = TimeBudget(60.0)
        self.summary = Summary()
        calls: Any = self.calls
        self.reporter = Reporter(calls, Slots(4, self.budget), self.budget, self.summary, self.accept)

    async def accept(self, commands: Any, plans: Any, sent: float) -> None:
        assert not commands


@pytest.mark.usefixtures("waits")
async def test_what_is_superseded_while_it_waits_to_be_sent_again_is_dropped() -> None:
    harness = Harness(Unavailable("away", answered=503), "accepted")
    harness.reporter.submit(outcome("7"))
    await in_few_turns(lambda: harness.calls.reports and not harness.reporter.tasks)
    harness.reporter.supersede(("7", "a"), 2)
    assert harness.reporter._to_resend == [], "what can only be stale waits to be sent again"
    harness.reporter.submit(outcome("7", fence=2))
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.fences == [[1], [2]]


@pytest.mark.usefixtures("waits")
async def test_what_waits_with_others_to_be_sent_again_stays_when_one_of_them_is_superseded() -> None:
    harness = Harness(asyncio.Event().wait, Unavailable("away", answered=503))
    for name in ("6", "7", "8"):
        harness.reporter.submit(outcome(name))
    harness.reporter._flush()
    await in_few_turns(lambda: harness.reporter._to_resend)
    assert harness.calls.fences == [[1], [1, 1]]
    harness.reporter.supersede(("7", "a"), 2)
    assert [[each.execution_id for each in batch.outcomes] for batch in harness.reporter._to_resend] == [["8"]]


@pytest.mark.usefixtures("waits")
async def test_what_is_superseded_before_it_was_sent_is_dropped() -> None:
    harness = Harness(asyncio.Event().wait)
    for name in ("6", "7", "8"):
        harness.reporter.submit(outcome(name))
    harness.reporter.supersede(("7", "a"), 2)
    assert list(harness.reporter.unanswered) == [("6", "a"), ("8", "a")], "it takes a slot from others"
    harness.reporter._flush()
    await in_few_turns(lambda: len(harness.calls.reports) == 2)
    assert harness.calls.executions == [["6"], ["8"]]


@pytest.mark.parametrize("fence", [1, 0])
@pytest.mark.usefixtures("waits")
async def test_a_lease_that_is_no_newer_supersedes_nothing(fence: int) -> None:
    harness = Harness("accepted")
    harness.reporter.submit(outcome("7"))
    harness.reporter.supersede(("7", "a"), fence)
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert (harness.calls.fences, harness.summary.done) == ([[1]], 1)


@pytest.mark.parametrize("problem", [Unavailable("away", answered=503), InvalidRequest("it cannot be read")])
@pytest.mark.usefixtures("waits")
async def test_what_is_superseded_during_a_report_that_fails_is_not_sent_again(problem: Problem) -> None:
    async def supersede() -> Problem:
        harness.reporter.supersede(("7", "a"), 2)
        return problem

    harness = Harness(supersede)
    harness.reporter.submit(outcome("7"))
    await in_few_turns(lambda: harness.calls.reports and not harness.reporter.tasks)
    assert len(harness.calls.reports) == 1, "what can only be stale was sent again"
    assert (harness.reporter._to_resend, harness.reporter.unanswered) == ([], {})


async def test_a_newer_outcome_waits_until_the_report_of_the_older_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "Retry", partial(Retry, pause=0.0))
    answered = asyncio.Event()

    async def wait() -> str:
        await answered.wait()
        return "stale"

    harness = Harness(Unavailable("away", answered=503), wait, "accepted")
    harness.reporter.submit(outcome("7"))
    await in_few_turns(lambda: len(harness.calls.reports) == 2)
    harness.reporter.submit(outcome("7", fence=2))
    harness.reporter._flush()
    for _ in range(10):
        await asyncio.sleep(0)
    assert harness.calls.fences == [[1], [1]], "outcomes of one execution are sent out of order"
    answered.set()
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert (harness.calls.fences, harness.summary.done) == ([[1], [1], [2]], 1)


async def test_an_error_that_is_refused_in_place_of_an_outcome_is_the_end_of_it() -> None:
    harness = Harness(*[InvalidRequest("it cannot be read")] * 5, "accepted")
    harness.reporter.submit(outcome("7"))
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.statuses == [["done"], ["error"]], "it is sent without end"
    assert (harness.summary.refused, harness.summary.failed) == (1, 0)


async def test_an_outcome_that_is_an_error_is_replaced_when_it_is_refused() -> None:
    harness = Harness(InvalidRequest("it cannot be read"), "accepted")
    harness.reporter.submit(outcome("7", status="error", error={"code": "boom", "message": "m"}))
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.statuses == [["error"], ["error"]]
    assert (harness.summary.refused, harness.summary.failed) == (0, 1)


async def test_a_release_that_is_refused_is_replaced_by_nothing() -> None:
    harness = Harness(InvalidRequest("it cannot be read"), "accepted")
    harness.reporter.submit(outcome("7", status="released"))
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert (harness.calls.statuses, harness.summary.refused) == ([["released"]], 1)


async def give_up(harness: Harness) -> None:
    """As a drain does at its end."""
    harness.reporter.give_up()
    tasks = list(harness.reporter.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    # what their ends have begun would have been sent by then
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.usefixtures("waits")
async def test_when_time_has_run_out_nothing_that_was_ready_is_sent() -> None:
    harness = Harness(asyncio.Event().wait)
    for name in ("7", "8"):
        harness.reporter.submit(outcome(name))
    await asyncio.sleep(0)
    assert harness.calls.fences == [[1]], "the second waits for others"
    await give_up(harness)
    assert len(harness.calls.reports) == 1, "it was reported after the end of the drain"
    assert (harness.reporter.tasks, harness.reporter.unanswered) == (set(), {})
    assert (harness.summary.unreported, harness.summary.more) == (2, True)


@pytest.mark.usefixtures("waits")
async def test_when_time_has_run_out_nothing_is_sent_again() -> None:
    harness = Harness(Unavailable("away", answered=503), asyncio.Event().wait)
    harness.reporter.submit(outcome("7"))
    await in_few_turns(lambda: harness.calls.reports and not harness.reporter.tasks)
    harness.reporter.submit(outcome("8"))
    await asyncio.sleep(0)
    (batch,) = harness.reporter._to_resend
    assert batch.retry is not None
    batch.retry.due = 0.0
    await give_up(harness)
    assert len(harness.calls.reports) == 2, "it was reported after the end of the drain"
    assert (harness.reporter.tasks, harness.summary.unreported) == (set(), 2)


@pytest.mark.usefixtures("waits")
async def test_when_time_has_run_out_no_timer_is_left() -> None:
    harness = Harness(Unavailable("away", answered=503))
    harness.reporter.submit(outcome("7"))
    await in_few_turns(lambda: harness.calls.reports and not harness.reporter.tasks)
    timer = harness.reporter._timer
    assert timer is not None and not timer.cancelled(), "it is sent again later"
    harness.reporter.give_up()
    assert timer.cancelled()


async def test_what_no_control_plane_understands_is_sent_nine_times_with_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporter, "FIRST_PAUSE_SECONDS", 0.01)
    times: list[float] = []

    async def refuse() -> Problem:
        times.append(asyncio.get_running_loop().time())
        return InvalidRequest("no")

    harness = Harness(refuse)
    # the release before does not know references
    harness.reporter.submit(outcome("7", set_refs={"x": {"$ref": "r"}}))
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.statuses == [["done"]] * 9 + [["error"]]
    assert all(later - earlier >= 0.01 for earlier, later in pairwise(times[:9])), "it is sent as fast as it is refused"


async def test_what_is_refused_with_set_by_is_sent_again_without_it() -> None:
    harness = Harness(InvalidRequest("set_by: Extra inputs are not permitted"), "accepted")
    # the release before, behind the same address, does not know who set what
    sent = outcome("7", set={"x": 1}, set_by={"x": 3})
    harness.reporter.submit(sent)
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.statuses == [["done"], ["done"]], "its item fails instead"
    assert (sent.set, sent.set_by) == ({"x": 1}, None)


async def test_what_is_refused_for_another_reason_than_set_by_is_replaced_with_an_error() -> None:
    harness = Harness(InvalidRequest("no"), InvalidRequest("no"), "accepted")
    harness.reporter.submit(outcome("7", set={"x": 1}, set_by={}))
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.statuses == [["done"], ["done"], ["error"]]


async def test_a_report_that_fails_in_a_way_nobody_thought_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for says, logged in (("accepted", False), (RuntimeError("odd"), True)):
        harness = Harness(says)
        harness.reporter.submit(outcome("7"))
        await in_few_turns(lambda harness=harness: not harness.reporter.tasks)  # type: ignore[misc]
        assert ("reporting failed" in caplog.text) is logged
    assert harness.reporter.unanswered == {}, "its lease expires"


async def test_what_was_in_doubt_is_so_after_a_refusal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(reporter, "Retry", partial(Retry, pause=0.0))
    harness = Harness(Unavailable("away", answered=503, doubtful=True), InvalidRequest("no"), "accepted")
    # the release before does not know references
    harness.reporter.submit(outcome("7", set_refs={"x": {"$ref": "r"}}))
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.statuses == [["done"]] * 3
    assert harness.calls.recoveries == 1, "the command that followed came with the answer that was lost"


async def test_what_was_in_doubt_is_so_in_smaller_reports_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "BATCH_SECONDS", 0.0)
    gate = asyncio.Event()

    async def first() -> str:
        await gate.wait()
        return "accepted"

    harness = Harness(first, Unavailable("it broke", answered=500, doubtful=True), "accepted")
    harness.reporter.submit(outcome("1"))
    await in_few_turns(lambda: harness.calls.reports)
    for name in ("2", "3"):
        harness.reporter.submit(outcome(name))
    gate.set()
    await in_few_turns(lambda: not harness.reporter.unanswered)
    assert harness.calls.executions == [["1"], ["2", "3"], ["2"], ["3"]]
    assert harness.calls.recoveries == 1
