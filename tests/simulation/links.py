"""How a process reaches the others: each call takes time, and may fail in every way it can in the world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import aiohttp

from noetl_serverless.engine.events import Event
from noetl_serverless.errors import Problem, Unavailable
from noetl_serverless.ports import EventStore, Invoker, LockedExecution, Notifier, Pointer, ResultStore, StoredObject
from noetl_serverless.protocol import WIRE, CommandKey, Held
from noetl_serverless.reconciler.reconciler import ScheduledRuns
from noetl_serverless.records import (
    EPOCH,
    Claimant,
    CommitResult,
    DeadLetter,
    DueTimer,
    ExecutionCommit,
    IdempotentStart,
    Inbox,
    Lease,
    LoadedExecution,
    PendingWork,
    QuarantinedExecution,
    RelatedRestart,
    ReportedFact,
    Startable,
)
from noetl_serverless.results.whole import WholeObjects
from noetl_serverless.store.schedules import DueRun
from noetl_serverless.worker.client import ControlPlane

from .loop import Process
from .server import Called, called

if TYPE_CHECKING:
    from .instances import Plane
    from .memory_schedules import MemorySchedules
    from .watch import WatchedLog
    from .world import World

Parameters = ParamSpec("Parameters")
T = TypeVar("T")

CALL_TIMEOUT = 6.0


async def never() -> None:
    """What a process that has just died goes on with."""
    await asyncio.get_running_loop().create_future()


class EventStoreLink(EventStore):
    """The event store as one process reaches it: between any two statements it may die, or lose the connection."""

    def __init__(self, event_store: WatchedLog, world: World, process: Process) -> None:
        self._event_store = event_store
        self._world = world
        self._process = process

    async def _statement(
        self, method: Callable[Parameters, Awaitable[T]], *args: Parameters.args, **named: Parameters.kwargs
    ) -> T:
        return await self._world.statement(self._process, method, *args, **named)

    async def parts(self, execution_id: str, step: str, generation: int) -> list[dict[str, Any]]:
        return await self._statement(self._event_store.parts, execution_id, step, generation)

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        return await self._statement(self._event_store.load, ids)

    async def timers(self, execution_id: str) -> dict[str, int]:
        return await self._statement(self._event_store.timers, execution_id)

    async def events(self, execution_id: str) -> list[Event]:
        return await self._statement(self._event_store.events, execution_id)

    async def starts_by_key(self, keys: Sequence[str]) -> dict[str, IdempotentStart]:
        return await self._statement(self._event_store.starts_by_key, keys)

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        return await self._statement(self._event_store.commit, commits, claimant)

    async def commit_exclusively(
        self, execution_id: str, decide: Callable[[LockedExecution], ExecutionCommit | None]
    ) -> tuple[ExecutionCommit, CommitResult] | None:
        return await self._statement(self._event_store.commit_exclusively, execution_id, decide)

    async def read_inbox(self, execution_id: str) -> Inbox:
        return await self._statement(self._event_store.read_inbox, execution_id)

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        return await self._statement(self._event_store.append_to_inbox, facts)

    async def clear_inbox(self, execution_id: str) -> None:
        return await self._statement(self._event_store.clear_inbox, execution_id)

    async def executions_with_inbox(self, limit: int, after: str = "0") -> list[str]:
        return await self._statement(self._event_store.executions_with_inbox, limit, after)

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        return await self._statement(self._event_store.claim, claimant, keys)

    async def recover_leases(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        return await self._statement(self._event_store.recover_leases, worker, lease, holding)

    async def loop_opened(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        return await self._statement(self._event_store.loop_opened, execution_id, step, generation)

    async def extend_leases(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        return await self._statement(self._event_store.extend_leases, worker, held, lease)

    async def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        return await self._statement(self._event_store.release_leases, worker, held, begun)

    async def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        return await self._statement(self._event_store.expire_leases, deliveries, limit)

    async def undeliverable(self, deliveries: int, limit: int) -> list[DeadLetter]:
        return await self._statement(self._event_store.undeliverable, deliveries, limit)

    async def add_dead_letter(self, dead_letter: DeadLetter) -> None:
        return await self._statement(self._event_store.add_dead_letter, dead_letter)

    async def pools_with_pending(self, age: float) -> list[str]:
        return await self._statement(self._event_store.pools_with_pending, age)

    async def pending_work(self, age: float) -> PendingWork:
        return await self._statement(self._event_store.pending_work, age)

    async def startable(self, limit: int) -> Startable:
        return await self._statement(self._event_store.startable, limit)

    async def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        return await self._statement(self._event_store.due_timers, limit, after)

    async def list_quarantined(self, limit: int, after: str = "0") -> list[QuarantinedExecution]:
        return await self._statement(self._event_store.list_quarantined, limit, after)

    async def get_quarantined(self, execution_id: str) -> QuarantinedExecution | None:
        return await self._statement(self._event_store.get_quarantined, execution_id)

    async def running_descendants(self, execution_id: str) -> list[str]:
        return await self._statement(self._event_store.running_descendants, execution_id)

    async def is_descendant(self, execution_id: str, ancestor: str) -> bool:
        return await self._statement(self._event_store.is_descendant, execution_id, ancestor)

    async def related_restarts(self, execution_id: str) -> list[RelatedRestart]:
        return await self._statement(self._event_store.related_restarts, execution_id)

    async def running_restarts(self, execution_id: str) -> dict[str, str]:
        return await self._statement(self._event_store.running_restarts, execution_id)

    async def ensure_partitions(self) -> None:
        return await self._statement(self._event_store.ensure_partitions)


class SchedulesLink(ScheduledRuns):
    """Like `Schedules.claim_due`: a transaction, and then a statement."""

    def __init__(self, schedules: MemorySchedules, world: World, process: Process) -> None:
        self._schedules = schedules
        self._world = world
        self._process = process

    async def claim_due(self, now: datetime, limit: int = 100) -> list[DueRun]:
        await self._world.statement(self._process, self._schedules.move_on, now, limit)
        return await self._world.statement(self._process, self._schedules.claim, now, limit)

    async def hold(self, run: DueRun, now: datetime) -> bool:
        return await self._world.statement(self._process, self._schedules.hold, run, now)

    async def let_wait(self, run: DueRun) -> None:
        raise AssertionError("schedules of the simulation let their runs overlap")

    async def record_skipped(self, run: DueRun, reason: str) -> None:
        raise AssertionError("schedules of the simulation let their runs overlap")

    async def record_started(self, run: DueRun, execution_id: int) -> None:
        await self._world.statement(self._process, self._schedules.record_started, run, execution_id)

    async def record_failed(self, run: DueRun, problem: Problem) -> None:
        await self._world.statement(self._process, self._schedules.record_failed, run, problem)

    async def prune(self, before: datetime) -> None:
        await self._world.statement(self._process, self._schedules.prune, before)


class Wire:
    """From a caller to some control plane and back. Raises what aiohttp raises."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked = 0

    async def send(self, call: Called, timeout: float) -> tuple[int, bytes]:
        async with asyncio.timeout(timeout):
            return await self._send(call)

    async def _send(self, call: Called) -> tuple[int, bytes]:
        world, faults = self._world, self._world.faults
        plane = world.some_plane()
        await world.delay("wire_slow")
        if not plane.process.alive:
            raise aiohttp.ClientConnectorError(SimpleNamespace(ssl=True, host="", port=0), OSError())  # type: ignore[arg-type]
        if faults.strike("request_lost"):
            await self._broken()
        if faults.strike("request_twice"):
            other = world.some_plane()
            world.loop.later(world.chance.random() * 4, self._deliver, other, call, None)
        answer: asyncio.Future[tuple[int, bytes]] = world.loop.create_future()
        self._deliver(plane, call, answer)
        status, content = await answer
        await world.delay("wire_slow")
        if faults.strike("answer_lost"):
            await self._broken()
        return status, content

    def _deliver(self, plane: Plane, call: Called, answer: asyncio.Future[Any] | None) -> None:
        if not plane.process.alive:
            return
        if answer is not None:
            self._asked += 1
            number, pending_answers = self._asked, plane.process.pending_answers
            pending_answers[number] = answer
            answer.add_done_callback(lambda answer: pending_answers.pop(number, None))
        plane.process.spawn(self._serve(plane, call, answer))

    async def _serve(self, plane: Plane, call: Called, answer: asyncio.Future[Any] | None) -> None:
        result = await plane.server.answer(call)
        if answer is not None and not answer.done():
            answer.set_result(result)

    async def _broken(self) -> None:
        """The connection breaks, or nothing comes any more."""
        if self._world.chance.random() < 0.5:
            raise aiohttp.ServerDisconnectedError
        await never()


