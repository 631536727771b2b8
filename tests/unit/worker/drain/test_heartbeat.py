from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from noetl_serverless.protocol import ClaimedCommand, CommandKey, HeartbeatResponse, Held
from noetl_serverless.worker.drain import heartbeat
from noetl_serverless.worker.drain.heartbeat import Heartbeat
from noetl_serverless.worker.drain.keys import key_of
from noetl_serverless.worker.drain.running import Running
from noetl_serverless.worker.execution.lease import Lease


class NoRuns:
    """No command is part of a speculative run."""

    def run_with(self, key: Any) -> None:
        return None

    def leases(self) -> dict[Any, Lease]:
        return {}

    def leased_commands(self) -> list[ClaimedCommand]:
        return []

    def lease_lost(self, key: Any, fence: int | None) -> bool:
        return False


class Harness:
    """A heartbeat for two commands, whose leases do not expire by themselves; the first is reported as lost."""

    lease_seconds = 0.003

    def __init__(self) -> None:
        self.held: list[list[Held]] = []
        self.seconds: list[float] = []
        self.abandoned: list[Running] = []
        # the fence of the first command once it is reported as lost
        self.fence = 1
        self.until = asyncio.get_running_loop().time() + 1000.0
        self.running = [Running(self._command(name), Lease(self.until)) for name in "ab"]
        self._answered = asyncio.Event()
        slots: Any = SimpleNamespace(running={key_of(each.command): each for each in self.running})
        calls: Any = self
        reporter: Any = SimpleNamespace(unanswered={})
        runs: Any = NoRuns()
        self._heartbeat = Heartbeat(calls, slots, reporter, runs, self.abandoned.append)

    def _command(self, name: str) -> ClaimedCommand:
        looked_at: dict[str, Any] = {"execution_id": "7", "command_id": name, "fence": 1}
        return ClaimedCommand.model_construct(**looked_at)

    def lease_end(self, sent: float, seconds: float) -> float:
        return self.until + 5.0

    async def heartbeat(self, held: list[Held], seconds: float) -> HeartbeatResponse:
        self.held.append(held)
        self.seconds.append(seconds)
        if len(self.held) == 2:
            self._answered.set()
            await asyncio.Event().wait()
        self.running[0].command.fence = self.fence
        return HeartbeatResponse(lost=[CommandKey(execution_id="7", command_id="a")])

    async def send_once(self) -> None:
        """Until the first answer has been used."""
        sending = asyncio.create_task(self._heartbeat.send())
        async with asyncio.timeout(30):
            await self._answered.wait()
        sending.cancel()
        await asyncio.wait([sending])


async def test_a_command_that_a_heartbeat_reports_as_lost_is_stopped_at_once() -> None:
    harness = Harness()
    await harness.send_once()
    assert harness.abandoned == [harness.running[0]], "it runs on until its lease expires"
    assert [(held.command_id, held.fence) for held in harness.held[0]] == [("a", 1), ("b", 1)]


async def test_a_command_that_was_leased_again_while_its_heartbeat_was_under_way_is_not_stopped() -> None:
    harness = Harness()
    harness.fence = 2
    await harness.send_once()
    assert harness.abandoned == []


async def test_a_heartbeat_prolongs_the_leases_that_are_not_lost() -> None:
    harness = Harness()
    await harness.send_once()
    assert [running.lease.until - harness.until for running in harness.running] == [0.0, pytest.approx(5.0)]


async def test_a_command_may_ask_for_a_longer_lease_but_not_for_a_shorter_one() -> None:
    harness = Harness()
    harness.running[0].lease.seconds, harness.running[1].lease.seconds = 60.0, 0.001
    await harness.send_once()
    held = {
        command.command_id: seconds
        for commands, seconds in zip(harness.held, harness.seconds, strict=True)
        for command in commands
    }
    assert held == {"a": 60.0, "b": harness.lease_seconds}


async def test_a_command_may_ask_for_more_frequent_heartbeats() -> None:
    harness = Harness()
    harness.lease_seconds = 3000.0
    harness.running[1].lease.heartbeat_seconds = 0.001
    await harness.send_once()
    assert len(harness.held) == 2


async def test_a_command_that_asks_for_more_frequent_heartbeats_once_it_has_begun_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "NOTICED_SECONDS", 0.01)
    harness = Harness()
    harness.lease_seconds = 3000.0
    asyncio.get_running_loop().call_later(0.05, setattr, harness.running[1].lease, "heartbeat_seconds", 0.001)
    await harness.send_once()
    assert len(harness.held) == 2
