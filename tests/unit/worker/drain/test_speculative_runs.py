"""What becomes of the reports of steps that were run speculatively."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.eventually import eventually
from tests.unit.worker.drain.fake_calls import FakeCalls
from tests.unit.worker.drain.pipelined import CHAIN, begun, claimed

from noetl_serverless.errors import AccessDenied, InvalidRequest, Problem, Unavailable
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.ports import StoredObject
from noetl_serverless.protocol import ClaimedCommand, Outcome, ReportResponse, ReportResult
from noetl_serverless.results.unfinished import UnfinishedWrites
from noetl_serverless.settings import Settings
from noetl_serverless.telemetry.presence import Presence, described
from noetl_serverless.worker.drain import retry, speculative_runs
from noetl_serverless.worker.drain.context import WorkerContext
from noetl_serverless.worker.drain.keys import key_of
from noetl_serverless.worker.drain.running import Running
from noetl_serverless.worker.drain.slots import Slots
from noetl_serverless.worker.drain.speculative_runs import SpeculativeRuns
from noetl_serverless.worker.drain.summary import Summary
from noetl_serverless.worker.execution.background_write import BackgroundWrite
from noetl_serverless.worker.execution.executor import released
from noetl_serverless.worker.execution.lease import Lease
from noetl_serverless.worker.execution.time_budget import TimeBudget

# the control plane decides what follows from it
LARGE = {"n": "x" * 70_000}


def outcome_of(command: ClaimedCommand, data: Any) -> Outcome:
    names = {"execution_id": command.execution_id, "command_id": command.command_id}
    return Outcome(**names, fence=command.fence, status="done", data=data)


class Harness:
    def __init__(self, *script: Any) -> None:
        plan, state, issued = begun(CHAIN)
        self.command = claimed(plan, state, issued)
        self.calls = FakeCalls(*script)
        self.budget = TimeBudget(60.0)
        self.slots = Slots(4, self.budget)
        self.summary = Summary()
        self.submitted: list[Outcome] = []
        self.abandoned: list[Running] = []
        self.started: list[ClaimedCommand] = []
        self.accepted: list[ClaimedCommand] = []
        self.lease = Lease(asyncio.get_running_loop().time() + 30.0)
        unused: Any = None
        calls: Any = self.calls
        reporter: Any = self
        context = WorkerContext(
            worker_id="w-1",
            settings=Settings(),
            orchestrator=unused,
            notifier=unused,
            plans=Plans(plan),  # type: ignore[arg-type]
            execute=unused,
            unfinished=UnfinishedWrites(),
            clock=lambda: 5,
            presence=Presence(described("worker_pool", "w-1", meta={})),
        )
        self.runs = SpeculativeRuns(
            context,
            calls,
            self.slots,
            reporter,
            budget=self.budget,
            summary=self.summary,
            start=self.start,
            abandon=self.abandoned.append,
            accept=self.accept,
        )
        self.runs.begin(self.command, self.lease)

    def submit(self, outcome: Outcome) -> None:
        self.submitted.append(outcome)

    def start(self, command: ClaimedCommand, lease: Lease) -> None:
        self.slots.running[key_of(command)] = Running(command, lease)
        self.started.append(command)

    def begin(self, *executions: str) -> list[ClaimedCommand]:
        """The first commands of execution 7 and of these."""
        others = [self.command.model_copy(update={"execution_id": id}) for id in executions]
        for command in others:
            self.runs.begin(command, self.lease)
        return [self.command, *others]

    async def accept(self, commands: Any, plans: Any, sent: float) -> None:
        self.accepted += commands

    def end(self, command: ClaimedCommand, data: Any) -> None:
        self.slots.running.pop(key_of(command), None)
        assert self.runs.end(command, outcome_of(command, data))

    async def settled(self) -> None:
        """Once nothing is to be reported any more."""
        while self.runs.tasks or any(run.ready for run in self.runs._runs.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Plans:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def get(self, name: str) -> Plan:
        return self.plan


async def test_what_the_control_plane_refuses_is_counted_and_what_follows_is_stopped() -> None:
    harness = Harness("refused")
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert harness.summary.refused == 1
    assert [running.command.command_id for running in harness.abandoned] == ["b#1"], "it follows from nothing"
    assert harness.runs.busy is False


async def test_an_outcome_that_is_not_taken_goes_by_itself() -> None:
    harness = Harness(InvalidRequest("it cannot be read"))
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert [outcome.command_id for outcome in harness.submitted] == ["a#1"]
    assert [running.command.command_id for running in harness.abandoned] == ["b#1"]
    assert harness.runs.busy is False


async def test_while_the_control_plane_is_away_a_report_is_sent_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.03)
    harness = Harness(Unavailable("away", answered=503), "accepted")
    begun_at = asyncio.get_running_loop().time()
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert harness.calls.reports == [["a#1"], ["a#1"]]
    assert asyncio.get_running_loop().time() - begun_at >= 0.03, "it is not asked at once again"
    assert harness.abandoned != [], "what came with the answer is not what was run"


async def test_a_report_that_fails_in_a_way_nobody_thought_of_ends_the_run() -> None:
    harness = Harness(RuntimeError("odd"))
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert [running.command.command_id for running in harness.abandoned] == ["b#1"]
    assert harness.runs.busy is False


async def test_a_lease_that_comes_anew_is_as_long_as_a_new_one() -> None:
    harness = Harness("accepted")
    now = asyncio.get_running_loop().time()
    again = harness.command.model_copy(update={"fence": 10})
    assert harness.runs.accept_lease(again, now + 100.0)
    assert harness.lease.until == now + 130.0
    assert harness.command.fence == 10


async def test_an_older_lease_of_a_run_changes_nothing_and_is_for_nobody_else() -> None:
    harness = Harness("accepted")
    before = harness.lease.until
    older = harness.command.model_copy(update={"fence": harness.command.fence - 1})
    assert harness.runs.accept_lease(older, asyncio.get_running_loop().time() + 100.0) is True
    assert (harness.lease.until, harness.started) == (before, [])


@pytest.fixture
def batches_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended is not reported while another step runs."""
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 1000.0)


