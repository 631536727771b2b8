"""How a process reaches the others: each call takes time, and may fail in every way it can in the world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp

from noetl_serverless.errors import Unavailable
from noetl_serverless.ports import Pointer, StoredObject
from noetl_serverless.protocol import WIRE, CommandKey
from noetl_serverless.worker.client import ControlPlane

from .loop import Process
from .server import Called, called

if TYPE_CHECKING:
    from .instances import Plane
    from .world import World

CALL_TIMEOUT = 6.0


async def never() -> None:
    """What a process that has just died goes on with."""
    await asyncio.get_running_loop().create_future()


class Statements:
    """The store as one process reaches it: between any two statements it may die, or lose the connection."""

    def __init__(self, target: Any, world: World, process: Process) -> None:
        self._target = target
        self._world = world
        self._process = process

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        async def statement(*args: Any, **kwargs: Any) -> Any:
            return await self._world.statement(self._process, method, *args, **kwargs)

        self.__dict__[name] = statement
        return statement


class SchedulesLink:
    """Like `Schedules.claim_due`: a transaction, and then a statement."""

    def __init__(self, schedules: Any, world: World, process: Process) -> None:
        self._statements = Statements(schedules, world, process)

    async def claim_due(self, now: Any, limit: int = 100) -> Any:
        await self._statements.move_on(now, limit)
        return await self._statements.claim(now, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._statements, name)


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


class BusLink:
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


class InvokerLink:
    """Invoker. An invocation may be lost, come twice, or late."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None:
        world = self._world
        if world.faults.strike("invocation_lost"):
            return
        for _ in range(2 if world.faults.strike("invocation_twice") else 1):
            world.loop.later(delay + world.chance.random() * 0.05, world.invoke, function, payload or {})


class ResultsLink:
    """ResultStore in memory."""

    def __init__(self, world: World, kept: dict[str, bytes]) -> None:
        self._world = world
        self._kept = kept

    async def put(self, key: str, data: bytes) -> StoredObject:
        await self._world.delay("wire_slow")
        if self._world.faults.strike("results_away"):
            raise OSError("the result store does not answer")
        if self._kept.setdefault(key, data) != data:
            self._world.log.broken("a result was overwritten", key)
        return StoredObject("memory", key, len(data), _sha256(data))

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


def _now(work: Awaitable[Any]) -> None:
    """Run what does not wait for anything."""
    coroutine: Any = work
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def _sha256(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()


Pick = Callable[[], Any]
