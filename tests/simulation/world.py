"""The world of one seed: control planes, workers and reconcilers over one log, users, and what befalls them all."""

from __future__ import annotations

import asyncio
import random
import traceback
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import aiohttp

from noetl_serverless.errors import Problem, Unavailable
from noetl_serverless.protocol import VERSION
from noetl_serverless.settings import Settings
from noetl_serverless.store.schedule_spec import MissedPolicy
from noetl_serverless.store.triggers import ReceivedEvent
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.testing.catalog import MemoryCatalog
from noetl_serverless.testing.rows import ExecutionRow
from noetl_serverless.testing.triggers import EndedExecution, MemoryTriggers

from .controls import Control, Delivery
from .faults import Faults, Limits, stream
from .instances import ALARM, Hand, Keeper, Plane, boot_hand, boot_keeper, boot_plane
from .links import Parameters, T, Wire, never
from .loop import Loop, Process
from .memory_keychain import SecretTable
from .memory_schedules import MemorySchedules
from .playbooks import SHARE, Book, book, plan_of, stepwise, version_of
from .side_playbooks import SidePlaybook
from .token_server import Tokens
from .user_database import UserDatabase
from .users import Order, deliver, serve
from .watch import WatchedLog

Caches = Literal["kept", "off", "alternating"]
# how long things go wrong, and how long everything may then take to come to its end
TROUBLE = 60.0
PATIENCE = 4 * 3600.0
TICK = 5.0
SKEW = 45.0
DELAYS = (0.0, 0.0, 0.001, 0.004, 0.03)
# of a store under load, where many lose the race for a row
SLOW = (0.0, 0.01, 0.04, 0.1)


class Still(random.Random):
    """Draws the same each time."""

    def random(self) -> float:
        return 0.5


# how many of the worlds whose workers speak the present protocol have them in the processes of control planes
TOGETHER = 0.4
# how often each kind is drawn
CACHES: tuple[Caches, ...] = ("kept", "kept", "off", "alternating")


@dataclass(frozen=True, slots=True)
class Setting:
    """How the same events may be gone through: what control planes keep of the executions they have seen, and, if they
    take turns, how old it is; whether there is anything that hurts; and whether steps may be run ahead."""

    caches: Caches = "kept"
    faulty: bool = True
    ahead: bool = True


