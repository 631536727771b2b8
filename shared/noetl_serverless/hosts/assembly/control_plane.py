"""The control plane: the only function that decides."""

from __future__ import annotations

from ...bus.connection import NatsConnection
from ...bus.nats import NatsNotifier
from ...control_plane.app import create_app, no_objects
from ...orchestrator.notifications import Notifications
from ...telemetry import logs
from ..platform import ARCHIVE, Platform
from .attendance import attendance, attended
from .core import core_of
from .service import Service


def control_plane(platform: Platform) -> Service:
    settings = platform.settings
    logs.setup("control_plane", settings.log_level)
    nats = NatsConnection(settings.nats_url, ca=settings.nats_ca)
    notifier = NatsNotifier(nats, replicas=settings.nats_replicas)
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
    core, close = core_of(platform, notifications, nats)
    present = attendance(platform, "server_api", core.runtimes.register)
    app = create_app(
        settings,
        database=core.database,
        orchestrator=core.orchestrator,
        catalog=core.catalog,
        watchers=core.watchers,
        results=core.results,
        objects=platform.objects or no_objects,
        trigger_sources={"nats", *platform.trigger_sources},
        request_archive=lambda: notifications.request_archive(settings.pools.get(ARCHIVE, "shared")),
    )
    return Service(
        attended(app, present),
        (present.close, notifications.close, platform.invoker.close, notifier.close, *close),
    )
