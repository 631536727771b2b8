"""What workers show of themselves: never with each claim or report, and so that whoever rests does not look dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.integration.worker.stack import Stack

from noetl_serverless.protocol import ClaimedCommand, ClaimRequest, ReportRequest
from noetl_serverless.records import Claimant
from noetl_serverless.testing.host import MemoryHost
from noetl_serverless.tools import registry
from noetl_serverless.worker.service import NotificationReceiver
from noetl_serverless.worker.worker import Worker

CHAIN = """
workflow:
  - step: one
    tool: {kind: noop, result: 1}
    next: {arcs: [{step: two}]}
  - step: two
    tool: {kind: noop, result: "{{ one + 1 }}"}
    next: {arcs: [{step: three}]}
  - step: three
    tool: {kind: noop, result: "{{ two + 1 }}"}
"""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    await stack.worker.close()
    await registry.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def receiver_of(stack: Stack, *, runs_after_response: bool) -> NotificationReceiver:
    return NotificationReceiver(stack.worker, MemoryHost(), None, None, runs_after_response=runs_after_response)


async def test_many_claims_and_reports_are_one_entry_in_the_registry(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[ClaimRequest | ReportRequest] = []
    claim, report = stack.orchestrator.claim, stack.orchestrator.report

    async def claiming(request: ClaimRequest):  # type: ignore[no-untyped-def]
        calls.append(request)
        return await claim(request)

    async def reporting(request: ReportRequest):  # type: ignore[no-untyped-def]
        calls.append(request)
        return await report(request)

    monkeypatch.setattr(stack.orchestrator, "claim", claiming)
    monkeypatch.setattr(stack.orchestrator, "report", reporting)
    clock = Clock()
    stack.worker.presence._clock = clock
    for _ in range(10):
        await stack.run(CHAIN)
    assert len(calls) > 20
    assert [(entry.name, entry.status) for entry in stack.registered] == [(stack.worker.id, "busy")]
    clock.now += 10
    await stack.run(CHAIN)
    assert len(stack.registered) == 2, "after a while it shows itself again"


async def test_where_it_is_frozen_after_its_answer_it_rests_as_idle(stack: Stack) -> None:
    receiver = receiver_of(stack, runs_after_response=False)
    stack.catalog.add("t/t", CHAIN)
    await stack.orchestrator.start(path="t/t")
    await receiver.drain()
    assert [entry.status for entry in stack.registered] == ["busy", "idle"]
    await stack.orchestrator.start(path="t/t")
    await receiver.drain()
    assert len(stack.registered) == 2, "drains soon after one another write nothing more"


async def test_one_that_ends_is_taken_off_the_registry(stack: Stack) -> None:
    await stack.worker.show("ready")
    await stack.worker.close()
    assert [entry.status for entry in stack.registered] == ["ready", "ended"]


async def test_a_worker_in_the_process_of_the_orchestrator_gets_the_steps_of_its_pool_alone(tmp_path: Path) -> None:
    stack = Stack(tmp_path, in_process=True)
    io = stack.another(stack.client, pool="io")
    workers = (io, stack.worker)
    host = MemoryHost()
    receivers = [NotificationReceiver(one, host, None, None, runs_after_response=True) for one in workers]
    stack.orchestrator.connect_worker(stack.worker)
    stack.orchestrator.connect_worker(io, "io")
    ran: dict[str, str] = {}
    for worker in workers:
        _note(worker, ran)
    for pool in ("io", "shared"):
        stack.catalog.add(f"t/{pool}", f"workflow:\n  - {{step: {pool}_step, pool: {pool}, tool: {{kind: noop}}}}\n")
        id = (await stack.orchestrator.start(path=f"t/{pool}")).execution_id
        async with asyncio.timeout(20):
            while not (await stack.state(id)).ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert ran == {"io_step": "io", "shared_step": "shared"}
    for receiver in receivers:
        await receiver.close()
    for worker in workers:
        await worker.close()
    await registry.close()


def _note(worker: Worker, ran: dict[str, str]) -> None:
    take = worker.take

    async def taking(offer: Claimant, commands: Sequence[ClaimedCommand], plans: Mapping[str, str]) -> None:
        ran.update({command.step: worker.settings.pool for command in commands})
        await take(offer, commands, plans)

    worker.take = taking  # type: ignore[method-assign]