@pytest.mark.usefixtures("batches_wait")
async def test_a_lease_of_a_later_step_counts_the_outcomes_before_it() -> None:
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    (following,) = harness.started
    assert harness.runs.accept_lease(following.model_copy(update={"fence": 10}), 0.0)
    assert (harness.summary.done, following.fence) == (1, 10), "it was accepted, and the answer was lost"
    assert list(harness.runs.leases()) == [key_of(following)]


@pytest.mark.usefixtures("batches_wait")
async def test_a_lease_for_a_step_with_other_data_is_not_used_by_the_run() -> None:
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    (following,) = harness.started
    other = following.model_copy(update={"fence": 10, "order": "another"})
    assert harness.runs.accept_lease(other, 0.0) is False, "nobody would run the command"


async def test_a_step_in_doubt_begins_when_its_lease_comes() -> None:
    harness = Harness("accepted")
    run = harness.runs._runs["7"]
    run.doubtful = True
    harness.end(harness.command, {"n": 1})
    assert harness.started == []
    assert harness.runs.accept_lease(run.newest.command.model_copy(update={"fence": 10}), 0.0)
    assert harness.started == [run.newest.command], "it waits, and nothing will begin it"


async def test_a_run_in_doubt_whose_lease_is_not_recovered_is_dropped() -> None:
    harness = Harness("accepted")
    harness.start(harness.command, harness.lease)
    other = harness.command.model_copy(update={"execution_id": "8"})
    assert harness.runs.recovered([other], 0.0) == [other]
    assert harness.runs.busy and harness.abandoned == []
    harness.runs._runs["7"].doubtful = True
    assert harness.runs.recovered([], 0.0) == []
    assert not harness.runs.busy
    assert [running.command for running in harness.abandoned] == [harness.command], "another worker has its lease"


