"""What a commit issues is begun at once by a worker in the same process, without a claim and without a notification."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.eventually import eventually
from tests.integration.worker.stack import Stack

from noetl_serverless.errors import Unavailable
from noetl_serverless.protocol import ClaimRequest, CommandKey
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit
from noetl_serverless.testing.host import MemoryHost
from noetl_serverless.tools import registry
from noetl_serverless.worker.service import NotificationReceiver

CHAIN = """
workflow:
  - step: one
    tool: {kind: python, code: "result = {'x': 1}"}
    next: {arcs: [{step: two}]}
  - step: two
    tool: {kind: python, code: "result = {'y': x + 1}", input: {x: "{{ one.x }}"}}
"""


class Together:
    """A stack whose orchestrator hands over to its worker."""

    def __init__(self, scratch: Path) -> None:
        self.stack = Stack(scratch, in_process=True)
        self.worker = self.stack.worker
        self.receiver = NotificationReceiver(self.worker, MemoryHost(), None, None, runs_after_response=True)
        self.stack.orchestrator.connect_worker(self.worker)
        self.claims: list[Any] = []
        claim, commit = self.stack.log.claim, self.stack.log.commit
        self.failures: list[Exception] = []
        self.before_commit: Callable[[], None] = lambda: None

        async def claiming(claimant: Claimant, keys: Any) -> Any:
            leases = await claim(claimant, keys)
            self.claims += leases
            return leases

        async def committing(commits: list[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
            self.before_commit()
            if self.failures:
                raise self.failures.pop()
            return await commit(commits, claimant)

        self.stack.log.claim = claiming  # type: ignore[method-assign]
        self.stack.log.commit = committing  # type: ignore[method-assign,assignment]

    async def start(self, body: str) -> str:
        self.stack.catalog.add("t/t", body)
        return (await self.stack.orchestrator.start(path="t/t")).execution_id

    async def ended(self, id: str) -> Any:
        deadline = time.monotonic() + 30
        while not (state := await self.stack.state(id)).ended:
            assert time.monotonic() < deadline, f"it has not ended: {state}"
            await asyncio.sleep(0.01)
        return state

    async def published(self) -> list[CommandKey]:
        return [pointer.key for pointer in await self.stack.notifier.pull("shared", 100, 0.01)]


@pytest.fixture
async def together(tmp_path: Path) -> AsyncIterator[Together]:
    together = Together(tmp_path)
    yield together
    await together.receiver.close()
    await together.worker.close()
    await registry.close()


async def test_an_execution_runs_without_a_claim_and_without_a_notification(together: Together) -> None:
    state = await together.ended(await together.start(CHAIN))
    assert (state.status, state.outcomes["two"]["data"]) == ("completed", {"y": 2})
    assert together.claims == []
    assert await together.published() == []
    assert together.stack.log.commands == {}


async def test_what_finds_no_free_slot_waits_as_ever(together: Together) -> None:
    every_slot = together.worker.offer(1000)
    assert every_slot is not None and every_slot.limit == together.worker.settings.max_in_flight
    assert together.worker.offer(1) is None
    id = await together.start(CHAIN)
    (row,) = together.stack.log.commands.values()
    assert row.status == "pending"
    await together.worker.take(every_slot, [], {})
    assert (await together.ended(id)).status == "completed"
    assert [lease.execution_id for lease in together.claims] == [id]


async def test_a_start_that_fails_gives_the_slots_back(together: Together) -> None:
    slots = together.worker.settings.max_in_flight
    for _ in range(2 * slots):
        together.failures = [Unavailable("the database is away")]
        with pytest.raises(Unavailable):
            await together.start(CHAIN)
    assert (await together.ended(await together.start(CHAIN))).status == "completed"
    assert together.claims == [], "the slots of the starts that failed were not free"


async def test_what_is_handed_over_while_the_worker_stops_is_run_and_what_follows_is_left(together: Together) -> None:
    together.before_commit = together.worker.stop
    id = await together.start(CHAIN)
    await asyncio.wait_for(together.worker.close(), 10)
    assert list((await together.stack.state(id)).outcomes) == ["one"]
    (left,) = (await together.stack.orchestrator.claim(ClaimRequest(worker_id="another"))).commands
    assert (left.execution_id, left.step, left.delivery) == (id, "two", 1)


async def test_a_stopped_worker_is_handed_nothing(together: Together) -> None:
    together.worker.stop()
    id = await together.start(CHAIN)
    (row,) = together.stack.log.commands.values()
    assert (row.row["id"], row.status) == (id, "pending")


async def test_the_worker_drains_again_after_it_was_idle(together: Together) -> None:
    for _ in range(3):
        assert (await together.ended(await together.start(CHAIN))).status == "completed"
        # one that is just ending takes nothing more
        await eventually(lambda: together.worker._drain is None)
    assert together.claims == []


async def test_what_cannot_be_handed_over_does_not_fail_the_start(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(together.stack.orchestrator._claims, "to_commands", broken)
    id = await together.start(CHAIN)
    (row,) = together.stack.log.commands.values()
    assert (row.row["id"], row.status) == (id, "claimed"), "its lease expires, and another worker runs it"
