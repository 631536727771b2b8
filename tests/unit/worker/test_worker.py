from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.archive.messages import ClaimedBatch
from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.worker import worker as worker_module
from noetl_serverless.worker.archive import LEASE_SECONDS
from noetl_serverless.worker.drain.slots import Slots
from noetl_serverless.worker.drain.summary import Summary
from noetl_serverless.worker.execution.lease import Lease
from noetl_serverless.worker.execution.time_budget import TimeBudget
from noetl_serverless.worker.worker import Worker

from .builders import step
from .conftest import Bench


class Client:
    """Has nothing to archive."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.closed = False

    async def call(self, method: str, path: str, answer: Any, request: Any = None) -> ClaimedBatch:
        self.requests.append((method, path, request.worker_id, request.lease))
        return ClaimedBatch(batch=None)

    def supports(self, version: int) -> bool:
        return True

    async def credential(self, name: str) -> Any:
        raise NotImplementedError

    async def manifest(self, execution_id: str, step: str, generation: int, after: int) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed = True


class PythonProcesses:
    def __init__(self) -> None:
        self.state = "not started"

    def start(self) -> None:
        self.state = "started"

    async def close(self) -> None:
        self.state = "closed"


class LongDrain:
    """Goes on until its budget is stopped, and its slots are woken."""

    def __init__(self, context: Any, budget: TimeBudget, requests: Any) -> None:
        self.budget = budget
        self.slots = Slots(1, budget)
        self.requests = requests

    async def run(self, commands: Any) -> Summary:
        while not self.budget.is_stopped:
            await self.slots.wait_for_change(60.0)
        return Summary(claimed=1)


class FailedDrain(LongDrain):
    async def run(self, commands: Any) -> Summary:
        raise RuntimeError("no")


class EndedDrain:
    """Has ended with this summary, while these requests arrived."""

    more = notified = sweep = False

    def __init__(self, context: Any, budget: Any, requests: Any) -> None:
        self._requests = requests

    async def run(self, commands: Any) -> Summary:
        self._requests.notified, self._requests.sweep = self.notified, self.sweep
        return Summary(claimed=3, more=self.more)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def python() -> PythonProcesses:
    return PythonProcesses()


@pytest.fixture
def worker(client: Client, python: PythonProcesses, tmp_path: Path) -> Worker:
    control_plane: Any = client
    pool: Any = python
    unused: Any = None

    def compile(text: str) -> Any:
        raise InvalidPlaybook(f"what is {text}?")

    settings = Settings(scratch=str(tmp_path))
    stores = ResultStores(FsspecResultStore(f"memory://{tmp_path.name}"))
    return Worker(settings, control_plane, MemoryNotifier(), stores, unused, pool, compile, grace=2.0)


@pytest.fixture
def drains(monkeypatch: pytest.MonkeyPatch) -> list[LongDrain]:
    """Those that the worker has begun; each goes on until it is stopped."""
    begun: list[LongDrain] = []

    def make(*arguments: Any) -> LongDrain:
        begun.append(LongDrain(*arguments))
        return begun[-1]

    monkeypatch.setattr(worker_module, "Drain", make)
    return begun


async def test_a_worker_claims_batches_for_the_archive_under_its_own_id(worker: Worker, client: Client) -> None:
    summary = await worker.archive_writer.run(1000.0)
    assert (summary.registered, summary.failed, summary.more) == (0, 0, False)
    assert client.requests == [("POST", "/api/archives/claim", worker.id, LEASE_SECONDS)]


@pytest.mark.parametrize("left", ["more", "notified", "sweep", None])
async def test_a_drain_says_that_work_is_left_if_any_is_or_if_it_was_notified_at_its_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, left: str | None
) -> None:
    monkeypatch.setattr(worker_module, "Drain", EndedDrain)
    if left is not None:
        monkeypatch.setattr(EndedDrain, left, True)
    summary = await worker.drain(30.0)
    assert (summary["status"], summary["claimed"], summary["more"]) == ("drained", 3, left is not None)
    if left is not None:
        monkeypatch.setattr(EndedDrain, left, False)
    assert (await worker.drain(30.0))["more"] is False, "what one drain has left is left by the next, too"


@pytest.mark.usefixtures("drains")
async def test_one_drain_runs_at_a_time_and_is_notified_of_those_that_were_requested_meanwhile(worker: Worker) -> None:
    running = asyncio.create_task(worker.drain(600.0))
    await asyncio.sleep(0)
    for sweep in (False, True):
        assert await asyncio.wait_for(worker.drain(600.0, sweep=sweep), 5) == {"status": "draining"}
    worker.stop()
    summary = await asyncio.wait_for(running, 5)
    assert (summary["status"], summary["claimed"]) == ("stopped", 1)
    assert summary["more"] is True, "it does not tell that it was asked to look again"


@pytest.mark.parametrize("sweep", [False, True])
async def test_a_running_drain_can_take_what_it_is_asked_for(
    worker: Worker, drains: list[LongDrain], sweep: bool
) -> None:
    running = asyncio.create_task(worker.drain(600.0, sweep=True))
    await asyncio.sleep(0)
    assert drains[0].requests.take_sweep() is True, "the sweep it was started with"
    await worker.drain(600.0, sweep=sweep)
    assert drains[0].requests.take_notified() is True
    assert drains[0].requests.take_sweep() is sweep
    worker.stop()
    await asyncio.wait_for(running, 5)


async def test_a_stopped_worker_drains_no_more(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "Drain", EndedDrain)
    worker.stop()
    assert await worker.drain(600.0) == {"status": "stopped"}


@pytest.mark.parametrize(("drain", "status"), [(LongDrain, "stopped"), (FailedDrain, None)])
async def test_closing_waits_for_the_drain_and_then_closes_what_it_uses(
    worker: Worker,
    client: Client,
    python: PythonProcesses,
    monkeypatch: pytest.MonkeyPatch,
    drain: Callable[..., Any],
    status: str | None,
) -> None:
    monkeypatch.setattr(worker_module, "Drain", drain)
    worker.start_python()
    assert python.state == "started"
    running = asyncio.create_task(worker.drain(600.0))
    await asyncio.sleep(0)
    await asyncio.wait_for(worker.close(), 5)
    assert running.done(), "its drain still runs"
    assert (python.state, client.closed) == ("closed", True)
    if status is None:
        with pytest.raises(RuntimeError):
            await running
    else:
        assert running.result()["status"] == status


async def test_a_drain_that_fails_does_not_keep_the_next_from_running(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "Drain", FailedDrain)
    with pytest.raises(RuntimeError):
        await worker.drain(600.0)
    monkeypatch.setattr(worker_module, "Drain", EndedDrain)
    assert (await worker.drain(600.0))["status"] == "drained"


async def test_a_stop_gives_the_running_commands_the_grace_that_is_set(worker: Worker, drains: list[LongDrain]) -> None:
    running = asyncio.create_task(worker.drain(600.0))
    await asyncio.sleep(0)
    assert drains[0].budget.until_over() > 500.0
    worker.stop()
    assert 1.0 < drains[0].budget.until_over() <= 2.0
    await asyncio.wait_for(running, 5)


async def test_a_command_whose_plan_is_missing_is_handed_back_and_one_that_cannot_be_compiled_fails(
    worker: Worker, bench: Bench
) -> None:
    claimed = bench.command(step())
    missing = await worker.execute(claimed, TimeBudget(30.0), Lease())
    assert (missing.status, missing.error) == ("released", None)
    await worker.plans.add({"h": "this"})
    broken = await worker.execute(claimed, TimeBudget(30.0), Lease())
    assert broken.status == "error"
    assert broken.error is not None
    assert (broken.error["kind"], broken.error["code"]) == ("worker", "worker.no_plan")
    assert broken.error["message"] == "this worker cannot compile the playbook: what is this?"
    for outcome in (missing, broken):
        assert (outcome.execution_id, outcome.command_id, outcome.fence) == (
            claimed.execution_id,
            claimed.command_id,
            claimed.fence,
        )


async def test_a_worker_that_never_drained_closes(worker: Worker, client: Client, python: PythonProcesses) -> None:
    await asyncio.wait_for(worker.close(), 5)
    assert (python.state, client.closed) == ("closed", True)


async def test_a_sweep_that_was_asked_for_stays_asked_for(worker: Worker, drains: list[LongDrain]) -> None:
    running = asyncio.create_task(worker.drain(600.0))
    await asyncio.sleep(0)
    for sweep in (True, False):
        await worker.drain(600.0, sweep=sweep)
    assert drains[0].requests.take_sweep() is True, "a later call without one has taken it back"
    worker.stop()
    await asyncio.wait_for(running, 5)


def test_each_worker_has_an_id_of_its_own_and_the_clock_in_milliseconds(tmp_path: Path) -> None:
    unused: Any = None
    client: Any = Client()
    first, second = (
        Worker(Settings(scratch=str(tmp_path)), client, MemoryNotifier(), unused, unused, unused, unused)
        for _ in range(2)
    )
    assert first.id != second.id, "each takes the other's leases for its own"
    assert abs(first.clock() - time.time() * 1000) < 60_000