async def test_only_the_command_that_runs_ends_its_run() -> None:
    harness = Harness("accepted")
    harness.start(harness.command.model_copy(), harness.lease)
    harness.runs.forget(harness.command.model_copy())
    assert harness.runs.busy
    assert harness.runs.lease_lost(key_of(harness.command), 9) is True
    assert not harness.runs.busy and harness.abandoned == [], "what was claimed again is stopped for an older lease"


async def test_a_command_that_is_released_without_a_predecessor_is_reported_by_the_caller_under_its_fence() -> None:
    harness = Harness("accepted")
    outcome = released(harness.command.model_copy(update={"fence": 1}))
    assert harness.runs.end(harness.command, outcome) is False
    assert (outcome.fence, harness.runs.busy) == (9, False)


@pytest.mark.usefixtures("batches_wait")
async def test_what_ended_before_a_step_that_is_released_is_reported_at_once() -> None:
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    (following,) = harness.started
    assert harness.runs.end(following, released(following)) is True
    await asyncio.sleep(0)
    assert harness.calls.reports == [["a#1"]], "nobody is given the step until then"


async def test_the_lease_in_the_answer_to_a_report_is_that_of_the_run() -> None:
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    (following,) = harness.started
    result = ReportResult(execution_id="7", command_id="a#1", status="accepted")
    leased = following.model_copy(update={"fence": 10})
    harness.calls.script = [ReportResponse(results=[result], commands=[leased])]
    now = asyncio.get_running_loop().time()
    harness.lease.until = now + 1.0
    await harness.settled()
    assert harness.lease.until >= now + 30.0, "it expires as that of the first step"
    assert following.fence == 10
    assert (harness.accepted, harness.abandoned, harness.submitted) == ([], [], []), "it runs already, and goes on"


@pytest.mark.parametrize(("answer", "doubtful"), [("accepted", [True]), (InvalidRequest("it cannot be read"), [])])
async def test_what_a_report_in_doubt_may_have_brought_is_recovered(answer: Any, doubtful: list[bool]) -> None:
    harness = Harness(answer)
    run = harness.runs._runs["7"]
    run.retry = retry.Retry(0.0, doubtful=True)
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert harness.calls.recoveries == 1, "the lease of the step that follows came with a lost answer"
    assert [each.doubtful for each in harness.runs._runs.values()] == doubtful


async def test_the_slots_that_a_report_reserves_are_free_after_it() -> None:
    harness = Harness("accepted")
    harness.end(harness.command, LARGE)
    await asyncio.sleep(0)
    await harness.settled()
    assert (harness.calls.reports, harness.slots.reserved, harness.slots.free) == ([["a#1"]], 0, 4)


async def test_outcomes_in_doubt_are_reported_when_their_lease_comes_again() -> None:
    harness = Harness("accepted")
    run = harness.runs._runs["7"]
    run.doubtful = True
    harness.end(harness.command, LARGE)
    await asyncio.sleep(0)
    assert harness.calls.reports == []
    assert harness.runs.accept_lease(harness.command.model_copy(update={"fence": 10}), 0.0)
    await asyncio.sleep(0)
    assert harness.calls.fences == [[10]], "they wait for another report"


async def test_during_a_report_no_lease_is_used_or_lost() -> None:
    harness = Harness(asyncio.Event().wait)
    harness.start(harness.command, harness.lease)
    assert harness.runs.end(harness.command, outcome_of(harness.command, LARGE))
    await asyncio.sleep(0)
    assert len(harness.calls.reports) == 1
    again = harness.command.model_copy(update={"fence": 10})
    assert harness.runs.accept_lease(again, 0.0) is False
    assert harness.command.fence == 9, "the answer would be about another lease"
    assert harness.runs.lease_lost(key_of(harness.command), 9) is True
    assert harness.runs.busy and harness.abandoned == [], "the report may just have ended the command"
    for task in harness.runs.tasks:
        task.cancel()
    await asyncio.wait(harness.runs.tasks)


