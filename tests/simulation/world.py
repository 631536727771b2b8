"""The world of one seed: control planes, workers and reconcilers over one log, users, and what befalls them all."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from noetl_serverless.bus.memory import MemoryNotifier
from noetl_serverless.errors import Problem
from noetl_serverless.hosts.memory import MemoryHost
from noetl_serverless.ledger.doorbell import Doorbell
from noetl_serverless.ledger.ledger import Ledger
from noetl_serverless.ledger.openings import Started
from noetl_serverless.ledger.playbooks import Playbooks
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.settings import Settings
from noetl_serverless.worker import service
from noetl_serverless.worker.drain import Worker

from . import answers
from .faults import Faults, Limits, stream
from .links import BellLink, BusLink, Client, ResultsLink, SchedulesLink, Server, Statements, Wire, never
from .loop import Loop, Process
from .playbooks import MAIN, SHARE, Book, book, plan_of
from .twins import Catalog, MemorySchedules
from .watch import WatchedLog

# how long things go wrong, and how long everything may then take to come to its end
TROUBLE = 60.0
PATIENCE = 3600.0
TICK = 5.0
SKEW = 45.0
DELAYS = (0.0, 0.0, 0.001, 0.004, 0.03)
# of a store under load, where many lose the race for a row
SLOW = (0.0, 0.01, 0.04, 0.1)


@dataclass(slots=True)
class Plane:
    process: Process
    log: Any
    ledger: Ledger
    server: Server


@dataclass(slots=True)
class Keeper:
    process: Process
    reconciler: Reconciler
    passing: bool = False


@dataclass(slots=True)
class Hand:
    process: Process
    worker: Worker
    bell: service.Doorbell


@dataclass(slots=True)
class Order:
    """What a user wants: an execution; `cancel_at`: and then not any more."""

    label: str
    payload: dict[str, Any]
    at: float
    keyed: bool
    cancel_at: float | None
    execution_id: str | None = None
    settled: bool = False


class World:
    def __init__(self, seed: int, limits: Limits | None = None, *, faults: Faults | None = None) -> None:
        limits = limits or Limits()
        self.seed = seed
        self.faults = faults or Faults(seed, limits)
        self.faults.listener = lambda number, kind: self.note("FAULT", None, f"{number}", kind)
        self.chance = stream(seed, "chance")
        self.loop = Loop(None if limits.in_order or not self.faults.on else stream(seed, "turns"))
        self.trace: list[tuple[Any, ...]] = []
        self.log = WatchedLog(self.loop.wall, self.note)
        self.book: Book = book(seed // SHARE)
        self.catalog = Catalog(list(self.book.entries))
        self.bus = MemoryNotifier(ack_wait=30.0, clock=self.loop.time)
        self.kept: dict[str, bytes] = {}
        self.asked: dict[str, bytes] = {}
        self.schedules = MemorySchedules(self._now)
        self.log.scheduled = self.schedules.due
        self.log.well_since = lambda: float("inf") if self.faults.on else self.loop.EPOCH + self._well_at
        self._well_at = 0.0
        self.wire = Wire(self)
        self._incarnation = 0
        self._secrets = stream(seed, "secrets")
        setup = stream(seed, "setup")
        self._calm = not self.faults.on
        self.settings = Settings(
            lease=setup.choice((6.0, 15.0, 30.0)),
            time_budget=1000.0 if self._calm else setup.choice((20.0, 60.0, 120.0)),
            max_in_flight=setup.choice((1, 2, 4, 16)),
            max_deliveries=setup.choice((3, 50, 50, 50)),
            scratch="/tmp",
        )
        counts = (1, 1, 1) if self._calm else (setup.randint(1, 3), setup.randint(1, 4), setup.choice((1, 1, 2)))
        self._counts = counts
        self._pace = setup.choice((DELAYS, DELAYS, SLOW))
        self.planes: list[Plane] = []
        self.hands: list[Hand] = []
        self.keepers: list[Keeper] = []
        self.orders = self._orders(setup)[: limits.starts]
        if setup.random() < 0.15:
            policy = setup.choice(("skip", "fire_once", "catch_up"))
            payload = {"label": "scheduled", "x": 7}
            self.schedules.add(1, self.book.entries[0].path, payload, setup.choice((20, 30)), policy)
        self.trouble = True

    def _orders(self, setup: random.Random) -> list[Order]:
        orders = []
        for payload in self.book.payloads[: setup.choice((1, 1, 1, 2))]:
            late = None if setup.random() < 0.85 else setup.random() * 40
            cancel = None if self._calm else late
            orders.append(Order(payload["label"], payload, setup.random() * 3, setup.random() < 0.8, cancel))
        return orders

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.loop.wall(), UTC)

    def catalog_text(self, hash: str) -> str:
        return next(entry.content for entry in self.book.entries if entry.hash == hash)

    def note(self, what: str, execution_id: str | None, *more: str) -> None:
        self.trace.append((self.loop.now, what, execution_id, more))

    def token(self, size: int) -> str:
        return self._secrets.randbytes(size).hex()

    # -- instances

    def process(self, kind: str, index: int) -> Process:
        self._incarnation += 1
        skew = (self.chance.random() - 0.5) * 2 * SKEW if self.faults.strike("skew") else 0.0
        return Process(self.loop, f"{kind}{index}.{self._incarnation}", skew)

    def boot_plane(self, index: int) -> Plane:
        process = self.process("plane", index)
        log = Statements(self.log, self, process)
        plane = Plane(process, log, self._ledger(process, log), None)  # type: ignore[arg-type]
        plane.server = Server(plane, self)
        return plane

    def _ledger(self, process: Process, log: Any) -> Ledger:
        return Ledger(
            log,
            Playbooks(self.catalog),
            self._doorbell(),
            clock=lambda: int(process.wall() * 1000),
        )

    def _doorbell(self) -> Doorbell:
        return Doorbell(BusLink(self), BellLink(self))

    def boot_keeper(self, index: int) -> Keeper:
        process = self.process("keeper", index)
        log = Statements(self.log, self, process)
        reconciler = Reconciler(
            log,
            self._ledger(process, log),
            SchedulesLink(self.schedules, self, process),  # type: ignore[arg-type]
            self._doorbell(),
            max_deliveries=self.settings.max_deliveries,
            now=lambda: datetime.fromtimestamp(process.wall(), UTC),
        )
        keeper = Keeper(process, reconciler)
        first = self.chance.random() * TICK
        self.loop.later(first, self._tick, keeper)
        return keeper

    def boot_hand(self, index: int) -> Hand:
        process = self.process("hand", index)
        tools = answers.loader(self._heard, self.chance.random)
        hand: list[Hand] = []

        def boot() -> None:
            worker = Worker(
                self.settings, Client(self.wire), BusLink(self), ResultsLink(self, self.kept), tools, None, plan_of
            )  # type: ignore[arg-type]
            worker.id = process.name
            worker.clock = lambda: int(process.wall() * 1000)
            bell = service.Doorbell(worker, MemoryHost(self.settings.time_budget), BellLink(self), None)
            hand.append(Hand(process, worker, bell))

        process._context.run(boot)
        return hand[0]

    def _heard(self, key: str, content: bytes) -> None:
        if self.asked.setdefault(key, content) != content and self.book.tame:
            self.log.broken("one idempotency key for two calls", f"{key}: {content!r} / {self.asked[key]!r}")

    # -- reaching each other

    def some_plane(self) -> Plane:
        return self.planes[int(self.chance.random() * len(self.planes))]

    async def delay(self, slow: str) -> None:
        if self.faults.strike(slow):
            await asyncio.sleep(self.chance.random() * 8)
            return
        seconds = DELAYS[int(self.chance.random() * len(DELAYS))]
        if seconds or not self._calm:
            await asyncio.sleep(seconds)

    async def statement(self, process: Process, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        from noetl_serverless.errors import Unavailable

        faults = self.faults
        if not self._calm:
            await asyncio.sleep(self._pace[int(self.chance.random() * len(self._pace))])
        if faults.strike("crash_before"):
            self.crash(process)
            await never()
        if faults.strike("store_away"):
            raise Unavailable("the connection to PostgreSQL broke")
        result = await method(*args, **kwargs)
        if faults.strike("crash_after"):
            self.crash(process)
            await never()
        if faults.strike("store_answer_lost"):
            raise Unavailable("the connection to PostgreSQL broke")
        if not self._calm:
            await asyncio.sleep(0)
        return result

    def caught(self, error: Exception, where: str) -> None:
        import traceback

        lines = traceback.format_exception(error)
        self.log.broken("an unexpected exception", f"{where}: {type(error).__name__}: {error}\n{''.join(lines[-3:])}")

    # -- workers and reconcilers at work

    def ring(self, function: str, payload: dict[str, Any]) -> None:
        """The platform starts an invocation in some instance."""
        hand = self.hands[int(self.chance.random() * len(self.hands))]
        if hand.process.alive:
            hand.process.spawn(self._drain(hand, bool(payload.get("sweep"))))

    async def _drain(self, hand: Hand, sweep: bool) -> None:
        try:
            await hand.bell.drain(sweep=sweep)
        except Problem as problem:
            self.note("drain failed", None, str(problem))
        except Exception as error:
            self.caught(error, hand.process.name)

    def _tick(self, keeper: Keeper) -> None:
        if not keeper.process.alive:
            return
        self.loop.later(TICK, self._tick, keeper)
        if not keeper.passing:
            keeper.passing = True
            keeper.process.spawn(self._reconcile(keeper))

    async def _reconcile(self, keeper: Keeper) -> None:
        try:
            done = await keeper.reconciler.reconcile()
            if done:
                self.note("reconciled", None, str(done))
        except Problem as problem:
            self.note("pass failed", None, str(problem))
        except Exception as error:
            self.caught(error, keeper.process.name)
        finally:
            keeper.passing = False

    # -- users

    async def order(self, order: Order) -> None:
        """Start it, again until it is answered if that is safe; perhaps cancel it."""
        await asyncio.sleep(order.at)
        key = f"user/{order.label}" if order.keyed else None
        body = {"path": MAIN, "payload": order.payload, "idempotency_key": key}
        answer = await self._ask("/api/execute", body, tries=1 if key is None else 1000)
        if isinstance(answer, Started):
            order.execution_id = answer.execution_id
            if order.cancel_at is not None:
                await asyncio.sleep(order.cancel_at)
                cancel = {"execution_id": answer.execution_id, "reason": "changed my mind"}
                cancel["cascade"] = self.chance.random() < 0.7  # type: ignore[assignment]
                await self._ask("/api/cancel", cancel, tries=1000)
        order.settled = True

    async def _ask(self, path: str, body: dict[str, Any], tries: int) -> Any:
        for _ in range(tries):
            try:
                status, answer = await self.wire.send(path, body, 6.0)
            except (aiohttp.ClientError, TimeoutError):
                status, answer = 503, None
            if status < 400:
                return answer
            if status not in (500, 503):
                self.log.broken("a user was refused", f"{path} {body} {status} {answer!r}")
                return None
            await asyncio.sleep(0.5)
        return None

    # -- what befalls them

    def crash(self, process: Process) -> None:
        """It is gone, with all it had in memory; another comes in its place after a while."""
        if not process.alive:
            return
        self.note("crashed", None, process.name)
        self.loop.kill(process)
        for answer in list(process.owed):
            if not answer.done() and self.chance.random() < 0.7:
                self.loop.later(0.01, _break, answer)
        self.loop.later(self.chance.random() * 3, self._replace, process)

    def _replace(self, process: Process) -> None:
        for index, plane in enumerate(self.planes):
            if plane.process is process:
                self.planes[index] = self.boot_plane(index)
        for index, hand in enumerate(self.hands):
            if hand.process is process:
                self.hands[index] = self.boot_hand(index)
        for index, keeper in enumerate(self.keepers):
            if keeper.process is process:
                self.keepers[index] = self.boot_keeper(index)

    def processes(self) -> list[Process]:
        every: list[Any] = [*self.planes, *self.hands, *self.keepers]
        return [each.process for each in every if each.process.alive]

    async def nemesis(self) -> None:
        while self.loop.now < TROUBLE:
            await asyncio.sleep(self.chance.random() * 2)
            some = self.processes()
            if some and self.faults.strike("crash"):
                self.crash(some[int(self.chance.random() * len(some))])
            if some and self.faults.strike("stall"):
                process = some[int(self.chance.random() * len(some))]
                self.loop.stall(process, self.chance.choice((1.0, 5.0, 20.0, 40.0)))
                self.note("stalled", None, process.name)
            hand = self.hands[int(self.chance.random() * len(self.hands))]
            if hand.process.alive and self.faults.strike("stop"):
                self.note("told to stop", None, hand.process.name)
                hand.process.call(hand.worker.stop)
                self.loop.later(12.0, self.crash, hand.process)
        self.faults.on = False
        self._well_at = self.loop.now
        self.schedules.turn_off()
        self.trouble = False

    # -- the run

    def run(self) -> None:
        """Until everything has ended, or nothing will."""
        planes, hands, keepers = self._counts
        self.planes += [self.boot_plane(index) for index in range(planes)]
        self.hands += [self.boot_hand(index) for index in range(hands)]
        self.keepers += [self.boot_keeper(index) for index in range(keepers)]
        users = Process(self.loop, "users")
        for order in self.orders:
            users.spawn(self.order(order))
        nemesis = Process(self.loop, "nemesis")
        if self._calm:
            self.loop.later(TROUBLE, self._quiet)
        else:
            nemesis.spawn(self.nemesis())
        self.loop.run(TROUBLE + PATIENCE, self.over)

    def _quiet(self) -> None:
        self.schedules.turn_off()
        self.trouble = False

    def over(self) -> bool:
        if self.log.faults:
            return True
        if not all(order.settled for order in self.orders) or (self.schedules.tables and self.trouble):
            return False
        return not self.schedules.due() and all(
            execution.status != "RUNNING" for execution in self.log.executions.values()
        )

    def digest(self) -> int:
        return zlib.crc32(repr(self.trace).encode())


def _break(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(aiohttp.ServerDisconnectedError())


SCRATCH = Path("/tmp")
