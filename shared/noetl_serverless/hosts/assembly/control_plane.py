"""The control plane: the only function that decides."""

from __future__ import annotations

from functools import cache

from ...bus.connection import NatsConnection
from ...bus.nats import NatsNotifier
from ...control_plane.app import create_app
from ...control_plane.watchers import Watchers
from ...orchestrator.notifications import Notifications
from ...orchestrator.orchestrator import Orchestrator
from ...orchestrator.plans import Plans
from ...store.catalog import PostgresCatalog
from ...store.database import Database
from ...store.event_store import PostgresEventStore
from ...telemetry import logs
from ..platform import ARCHIVE, Platform
from .service import Service


def control_plane(platform: Platform) -> Service:
    settings = platform.settings
    logs.setup("control_plane", settings.log_level)
    database = Database(platform.database_url, settings.database_connections)
    catalog = PostgresCatalog(database)
    notifier = NatsNotifier(NatsConnection(settings.nats_url, ca=settings.nats_ca), replicas=settings.nats_replicas)
    # without notifications only the reconciler finds waiting work
    notifications = (
        Notifications(
            notifier,
            platform.invoker,
            after_response=platform.runs_after_response,
            timer_function=platform.timer_function,
        )
        if settings.notify
        else Notifications(None, None)
    )
    watchers = Watchers()
    results = cache(platform.results)
    playbooks = Plans(catalog, settings.pools)
    orchestrator = Orchestrator(
        PostgresEventStore(database), playbooks, notifications, on_commit=watchers.notify, results=results
    )
    return Service(
        create_app(
            settings,
            database=database,
            orchestrator=orchestrator,
            catalog=catalog,
            watchers=watchers,
            results=results,
            request_archive=lambda: notifications.request_archive(settings.pools.get(ARCHIVE, "shared")),
        ),
        (notifications.close, platform.invoker.close, notifier.close, database.close),
    )
