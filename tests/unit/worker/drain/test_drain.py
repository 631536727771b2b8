from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.counted import counted
from tests.eventually import in_few_turns
from tests.unit.worker import builders
from tests.unit.worker.drain.pipelined import CHAIN, HEAD, begun, claimed

from noetl_serverless.errors import Problem, Unavailable
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import (
    ClaimedCommand,
    ClaimRequest,
    ClaimResponse,
    CommandKey,
    HeartbeatRequest,
    HeartbeatResponse,
    Outcome,
    ReportRequest,
    ReportResponse,
    ReportResult,
)
from noetl_serverless.results.unfinished import UnfinishedWrites
from noetl_serverless.settings import Settings
from noetl_serverless.telemetry import metrics
from noetl_serverless.telemetry.presence import Presence, described
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.worker.drain import drain as drain_module
from noetl_serverless.worker.drain.context import Requests, WorkerContext
from noetl_serverless.worker.drain.drain import Drain
from noetl_serverless.worker.drain.keys import key_of
from noetl_serverless.worker.execution.lease import Lease
from noetl_serverless.worker.execution.time_budget import TimeBudget
from noetl_serverless.worker.orchestrator import Response
from noetl_serverless.worker.plans import PlanCache

LAST_DELIVERY = 5


def command(name: str, **more: Any) -> ClaimedCommand:
    return builders.claimed("work", **{"execution_id": name, "command_id": "a", "path": "t/t", "scope": {}, **more})


def key(name: str) -> CommandKey:
    return CommandKey(execution_id=name, command_id="a")


class Harness:
    """A drain over a control plane in memory, whose commands run until they are let go."""

    def __init__(self, *named: str) -> None:
        self.pending: list[ClaimedCommand] = []
        self.claims: list[ClaimRequest] = []
        # set while claims are answered
        self.answers = asyncio.Event()
        self.answers.set()
        self.let_go = asyncio.Event()
        self.ran: list[tuple[str, int]] = []
        self.problem: Problem | None = None
        self.claim_problems: list[Problem] = []
        self.notifier = MemoryNotifier()
        client: Any = self
        context = WorkerContext(
            worker_id="w-1",
            settings=Settings(lease=1000.0, max_in_flight=4, max_deliveries=LAST_DELIVERY),
            orchestrator=client,
            notifier=self.notifier,
            plans=PlanCache(load_plan),
            execute=self._execute,
            unfinished=UnfinishedWrites(),
            clock=lambda: 5,
            presence=Presence(described("worker_pool", "w-1", meta={})),
        )
        self.drain = Drain(context, TimeBudget(60.0), Requests())
        self._named = [key(name) for name in named]

    def run(self) -> Any:
        return self.drain.run(self._named)

    async def _execute(self, command: ClaimedCommand, *unused: Any) -> Outcome:
        self.ran.append((command.execution_id, command.fence))
        await self.let_go.wait()
        return Outcome(execution_id=command.execution_id, command_id="a", fence=command.fence, status="done")

    def supports(self, version: int) -> bool:
        return True

    async def claim(self, request: ClaimRequest, *, timeout: float) -> Response[ClaimResponse]:
        self.claims.append(request)
        await self.answers.wait()
        if self.claim_problems:
            raise self.claim_problems.pop()
        commands = [] if request.recover else self.pending
        if not request.recover:
            self.pending = []
        return Response(ClaimResponse(commands=commands), False)

    async def report(self, request: ReportRequest, *, timeout: float) -> Response[ReportResponse]:
        if self.problem is not None:
            raise self.problem
        results = [
            ReportResult(execution_id=each.execution_id, command_id="a", status="accepted") for each in request.outcomes
        ]
        return Response(ReportResponse(results=results, commands=[]), False)

    async def heartbeat(self, request: HeartbeatRequest, *, timeout: float) -> HeartbeatResponse:
        return HeartbeatResponse(lost=[])


async def test_a_recovery_waits_for_a_claim_under_way_and_holds_what_that_brings() -> None:
    harness = Harness("7")
    harness.pending = [command("7")]
    harness.answers.clear()
    draining = asyncio.create_task(harness.run())
    await in_few_turns(lambda: harness.claims)
    harness.drain.recover()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(harness.claims) == 1, "what the claim is about to bring would be recovered, too"
    harness.answers.set()
    await in_few_turns(lambda: any(claim.recover for claim in harness.claims))
    assert [claim.holding for claim in harness.claims if claim.recover] == [[key("7")]]
    harness.let_go.set()
    assert (await draining).done == 1