class Client(ControlPlane):
    """The worker's own client, with its retries, over the wire."""

    def __init__(self, wire: Wire, version: int) -> None:
        """`version`: of the protocol, as both speak it."""
        super().__init__("http://plane", "token", call_timeout=CALL_TIMEOUT)
        self._wire = wire
        self._spoken = version

    async def _send_once(self, method: str, path: str, body: bytes | None, timeout: float) -> tuple[int, bytes]:
        call = replace(called(path, body), headers=((WIRE.encode(), str(self._spoken).encode()),))
        status, content = await self._wire.send(call, timeout)
        if status < 400:
            self._version = self._spoken
        return status, content


class BusLink(Notifier):
    """Notifier. What is published may be lost, come twice, late, or in another order."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None:
        world = self._world
        await world.delay("wire_slow")
        if world.faults.strike("bus_away"):
            raise Unavailable("the bus does not answer")
        for key in commands:
            if world.faults.strike("note_lost"):
                continue
            for _ in range(2 if world.faults.strike("note_twice") else 1):
                late = world.chance.random() * 30 if world.faults.strike("note_late") else 0.0
                world.loop.later(late + world.chance.random() * 0.01, self._arrive, pool, key)

    def _arrive(self, pool: str, key: CommandKey) -> None:
        _now(self._world.bus.publish(pool, [key]))

    async def pull(self, pool: str, limit: int, wait: float) -> list[Pointer]:
        if self._world.faults.strike("bus_away"):
            raise Unavailable("the bus does not answer")
        return await self._world.bus.pull(pool, limit, wait)

    async def ack(self, pointers: Sequence[Pointer]) -> None:
        if self._world.faults.strike("ack_lost"):
            raise Unavailable("the bus does not answer")
        self._world.log.check_ack([pointer.key for pointer in pointers])
        await self._world.bus.ack(pointers)

    async def close(self) -> None:
        return None


class InvokerLink(Invoker):
    """Invoker. An invocation may be lost, come twice, or late."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None:
        world = self._world
        if world.faults.strike("invocation_lost"):
            return
        for _ in range(2 if world.faults.strike("invocation_twice") else 1):
            world.loop.later(delay + world.chance.random() * 0.05, world.invoke, function, payload or {})


class ResultsLink(WholeObjects, ResultStore):
    """ResultStore in memory."""

    name = "memory"

    def __init__(self, world: World, kept: dict[str, bytes]) -> None:
        self._world = world
        self._kept = kept

    async def put(self, key: str, data: bytes) -> StoredObject:
        await self._world.delay("wire_slow")
        if self._world.faults.strike("results_away"):
            raise OSError("the result store does not answer")
        if self._kept.setdefault(key, data) != data:
            self._world.log.broken("a result was overwritten", key)
        return StoredObject("memory", key, len(data))

    async def get(self, key: str) -> bytes:
        await self._world.delay("wire_slow")
        return self._kept[key]

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        if self._world.faults.strike("results_away"):
            raise OSError("the result store does not answer")
        if not self._world.calm:
            # who has it at hand already is as quick as others only where it takes no time
            await self._world.delay("wire_slow")
        return self._kept[key][offset : offset + length]

    async def delete(self, key: str) -> None:
        self._kept.pop(key, None)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        for key in sorted(key for key in self._kept if key.startswith(prefix) and key > after):
            yield key


def _now(work: Awaitable[Any]) -> None:
    """Run what does not wait for anything."""
    coroutine: Any = work
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


Pick = Callable[[], Any]
