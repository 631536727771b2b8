"""The instances of the functions: what each keeps in memory, and how it begins, with nothing."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.orchestrator.triggers import TriggerStarts
from noetl_serverless.ports import EventStore
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.testing.host import MemoryHost
from noetl_serverless.worker import service
from noetl_serverless.worker.worker import Worker

from . import answers
from .links import BusLink, Client, EventStoreLink, InvokerLink, ResultsLink, SchedulesLink
from .loop import Process
from .playbooks import plan_of
from .server import Server
from .trigger_links import DueEvents, TriggersLink

if TYPE_CHECKING:
    from .world import World

ALARM = "reconciler"


@dataclass(slots=True)
class Plane:
    """A control plane."""

    process: Process
    log: EventStore
    orchestrator: Orchestrator
    server: Server


@dataclass(slots=True)
class Keeper:
    """A reconciler."""

    process: Process
    reconciler: Reconciler
    passing: bool = False


@dataclass(slots=True)
class Hand:
    """A worker."""

    process: Process
    worker: Worker
    receiver: service.NotificationReceiver


def boot_plane(world: World, index: int) -> Plane:
    process = world.process("plane", index)
    log = EventStoreLink(world.log, world, process)
    orchestrator = _orchestrator(world, process, log)
    return Plane(process, log, orchestrator, Server(orchestrator, log, process, world))


def boot_keeper(world: World, index: int) -> Keeper:
    process = world.process("keeper", index)
    log = EventStoreLink(world.log, world, process)
    schedules = SchedulesLink(world.schedules, world, process)
    orchestrator = _orchestrator(world, process, log)

    def now() -> datetime:
        return datetime.fromtimestamp(process.wall(), UTC)

    reconciler = Reconciler(
        log,
        orchestrator,
        schedules,
        _notifications(world),
        max_deliveries=world.settings.max_deliveries,
        triggers=DueEvents(TriggerStarts(TriggersLink(world.triggers, world, process), orchestrator, now)),
        now=now,
    )
    return Keeper(process, reconciler)


def boot_hand(world: World, index: int) -> Hand:
    """Together, it shares the process of the control plane with the same number, if there is one."""
    plane = world.planes[index] if world.together and index < len(world.planes) else None
    process = world.process("hand", index) if plane is None else plane.process
    python: Any = None
    worker = Worker(
        world.settings,
        Client(world.wire, world.version),
        BusLink(world),
        ResultStores(ResultsLink(world, world.kept)),
        answers.loader(world, process),
        python,
        plan_of,
        orchestrator=None if plane is None else plane.server.direct(),
        grace=world.grace,
        clock=lambda: int(process.wall() * 1000),
    )
    worker.id = process.name
    if plane is not None:
        plane.orchestrator.connect_worker(worker)
    receiver = service.NotificationReceiver(worker, MemoryHost(world.settings.time_budget), InvokerLink(world), None)
    return Hand(process, worker, receiver)


def _orchestrator(world: World, process: Process, log: EventStore) -> Orchestrator:
    playbooks = Plans(world.catalog)
    results = ResultStores(ResultsLink(world, world.kept))
    orchestrator = Orchestrator(
        log, playbooks, _notifications(world), clock=lambda: int(process.wall() * 1000), results=lambda: results
    )
    if world.setting.caches == "off":
        orchestrator._commits.cache.put = lambda execution: None  # type: ignore[method-assign]
        orchestrator._claims._opened_loops = Forgetful()
    return orchestrator


class Forgetful(OrderedDict[Any, Any]):
    """Keeps nothing."""

    def __setitem__(self, key: Any, value: Any) -> None:
        return


def _notifications(world: World) -> Notifications:
    return Notifications(BusLink(world), InvokerLink(world), timer_function=world.alarm)