async def test_a_command_that_was_lost_before_it_began_is_claimed_again_when_it_is_pointed_to() -> None:
    harness = Harness("7", "8")
    harness.pending = [command("7"), command("8", delivery=LAST_DELIVERY)]
    draining = asyncio.create_task(harness.run())
    await in_few_turns(lambda: harness.drain.slots.isolated is not None and harness.ran)
    isolated = harness.drain.slots.isolated
    assert isolated is not None and key_of(isolated.command) == ("8", "a")
    harness.drain.cancel_lost(isolated)
    harness.pending = [command("8", fence=2)]
    await harness.notifier.publish("shared", [key("8")])
    await in_few_turns(lambda: len(harness.ran) == 2 or not harness.notifier._waiting["shared"])
    await in_few_turns(lambda: not harness.notifier._taken)
    harness.let_go.set()
    assert (await draining).done == 2, "its pointer was acknowledged unread"
    assert harness.ran == [("7", 1), ("8", 2)]


async def pipelined(harness: Harness) -> ClaimedCommand:
    """A command whose successors run speculatively; the worker has its plan."""
    anchor = claimed(*begun(CHAIN))
    await harness.drain.accept([], {anchor.plan: HEAD.replace("DURABILITY", "pipelined") + CHAIN}, 0.0)
    return anchor


async def test_a_recovery_names_all_that_is_held_also_what_is_only_to_be_reported() -> None:
    harness = Harness("8")
    harness.pending = [command("8")]
    harness.problem = Unavailable("away", answered=503)
    harness.let_go.set()
    draining = asyncio.create_task(harness.run())
    await in_few_turns(lambda: harness.ran and not harness.drain.slots.running and not harness.drain.reporter.tasks)
    harness.drain.speculative_runs.begin(await pipelined(harness), Lease())
    harness.drain.recover()
    await in_few_turns(lambda: any(claim.recover for claim in harness.claims))
    (recovery,) = [claim for claim in harness.claims if claim.recover]
    assert {key_of(held) for held in recovery.holding} == {("8", "a"), ("7", "a#1")}, "it would run once more"
    draining.cancel()
    await asyncio.wait([draining])


async def test_a_newer_lease_for_other_data_ends_the_run_of_the_older() -> None:
    harness = Harness()
    anchor = await pipelined(harness)
    now = asyncio.get_running_loop().time()
    await harness.drain.accept([anchor], {}, now)
    assert harness.drain.speculative_runs.busy
    await harness.drain.accept([anchor.model_copy(update={"fence": 10, "order": "other", "ahead": None})], {}, now)
    await in_few_turns(lambda: harness.ran == [("7", 10)])
    assert not harness.drain.speculative_runs.busy, "the drain waits for a run that nobody goes on with"
    harness.let_go.set()
    await in_few_turns(lambda: not harness.drain.slots.running)


async def test_after_a_claim_that_failed_it_soon_claims_again() -> None:
    harness = Harness()
    harness.claim_problems = [Unavailable("away", answered=503)]
    harness.let_go.set()
    await harness.notifier.publish("shared", [key("7")])
    draining = asyncio.create_task(harness.run())
    await in_few_turns(lambda: harness.claims)
    harness.pending = [command("7")]
    await harness.notifier.publish("shared", [key("7")])
    async with asyncio.timeout(20):
        assert (await draining).done == 1, "it waits until its time is over"


async def test_a_drain_that_has_no_time_claims_nothing() -> None:
    harness = Harness("7")
    harness.pending = [command("7")]
    harness.drain.budget.stop()
    assert (await harness.run()).claimed == 0
    assert harness.claims == []


async def test_of_several_commands_of_an_answer_those_that_are_new_begin() -> None:
    harness = Harness()
    now = asyncio.get_running_loop().time()
    await harness.drain.accept([command("7", fence=2)], {}, now)
    await harness.drain.accept([command("7"), command("8")], {}, now)
    await in_few_turns(lambda: len(harness.ran) == 2)
    assert harness.ran == [("7", 2), ("8", 1)]
    assert counted(metrics.commands_in_flight) == 2
    harness.problem = Unavailable("away", answered=503)
    harness.let_go.set()
    await in_few_turns(lambda: len(harness.drain.reporter.unanswered) == 2)
    await harness.drain.accept([command("7", fence=2), command("9")], {}, now)
    await in_few_turns(lambda: len(harness.ran) == 3)
    assert harness.ran[2:] == [("9", 1)], "what only waits to be reported is run again"


async def test_what_runs_when_time_closes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "PULL_WAIT_SECONDS", 0.01)
    harness = Harness("7")
    harness.pending = [command("7")]
    draining = asyncio.create_task(harness.run())
    await in_few_turns(lambda: harness.ran)
    harness.drain.budget.stop()
    harness.drain.slots.wake()
    await asyncio.sleep(0.1)
    harness.let_go.set()
    assert (await draining).done == 1
    assert not harness.drain.budget.is_over, "nothing else could run until time was over"
