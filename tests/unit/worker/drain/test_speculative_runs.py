"""What becomes of the reports of steps that were run speculatively."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from tests.unit.worker.drain.fake_calls import FakeCalls
from tests.unit.worker.drain.pipelined import CHAIN, begun, claimed

from noetl_serverless.errors import InvalidRequest, Problem, Unavailable
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.protocol import ClaimedCommand, Outcome, ReportResponse, ReportResult
from noetl_serverless.settings import Settings
from noetl_serverless.worker.drain import retry, speculative_runs
from noetl_serverless.worker.drain.context import WorkerContext
from noetl_serverless.worker.drain.keys import key_of
from noetl_serverless.worker.drain.running import Running
from noetl_serverless.worker.drain.slots import Slots
from noetl_serverless.worker.drain.speculative_runs import SpeculativeRuns
from noetl_serverless.worker.drain.summary import Summary
from noetl_serverless.worker.execution.lease import Lease
from noetl_serverless.worker.execution.time_budget import TimeBudget


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
            client=unused,
            notifier=unused,
            plans=Plans(plan),  # type: ignore[arg-type]
            execute=unused,
            clock=lambda: 5,
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

    async def accept(self, commands: Any, plans: Any, sent: float) -> None:
        self.accepted += commands

    def end(self, command: ClaimedCommand, data: Any) -> None:
        self.slots.running.pop(key_of(command), None)
        names = {"execution_id": command.execution_id, "command_id": command.command_id}
        assert self.runs.end(command, Outcome(**names, fence=command.fence, status="done", data=data))

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
    commands = [harness.command, *(harness.command.model_copy(update={"execution_id": str(id)}) for id in range(8, 12))]
    for command in commands[1:]:
        harness.runs.begin(command, harness.lease)
    for command in commands:
        harness.end(command, {"n": 1})
    assert (len(harness.started), harness.calls.reports) == (5, []), "more is waited for"
    monkeypatch.setattr(speculative_runs, "BATCH_SECONDS", 0.0)
    harness.runs._flush()
    await harness.settled()
    assert [len(report) for report in harness.calls.reports] == [2, 2, 1], "a report has more outcomes than it may"


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
    released = [(outcome.command_id, outcome.fence, outcome.status) for outcome in harness.submitted]
    if same:
        assert released == [("b#1", 10, "released")], "nobody runs it until its lease expires"
        assert harness.accepted == [], "it came without the data it needs"
    else:
        assert (released, harness.accepted) == ([], [leased]), "it was issued with other data, and can run"
