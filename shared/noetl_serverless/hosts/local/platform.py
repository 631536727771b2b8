"""The adapters of a laptop."""

from __future__ import annotations

from ...results.store import FsspecResultStore
from ...settings import Settings
from ..platform import Platform
from .host import LocalHost
from .invoker import HttpInvoker


def local_platform(settings: Settings) -> Platform:
    return Platform(
        settings,
        LocalHost(settings.time_budget),
        HttpInvoker(settings.function_urls, settings.service_token),
        settings.database_url,
        lambda: FsspecResultStore(settings.result_url),
    )
