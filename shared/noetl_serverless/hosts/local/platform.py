"""What a function has on a laptop: its time budget and the adapters."""

from __future__ import annotations

from collections.abc import Mapping

from ...settings import Settings
from ..http.host import HttpHost
from ..platform import Platform
from .invoker import HttpInvoker
from .objects import object_store


def local_platform(environ: Mapping[str, str]) -> Platform:
    """ValueError naming the variable that is wrong."""
    # stores are made later, when a process that functions share has another function's environment, or none
    environ = dict(environ)
    settings = Settings.from_environment(environ)
    return Platform(
        settings=settings,
        # nothing ends a request here: it is given the time that it would have on a cloud
        host=HttpHost(settings.time_budget),
        invoker=HttpInvoker(settings.function_urls, settings.service_token),
        database_url=settings.database_url,
        results=lambda: object_store(settings.result_url, environ),
        objects=lambda url: object_store(url, environ),
        trigger_sources=frozenset({"file"}),
        # the clock ticks every second, which is long for a wait, a rate or a retry of less
        timer_function="reconciler",
    )
