"""What a function has on a laptop: its time budget and the adapters."""

from __future__ import annotations

from ...results.store import FsspecResultStore
from ...settings import Settings
from ..platform import Platform
from .invoker import HttpInvoker


class LocalHost:
    """Nothing ends an invocation here; each is given the same time, so that it behaves as it would on a cloud."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def remaining(self) -> float:
        return self._seconds


def local_platform(settings: Settings) -> Platform:
    return Platform(
        settings=settings,
        host=LocalHost(settings.time_budget),
        invoker=HttpInvoker(settings.function_urls, settings.service_token),
        database_url=settings.database_url,
        results=lambda: FsspecResultStore(settings.result_url),
    )