class World:
    def __init__(
        self, seed: int, limits: Limits | None = None, *, faults: Faults | None = None, setting: Setting | None = None
    ) -> None:
        limits = limits or Limits()
        self.seed = seed
        self.faults = faults or Faults(seed, limits)
        self.faults.listener = lambda number, kind: self.note("FAULT", None, f"{number}", kind)
        self.calm = not self.faults.on
        # where nothing goes wrong, nothing is left to chance: what is done once more or once less moves nothing else
        self.chance: random.Random = Still() if self.calm else stream(seed, "chance")
        self.loop = Loop.create(None if limits.in_order or self.calm else stream(seed, "turns"), one_queue=self.calm)
        self.trace: list[tuple[Any, ...]] = []
        self.log = WatchedLog(self.loop.wall, self.note)
        self.setting = setting or Setting(stream(seed, "setting").choice(CACHES))
        self.book: Book = book(seed // SHARE) if self.setting.ahead else stepwise(seed // SHARE)
        self.catalog = MemoryCatalog()
        self.catalog.entries += self.book.entries
        self.bus = MemoryNotifier(ack_wait=30.0, clock=self.loop.time)
        self.kept: dict[str, bytes] = {}
        self.log.is_stored = self.kept.__contains__
        self.requests: dict[str, bytes] = {}
        self.users = UserDatabase(self.loop)
        self.tokens = Tokens()
        self.secret_table = SecretTable(self)
        self.schedules = MemorySchedules(self._now)
        self.log.scheduled = self.schedules.due
        self.triggers = MemoryTriggers(self._newest)
        self._declare_triggers()
        self.log.triggered = lambda: self.triggers.due(self._now())
        self.log.on_end = self._record_end
        self.log.well_since = lambda: float("inf") if self.faults.on else self.loop.EPOCH + self._well_at
        self._well_at = 0.0
        self.wire = Wire(self)
        self.version = version_of(seed // SHARE)
        # whether workers run in the processes of control planes, as long as there are any
        self.together = not self.calm and self.version == VERSION and stream(seed, "shape").random() < TOGETHER
        self._incarnations: Counter[str] = Counter()
        self._turn = 0
        self._secrets = {name: stream(seed, f"secrets of {name}") for name in ("executions", "workers", "fetches")}
        setup = stream(seed, "setup")
        self.turnstile = asyncio.Lock()
        self.settings = Settings(
            lease=setup.choice((6.0, 15.0, 30.0)),
            time_budget=1000.0 if self.calm else setup.choice((20.0, 60.0, 120.0)),
            max_in_flight=setup.choice((1, 2, 4, 16)),
            max_deliveries=setup.choice((3, 50, 50, 50)),
            scratch="/tmp",
        )
        counts = (
            (2 if self.setting.caches == "alternating" else 1, 1, 1)
            if self.calm
            else (setup.randint(1, 3), setup.randint(1, 4), setup.choice((1, 1, 2)))
        )
        self._counts = counts
        self.grace = setup.choice((5.0, 0.5))
        # what a request may weigh, in bytes
        self.body_limit = 2000 if not self.calm and setup.random() < 0.08 else 1_000_000
        # the function that is invoked when a timer is due, if there is one
        self.alarm = setup.choice((ALARM, None))
        self._pace = setup.choice((DELAYS, DELAYS, SLOW))
        self.planes: list[Plane] = []
        self.hands: list[Hand] = []
        self.keepers: list[Keeper] = []
        # events that are sent to triggers
        self.senders: list[tuple[Order, Delivery]] = []
        orders = self._orders(setup)
        if setup.random() < 0.15:
            policies: tuple[MissedPolicy, ...] = ("skip", "fire_once", "catch_up")
            policy = setup.choice(policies)
            payload = {"label": "scheduled", "x": 7}
            self.schedules.add(1, self.book.entries[0].path, payload, setup.choice((20, 30)), policy)
        self.orders = [
            *self._side_orders(stream(seed, "constructs"), self.book.constructs),
            *self._side_orders(stream(seed, "poisoned"), self.book.faulty),
            *orders,
        ][: limits.starts]
        self.trouble = True

    def _orders(self, setup: random.Random) -> list[Order]:
        orders = []
        for payload in self.book.payloads[: setup.choice((1, 1, 1, 2))]:
            late = None if setup.random() < 0.85 else setup.random() * 40
            cancel = None if self.calm else late
            orders.append(Order(payload["label"], payload, setup.random() * 3, setup.random() < 0.8, cancel))
        if self.book.is_controlled and self.setting.faulty:
            for number, order in enumerate(orders):
                _let_be_controlled(order, stream(self.seed, f"controls {number}"))
        return orders

    def _side_orders(self, setup: random.Random, playbooks: Sequence[SidePlaybook]) -> list[Order]:
        """What runs beside the others; schedules start some of it."""
        orders = []
        for number, each in enumerate(playbooks if self.setting.faulty else (), 2):
            payload = {"label": each.label}
            late = None if self.calm or setup.random() < 0.85 else setup.random() * 40
            if each.deliveries:
                self.senders += [(Order(each.label, payload, 0.0, True, None), one) for one in each.deliveries]
                continue
            if each.by_schedule:
                self.schedules.add(number, each.path, payload, setup.choice((20, 30)), "skip")
                continue
            order = Order(each.label, payload, setup.random() * 3, True, late, each.path, each.body)
            order.refusable = each.body is not None
            order.controls, order.changes = each.controls, each.changes
            order.restarts = each.restarted is not None
            orders.append(order)
        return orders

    def _newest(self, path: str) -> int | None:
        return next((entry.version for entry in self.book.entries if entry.path == path), None)

    def _declare_triggers(self) -> None:
        for each in self.book.constructs:
            for path, text in ((each.path, each.text), *each.more):
                self.triggers.declare(path, 1, plan_of(text).triggers.values(), self._now())

    def settled_events(self) -> dict[tuple[str, str], ReceivedEvent]:
        """(PATH/NAME of a trigger, event) -> what has become of it."""
        return {(f"{path}/{name}", event.event_id): event for path, name, event in self.triggers.received()}

    def _record_end(self, execution: ExecutionRow) -> None:
        assert execution.ended_at is not None
        ended = EndedExecution(
            execution_id=execution.loaded.execution_id,
            path=execution.loaded.path,
            version=execution.loaded.version,
            status=execution.status,
            at=self._now(),
            parent_execution_id=execution.parent_id,
            result=execution.result,
            error=execution.error,
            principal=execution.loaded.principal,
        )
        self.triggers.record_end(ended)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.loop.wall(), UTC)

    def catalog_text(self, hash: str) -> str:
        return next(entry.content for entry in self.book.entries if entry.hash == hash)

    def note(self, what: str, execution_id: str | None, *more: str) -> None:
        self.trace.append((self.loop.now, what, execution_id, more))

    def token(self, of: str, size: int) -> str:
        return self._secrets[of].randbytes(size).hex()

    # -- instances

    def process(self, kind: str, index: int) -> Process:
        name = f"{kind}{index}"
        self._incarnations[name] += 1
        skew = (self.chance.random() - 0.5) * 2 * SKEW if self.faults.strike("skew") else 0.0
        return Process(self.loop, f"{name}.{self._incarnations[name]}", skew)

    def _boot_keeper(self, index: int) -> Keeper:
        keeper = boot_keeper(self, index)
        self.loop.later(self.chance.random() * TICK, self._tick, keeper)
        return keeper

    def heard(self, key: str, content: bytes) -> None:
        if self.requests.setdefault(key, content) != content and self.book.tame:
            self.log.broken("one idempotency key for two calls", f"{key}: {content!r} / {self.requests[key]!r}")

    def top_of(self, id: str) -> str:
        """The execution at the top, which nothing has started."""
        while (parent := self.log.executions[id].parent_id) is not None:
            id = parent
        return id

    def shared_by(self, scope: str, id: str) -> str:
        """Who shares what is fetched for an execution: all for whom this is the same."""
        match scope:
            case "local":
                return id
            case "shared":
                return self.top_of(id)
        return self.log.executions[id].loaded.catalog_id

    # -- reaching each other

    def some_plane(self) -> Plane:
        drawn = int(self.chance.random() * len(self.planes))
        if self.setting.caches == "alternating":
            self._turn += 1
            drawn = self._turn % len(self.planes)
        return self.planes[drawn]

    async def delay(self, slow: str) -> None:
        if self.faults.strike(slow):
            await asyncio.sleep(self.chance.random() * 8)
            return
        seconds = DELAYS[int(self.chance.random() * len(DELAYS))]
        if seconds or not self.calm:
            await asyncio.sleep(seconds)

    async def statement(
        self,
        process: Process,
        method: Callable[Parameters, Awaitable[T]],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> T:
        faults = self.faults
        if not self.calm:
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
        if not self.calm:
            await asyncio.sleep(0)
        return result

    def caught(self, error: Exception, where: str) -> None:
        lines = traceback.format_exception(error)
        self.log.broken("an unexpected exception", f"{where}: {type(error).__name__}: {error}\n{''.join(lines[-3:])}")

    # -- workers and reconcilers at work

    def invoke(self, function: str, payload: dict[str, Any]) -> None:
        """The platform starts an invocation in some instance."""
        if function == ALARM:
            self._pass(self.keepers[int(self.chance.random() * len(self.keepers))])
            return
        hand = self.hands[int(self.chance.random() * len(self.hands))]
        if hand.process.alive:
            hand.process.spawn(self._drain(hand, payload))

    async def _drain(self, hand: Hand, payload: dict[str, Any]) -> None:
        try:
            await hand.receiver.drain([payload])
        except Problem as problem:
            self.note("drain failed", None, str(problem))
        except Exception as error:
            self.caught(error, hand.process.name)

    def _tick(self, keeper: Keeper) -> None:
        if not keeper.process.alive:
            return
        self.loop.later(TICK, self._tick, keeper)
        self._pass(keeper)

    def _pass(self, keeper: Keeper) -> None:
        if keeper.process.alive and not keeper.passing:
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

    # -- what befalls them

    def crash(self, process: Process) -> None:
        """It is gone, with all it had in memory; another comes in its place after a while."""
        if not process.alive:
            return
        self.note("crashed", None, process.name)
        self.loop.kill(process)
        for answer in list(process.pending_answers.values()):
            if not answer.done() and self.chance.random() < 0.7:
                self.loop.later(0.01, _break, answer)
        self.loop.later(self.chance.random() * 3, self._replace, process)

    def _replace(self, process: Process) -> None:
        for index, plane in enumerate(self.planes):
            if plane.process is process:
                self.planes[index] = boot_plane(self, index)
        for index, hand in enumerate(self.hands):
            if hand.process is process:
                self.hands[index] = boot_hand(self, index)
        for index, keeper in enumerate(self.keepers):
            if keeper.process is process:
                self.keepers[index] = self._boot_keeper(index)

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
        self.planes += [boot_plane(self, index) for index in range(planes)]
        self.hands += [boot_hand(self, index) for index in range(hands)]
        self.keepers += [self._boot_keeper(index) for index in range(keepers)]
        users = Process(self.loop, "users")
        for order in self.orders:
            users.spawn(serve(self, order))
        for order, delivery in self.senders:
            users.spawn(deliver(self, order, delivery))
        nemesis = Process(self.loop, "nemesis")
        if self.calm:
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
        orders = (*self.orders, *(order for order, _ in self.senders))
        if not all(order.settled for order in orders) or (self.schedules.tables and self.trouble):
            return False
        if self.triggers.unsettled():
            return False
        return not self.schedules.due() and all(
            execution.status != "RUNNING" for execution in self.log.executions.values()
        )

    def digest(self) -> int:
        return zlib.crc32(repr(self.trace).encode())


def _break(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(aiohttp.ServerDisconnectedError())


def _let_be_controlled(order: Order, chance: random.Random) -> None:
    """It is paused for a while, perhaps twice, and gone on with if it was cancelled or has failed."""
    order.keyed = True
    at, controls = 0.0, []
    for _ in range(chance.choice((0, 1, 1, 2))):
        pause = at + 0.017 + chance.random() * chance.choice((0.2, 4.0))
        at = pause + 0.013 + chance.random() * chance.choice((0.5, 20.0))
        controls += [Control(pause, "pause"), Control(at, "resume")]
    order.controls = tuple(controls)
    order.restarts = chance.random() < 0.5
    if order.restarts and chance.random() < 0.5:
        order.cancel_at = at + chance.random() * 6
