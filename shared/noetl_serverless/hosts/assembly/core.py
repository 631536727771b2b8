"""The orchestrator with what it stands on. Each function that commits has one; functions of one process share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ...bus.connection import NatsConnection
from ...control_plane.watchers import Watchers
from ...orchestrator.notifications import Notifications
from ...orchestrator.orchestrator import Orchestrator
from ...orchestrator.plans import Plans
from ...results.stores import ResultStores
from ...store.catalog import PostgresCatalog
from ...store.database import Database
from ...store.event_store import PostgresEventStore
from ...store.result_objects import PostgresResultStore
from ...store.runtimes import Runtimes
from ..platform import Platform
from .service import Close
from .stores import check_stores, stores_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    database: Database
    catalog: PostgresCatalog
    event_store: PostgresEventStore
    runtimes: Runtimes
    # told of every commit of this process
    watchers: Watchers
    results: Callable[[], ResultStores]
    orchestrator: Orchestrator
    # whether workers are told of waiting commands; otherwise only the reconciler finds them
    notifies: bool


def core_of(platform: Platform, notifications: Notifications, nats: NatsConnection) -> tuple[Core, tuple[Close, ...]]:
    """The core, and what this function has to close: nothing, if another function of its process has made the core.
    `notifications`, `nats`: how the core notifies, and reaches results in NATS, if it is made here."""
    shared = platform.process
    if shared is not None and isinstance(shared.core, Core):
        return shared.core, ()
    core = _new(platform, notifications, nats)
    if shared is not None:
        shared.core = core
    return core, (core.database.close,)


def _new(platform: Platform, notifications: Notifications, nats: NatsConnection) -> Core:
    check_stores(platform.settings)
    database = Database(platform.database_url, platform.settings.database_connections)
    catalog, event_store = PostgresCatalog(database), PostgresEventStore(database)
    runtimes = Runtimes(database)
    watchers = Watchers()
    results = cache(lambda: stores_of(platform, nats, PostgresResultStore(database)))
    return Core(
        database=database,
        catalog=catalog,
        event_store=event_store,
        watchers=watchers,
        results=results,
        orchestrator=Orchestrator(
            event_store,
            Plans(catalog, platform.settings.pools),
            notifications,
            on_commit=watchers.notify,
            results=results,
            register=runtimes.register,
        ),
        runtimes=runtimes,
        notifies=platform.settings.notify,
    )
