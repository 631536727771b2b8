"""The worker: runs the tools of one pool's commands."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ...bus.connection import NatsConnection
from ...bus.nats import NatsNotifier
from ...playbook.pools import CODE_KINDS
from ...ports import ResultStore
from ...results.shared_memory import shared_memory_of
from ...settings import ORCHESTRATORS, Settings
from ...telemetry import logs
from ...telemetry.presence import instance_id
from ...tools import registry
from ...tools.plans import load_plan
from ...tools.port import Tool, ToolFailure
from ...tools.python_pool import PythonPool
from ...worker.client import ControlPlane
from ...worker.orchestrator import Orchestrator
from ...worker.remote_results import RemoteResultStore
from ...worker.worker import Worker
from ..platform import Platform
from .service import Close
from .stores import check_stores, stores_of

if TYPE_CHECKING:
    from .core import Core

logger = logging.getLogger(__name__)


class DirectRefused(ValueError):
    """This worker must not reach the database."""


def is_direct(settings: Settings) -> bool:
    """Whether the worker has the orchestrator in its own process, and with it the database. Raises DirectRefused on a
    cloud for a pool that runs users' code, which could read what the process holds, and everywhere for a worker that
    has the control plane's keys."""
    if settings.orchestrator not in ORCHESTRATORS:
        raise ValueError(f"NOETL_ORCHESTRATOR={settings.orchestrator!r}: expected {' or '.join(ORCHESTRATORS)}")
    if settings.orchestrator == "remote":
        return False
    code = sorted(kind for kind in CODE_KINDS if settings.pools.get(kind, "shared") == settings.pool)
    if settings.host != "local" and code:
        # Terraform says the same when it plans
        raise DirectRefused(
            f"the pool {settings.pool} runs users' code ({', '.join(code)}), which must not run beside the database's "
            "credentials: let it be remote, or give these kinds another pool"
        )
    if settings.encryption_keys or settings.token_key:
        raise DirectRefused("a worker must not have the keys that encrypt credentials and sign tokens")
    return True


def worker(platform: Platform) -> tuple[Worker, tuple[Close, ...]]:
    """The worker, and what to close at the end."""
    settings = platform.settings
    logs.setup("worker", settings.log_level)
    check_stores(settings)
    nats = NatsConnection(settings.nats_url, ca=settings.nats_ca)
    notifier = NatsNotifier(nats, replicas=settings.nats_replicas)
    scratch = Path(settings.scratch or tempfile.gettempdir())
    shared_memory = shared_memory_of(scratch, settings.shared_memory_mb, settings.shared_memory_lease)
    client = ControlPlane(settings.control_plane_url, settings.service_token, connect=platform.connect)
    core, close = _core(platform, notifier, nats) if is_direct(settings) else (None, ())
    id = instance_id()
    instance = Worker(
        settings,
        client,
        notifier,
        stores_of(platform, nats, RemoteResultStore(client, id) if core is None else _results(core, id)),
        registry.load if core is None or settings.host == "local" else _load_without_users_code,
        PythonPool(
            settings.python_processes,
            settings.python_memory_mb,
            scratch,
            private=[Path(folder) for folder in settings.private_folders.split(os.pathsep) if folder],
        ),
        load_plan,
        id=id,
        orchestrator=None if core is None else _direct(core),
        shared_memory=shared_memory,
    )
    logger.info("results are shared between steps by %s", instance.facts["shared_memory"])
    if core is not None and core.notifies:
        core.orchestrator.connect_worker(instance, settings.pool)
    return instance, (registry.close, platform.invoker.close, notifier.close, *close)


def _load_without_users_code(kind: str) -> Tool:
    """As `registry.load`, for workers that hold credentials of the database. A playbook's registration refuses such a
    step; but the pools of the deployment may have changed since."""
    if kind in CODE_KINDS:
        message = f"{kind} runs users' code, which must not run beside the database's credentials, which this pool has"
        raise ToolFailure(kind, "tool.unavailable", message)
    return registry.load(kind)


# imported only here: a worker that reaches the orchestrator over HTTP does without its libraries


def _core(platform: Platform, notifier: NatsNotifier, nats: NatsConnection) -> tuple[Core, tuple[Close, ...]]:
    from ...orchestrator.notifications import Notifications
    from .core import core_of

    notifications = Notifications(
        notifier if platform.settings.notify else None,
        platform.invoker if platform.settings.notify else None,
        after_response=platform.runs_after_response,
        timer_function=platform.timer_function,
    )
    core, close = core_of(platform, notifications, nats)
    return core, (notifications.close, *close)


def _direct(core: Core) -> Orchestrator:
    from ...worker.direct import DirectOrchestrator

    return DirectOrchestrator(core.orchestrator)


def _results(core: Core, worker_id: str) -> ResultStore:
    from ...store.result_objects import WorkerResultStore

    return WorkerResultStore(core.database, worker_id)
