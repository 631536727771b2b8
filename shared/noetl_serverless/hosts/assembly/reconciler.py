"""The reconciler: completes what crashed functions and lost notifications have left undone."""

from __future__ import annotations

from collections.abc import Mapping

from ...bus.connection import NatsConnection
from ...bus.nats import NatsNotifier
from ...bus.nats_key_value import NatsKeyValue
from ...bus.nats_messages import NatsMessages
from ...orchestrator.notifications import Notifications
from ...orchestrator.triggers import TriggerStarts
from ...reconciler.objects import ObjectEvents
from ...reconciler.outages import BUCKET, NOTE_TTL_SECONDS
from ...reconciler.reconciler import Reconciler
from ...reconciler.retention import Retention
from ...reconciler.sources import NatsSource
from ...reconciler.triggers import TriggerSource, TriggerSources
from ...store.archives import Archives
from ...store.database import Database
from ...store.maintenance import MaintenanceTasks
from ...store.schedules import Schedules
from ...store.triggers import Triggers
from ...telemetry import logs
from ..platform import ARCHIVE, Platform
from .attendance import attendance
from .core import core_of
from .service import Close


def reconciler(
    platform: Platform, sources: Mapping[str, TriggerSource] | None = None
) -> tuple[Reconciler, Notifications, Database, tuple[Close, ...], ObjectEvents]:
    """The reconciler, its notifications, its database, what to close at the end, and what takes the events of
    objects. `sources`: what the host reads for triggers besides streams of NATS."""
    settings = platform.settings
    logs.setup("reconciler", settings.log_level)
    nats = NatsConnection(settings.nats_url, ca=settings.nats_ca)
    notifier = NatsNotifier(nats, replicas=settings.nats_replicas)
    notifications = Notifications(
        notifier if settings.notify else None,
        platform.invoker,
        after_response=platform.runs_after_response,
        timer_function=platform.timer_function,
    )
    core, close = core_of(platform, notifications, nats)
    present = attendance(platform, "scheduler", core.runtimes.register)
    triggers = Triggers(core.database)
    starts = TriggerStarts(triggers, core.orchestrator)
    retention = Retention(
        Archives(core.database),
        MaintenanceTasks(core.database),
        core.results,
        lambda: notifications.request_archive(settings.pools.get(ARCHIVE, "shared")),
        archive_after_days=settings.archive_after_days,
        retention_days=settings.retention_days,
        result_ttl_days=settings.result_ttl_days,
        triggers=triggers,
    )
    instance = Reconciler(
        core.event_store,
        core.orchestrator,
        Schedules(core.database),
        notifications,
        max_deliveries=settings.max_deliveries,
        retention=retention,
        attend=present.touch,
        key_value=NatsKeyValue(nats, BUCKET, NOTE_TTL_SECONDS, replicas=settings.nats_replicas),
        triggers=TriggerSources(
            triggers, starts, {"nats": NatsSource(NatsMessages(nats), triggers), **(sources or {})}
        ),
    )
    return (
        instance,
        notifications,
        core.database,
        (present.close, platform.invoker.close, notifier.close, *close),
        ObjectEvents(triggers, starts),
    )
