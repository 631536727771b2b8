"""The reconciler: does whatever crashed functions and lost hints have left undone."""

from __future__ import annotations

from ...bus.connection import NatsConnection
from ...bus.nats import NatsNotifier
from ...ledger.doorbell import Doorbell
from ...ledger.ledger import Ledger
from ...ledger.playbooks import Playbooks
from ...reconciler.reconciler import Reconciler
from ...store.catalog import Catalog
from ...store.connection import Database
from ...store.log import Log
from ...store.schedules import Schedules
from ...telemetry import logs
from ..adapters import Platform
from .service import Close


def reconciler(platform: Platform) -> tuple[Reconciler, Doorbell, Database, tuple[Close, ...]]:
    """With it, the doorbell it rings, its database, and what to close at the end."""
    settings = platform.settings
    logs.setup("reconciler", settings.log_level)
    database = Database(platform.database_url, settings.database_connections)
    notifier = NatsNotifier(NatsConnection(settings.nats_url, ca=settings.nats_ca))
    doorbell = Doorbell(
        notifier if settings.notify else None, platform.invoker, background=platform.background, alarm=platform.alarm
    )
    log = Log(database)
    ledger = Ledger(log, Playbooks(Catalog(database), settings.pools), doorbell)
    made = Reconciler(log, ledger, Schedules(database), doorbell, max_deliveries=settings.max_deliveries)
    return made, doorbell, database, (platform.invoker.close, notifier.close, database.close)