@pytest.mark.usefixtures("batches_wait")
async def test_a_step_that_has_no_lease_of_its_own_cannot_lose_that_of_its_run() -> None:
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    (following,) = harness.started
    assert harness.runs.lease_lost(key_of(following), following.fence) is True
    assert harness.abandoned == []
    assert list(harness.runs.leases()) == [key_of(harness.command)]


async def test_an_expired_lease_stops_the_command_and_the_run_is_gone() -> None:
    harness = Harness("accepted")
    harness.start(harness.command, harness.lease)
    other = harness.command.model_copy(update={"command_id": "x#1"})
    assert harness.runs.lease_expired(other) is False
    assert harness.runs.lease_expired(harness.command) is True
    assert [running.command for running in harness.abandoned] == [harness.command]
    assert harness.runs.leases() == {}
    assert harness.runs.lease_expired(harness.command) is False


async def test_what_ended_before_the_lease_expired_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 60.0)
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    (following,) = harness.started
    assert harness.calls.reports == [], "more is waited for"
    assert harness.runs.lease_expired(following) is True
    await asyncio.sleep(0.01)
    assert harness.calls.reports == [["a#1"]]
    assert [running.command for running in harness.abandoned] == [following]


@pytest.mark.parametrize("fence", [9, 8])
async def test_a_lost_lease_of_a_run_affects_no_other_run(fence: int) -> None:
    harness = Harness("accepted")
    harness.start(harness.command, harness.lease)
    assert harness.runs.lease_lost(key_of(harness.command), fence) is True
    assert (harness.abandoned != []) == (fence == harness.command.fence), "an older one says nothing"
    assert harness.runs.lease_lost(("8", "a#1"), 9) is False


async def test_what_cannot_be_decided_here_is_left_to_the_control_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a fault of the engine")

    monkeypatch.setattr("noetl_serverless.worker.drain.speculation.advance", broken)
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert (harness.started, harness.calls.reports) == ([], [["a#1"]])


async def test_a_problem_of_another_kind_leaves_the_outcomes_to_their_lease() -> None:
    harness = Harness(Problem("a worker may not"))
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert (harness.summary.unreported, harness.summary.more) == (1, True)


async def test_when_all_is_reported_no_timer_is_left() -> None:
    harness = Harness("refused")
    harness.end(harness.command, {"n": 1})
    await harness.settled()
    assert harness.runs._timer is None, "it would look for outcomes again and again while there are none"


async def test_what_is_sent_again_is_sent_when_it_is_due_and_not_with_the_next_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 1000.0)
    monkeypatch.setattr(speculative_runs, "Retry", partial(retry.Retry, pause=9.0))
    harness = Harness(Unavailable("away", answered=503), "accepted")
    # nothing more begins, so the run has ended
    harness.budget.stop()
    harness.end(harness.command, {"n": 1})
    await asyncio.wait(harness.runs.tasks)
    await asyncio.sleep(0)
    (run,) = harness.runs._runs.values()
    assert run.retry is not None and harness.runs._timer is not None
    assert harness.runs._timer.when() == run.retry.due


async def test_outcomes_of_many_executions_go_in_several_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 1000.0)
    monkeypatch.setattr(speculative_runs, "MAX_OUTCOMES", 2)
    harness = Harness("accepted")
    for command in harness.begin("8", "9", "10", "11"):
        harness.end(command, {"n": 1})
    assert (len(harness.started), harness.calls.reports) == (5, []), "more is waited for"
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 0.0)
    harness.runs._flush()
    await harness.settled()
    assert [len(report) for report in harness.calls.reports] == [2, 2, 1], "a report has more outcomes than it may"


