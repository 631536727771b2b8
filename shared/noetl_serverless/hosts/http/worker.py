"""A worker as an HTTP function: each request is one drain."""

from __future__ import annotations

from ...worker.service import make_app
from ..assembly.service import Service
from ..assembly.worker import worker
from ..platform import Platform


def service(platform: Platform) -> Service:
    instance, close = worker(platform)
    app = make_app(instance, platform.host, invoker=platform.invoker, runs_after_response=platform.runs_after_response)
    return Service(app, close, on_drain=instance.stop)
