"""The worker: runs the tools of one pool's commands."""

import tempfile
from pathlib import Path

from noetl_serverless.bus.nats import NatsNotifier
from noetl_serverless.hosts.adapters import host_of, invoker_of
from noetl_serverless.hosts.functions_framework_app import serve
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.settings import Settings
from noetl_serverless.telemetry import logs
from noetl_serverless.tools import registry
from noetl_serverless.tools.plans import load_plan
from noetl_serverless.tools.python_pool import PythonPool
from noetl_serverless.worker.client import ControlPlane
from noetl_serverless.worker.drain import Worker
from noetl_serverless.worker.service import make_app

settings = Settings.from_environment()
logs.setup("worker", settings.log_level)
notifier = NatsNotifier(settings.nats_url)
invoker = invoker_of(settings)
worker = Worker(
    settings,
    ControlPlane(settings.control_plane_url, settings.service_token),
    notifier,
    FsspecResultStore(settings.result_url),
    registry.load,
    PythonPool(settings.python_processes, settings.python_memory_mb, Path(settings.scratch or tempfile.gettempdir())),
    load_plan,
)
function = serve(
    make_app(worker, host_of(settings), invoker=invoker),
    on_drain=worker.stop,
    close=(registry.close, invoker.close, notifier.close),
)