async def test_runs_that_continue_are_reported_before_those_that_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 0.0)
    monkeypatch.setattr(speculative_runs, "MAX_REPORTS_UNDER_WAY", 0)
    harness = Harness("accepted")
    first, second = harness.begin("8")
    harness.end(first, LARGE)
    harness.end(second, {"n": 1})
    monkeypatch.setattr(speculative_runs, "MAX_REPORTS_UNDER_WAY", 1)
    harness.runs._flush()
    await harness.settled()
    assert harness.calls.executions == [["8", "7"]], "the capacity may not cover the command that runs already"


async def test_a_run_that_may_make_reports_fail_is_reported_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 0.0)
    monkeypatch.setattr(speculative_runs, "MAX_REPORTS_UNDER_WAY", 0)
    harness = Harness("accepted")
    for command in harness.begin("8", "9", "10"):
        harness.end(command, {"n": 1})
    harness.runs._runs["8"].retry = retry.Retry(0.0, separate_report=True)
    monkeypatch.setattr(speculative_runs, "MAX_REPORTS_UNDER_WAY", 3)
    harness.runs._flush()
    await harness.settled()
    assert harness.calls.executions == [["7"], ["8"], ["9", "10"]]


async def test_looking_for_outcomes_before_the_timer_is_due_stops_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 1000.0)
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    before = harness.runs._timer
    assert before is not None, "more is waited for"
    harness.runs._flush()
    assert before.cancelled(), "each look leaves one more timer"
    assert harness.runs._timer is not None and not harness.runs._timer.cancelled()


@pytest.mark.parametrize("same", [True, False])
async def test_a_step_that_was_stopped_during_its_report_is_released(same: bool) -> None:
    harness = Harness("accepted")
    harness.end(harness.command, {"n": 1})
    (following,) = harness.started
    order = following.order if same else "another"
    result = ReportResult(execution_id="7", command_id="a#1", status="accepted")
    leased = following.model_copy(update={"fence": 10, "order": order})

    async def answer() -> ReportResponse:
        harness.runs.forget(following)
        return ReportResponse(results=[result], commands=[leased])

    harness.calls.script = [answer]
    await harness.settled()
    submitted = [(outcome.command_id, outcome.fence, outcome.status) for outcome in harness.submitted]
    if same:
        assert submitted == [("b#1", 10, "released")], "nobody runs it until its lease expires"
        assert harness.accepted == [], "it came without the data it needs"
    else:
        assert (submitted, harness.accepted) == ([], [leased]), "it was issued with other data, and can run"


async def test_of_a_run_in_doubt_no_lease_is_certain() -> None:
    harness = Harness("accepted")
    assert harness.runs.leased_commands() == [harness.command]
    assert harness.runs.is_doubtful(key_of(harness.command)) is False
    harness.runs._runs["7"].doubtful = True
    assert harness.runs.is_doubtful(key_of(harness.command)) is True
    assert harness.runs.is_doubtful(("8", "a#1")) is False
    assert harness.runs.leased_commands() == [], "a recovery would not bring what the lost answer brought"
    assert list(harness.runs.leases()) == [key_of(harness.command)]


@pytest.mark.parametrize("part", ["data", "meta"])
async def test_an_outcome_that_cannot_be_sent_is_left_to_the_control_plane_and_nothing_follows(part: str) -> None:
    harness = Harness("refused")
    outcome = outcome_of(harness.command, {"n": 1})
    assert harness.runs.end(harness.command, outcome.model_copy(update={part: {"n": object()}}))
    await harness.settled()
    assert harness.started == []
    assert (harness.calls.reports, harness.summary.refused) == ([["a#1"]], 1)
    assert not harness.runs.busy


async def test_a_report_that_fails_is_logged_and_one_that_succeeds_is_not(caplog: pytest.LogCaptureFixture) -> None:
    for says, logged in (("accepted", False), (RuntimeError("what nobody thought of"), True)):
        harness = Harness(says)
        harness.end(harness.command, LARGE)
        await asyncio.wait(harness.runs.tasks)
        await harness.settled()
        await asyncio.sleep(0)
        assert ("reporting failed" in caplog.text) is logged


