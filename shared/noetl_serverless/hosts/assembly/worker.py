"""The worker: runs the tools of one pool's commands."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ...bus.connection import NatsConnection
from ...bus.nats import NatsNotifier
from ...telemetry import logs
from ...tools import registry
from ...tools.plans import load_plan
from ...tools.python_pool import PythonPool
from ...worker.client import ControlPlane
from ...worker.worker import Worker
from ..platform import Platform
from .service import Close


def worker(platform: Platform) -> tuple[Worker, tuple[Close, ...]]:
    """The worker, and what to close at the end."""
    settings = platform.settings
    logs.setup("worker", settings.log_level)
    notifier = NatsNotifier(NatsConnection(settings.nats_url, ca=settings.nats_ca), replicas=settings.nats_replicas)
    scratch = Path(settings.scratch or tempfile.gettempdir())
    instance = Worker(
        settings,
        ControlPlane(settings.control_plane_url, settings.service_token, connect=platform.connect),
        notifier,
        platform.results(),
        registry.load,
        PythonPool(settings.python_processes, settings.python_memory_mb, scratch),
        load_plan,
    )
    return instance, (registry.close, platform.invoker.close, notifier.close)