async def test_a_step_that_gets_its_lease_when_time_has_closed_is_released() -> None:
    harness = Harness("accepted")
    run = harness.runs._runs["7"]
    run.doubtful = True
    harness.end(harness.command, {"n": 1})
    newest = run.newest.command
    harness.budget.stop()
    assert harness.runs.accept_lease(newest.model_copy(update={"fence": 10}), 0.0)
    assert (harness.started, harness.runs.busy) == ([], False)
    assert [(each.command_id, each.fence, each.status) for each in harness.submitted] == [("b#1", 10, "released")]


class TestWrites:
    """Of a result that goes to a store while the next step runs."""

    @staticmethod
    def begun(failure: Problem | None = None) -> tuple[BackgroundWrite, asyncio.Event]:
        may_end = asyncio.Event()

        async def write() -> StoredObject:
            await may_end.wait()
            if failure is not None:
                raise failure
            return StoredObject("disk", "key", 1)

        begun = BackgroundWrite(UnfinishedWrites())
        begun.begin("key", write)
        return begun, may_end

    async def test_an_outcome_is_reported_once_its_result_is_written_and_the_next_step_runs_meanwhile(self) -> None:
        harness = Harness("accepted")
        write, may_end = self.begun()
        assert harness.runs.end(harness.command, outcome_of(harness.command, {"n": 1}), write)
        (following,) = harness.started
        await asyncio.sleep(0.02)
        assert harness.calls.reports == [], "the log would name an object that is not there"
        may_end.set()
        await eventually(lambda: harness.calls.reports)
        assert harness.calls.reports[0][0] == harness.command.command_id
        assert following.command_id == "b#1"

    async def test_what_ended_after_it_waits_for_it(self) -> None:
        harness = Harness("accepted")
        write, may_end = self.begun()
        assert harness.runs.end(harness.command, outcome_of(harness.command, {"n": 1}), write)
        harness.end(harness.started[0], {"n": 2})
        await asyncio.sleep(0.02)
        assert harness.calls.reports == []
        may_end.set()
        await eventually(lambda: harness.calls.reports)
        assert harness.calls.reports == [["a#1", "b#1"]]

    async def test_a_report_ends_before_the_first_that_is_not_written(self) -> None:
        harness = Harness("accepted")
        harness.end(harness.command, {"n": 1})
        write, _ = self.begun()
        (following,) = harness.started
        assert harness.runs.end(following, outcome_of(following, {"n": 2}), write)
        await eventually(lambda: harness.calls.reports)
        assert harness.calls.reports == [["a#1"]]

    async def test_if_it_fails_the_step_has_failed_and_what_follows_is_void(self) -> None:
        harness = Harness("accepted")
        step = harness.runs._runs["7"].newest
        write, may_end = self.begun(AccessDenied("no"))
        assert harness.runs.end(harness.command, outcome_of(harness.command, {"n": 1}), write)
        may_end.set()
        await eventually(lambda: harness.calls.reports)
        assert harness.calls.reports == [["a#1"]]
        assert step.outcome is not None and step.outcome.error is not None
        assert (step.outcome.status, step.outcome.data, step.outcome.at) == ("error", None, 5)
        assert step.outcome.error["message"] == "no"
        assert [running.command.command_id for running in harness.abandoned] == ["b#1"]

    async def test_if_it_has_failed_before_the_step_ends_nothing_follows(self) -> None:
        harness = Harness("accepted")
        write, may_end = self.begun(AccessDenied("no"))
        may_end.set()
        await eventually(lambda: write.error)
        assert harness.runs.end(harness.command, outcome_of(harness.command, {"n": 1}), write)
        assert harness.started == []

    async def test_it_is_stopped_with_its_run(self) -> None:
        harness = Harness("refused")
        harness.end(harness.command, {"n": 1})
        write, _ = self.begun()
        (following,) = harness.started
        assert harness.runs.end(following, outcome_of(following, {"n": 2}), write)
        await eventually(lambda: not write.is_under_way)
        assert not harness.runs.busy
