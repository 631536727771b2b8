"""The stores that a function has for results."""

from __future__ import annotations

from ...bus.connection import NatsConnection
from ...bus.nats_results import NatsResultStore
from ...ports import ResultStore
from ...results.stores import ResultStores
from ...settings import Settings
from ..platform import Platform


def stores_of(platform: Platform, nats: NatsConnection, postgres: ResultStore) -> ResultStores:
    """The object store of the platform, if there is one; entries of NATS; and `postgres`."""
    settings = platform.settings
    return ResultStores(
        platform.results() if settings.result_url else None,
        kv=NatsResultStore(nats, replicas=settings.nats_replicas) if settings.nats_url else None,
        postgres=postgres,
        auto=_auto(settings),
    )


def check_stores(settings: Settings) -> None:
    """ValueError, when a function starts, for settings that name a store which it does not have, or need one."""
    if "kv" in _auto(settings) and not settings.nats_url:
        raise ValueError(f"NOETL_RESULT_AUTO={settings.result_auto!r} names kv: set NOETL_NATS_URL")
    if settings.archive_after_days > 0 and not settings.result_url:
        raise ValueError("NOETL_ARCHIVE_AFTER_DAYS: the archive needs an object store: set NOETL_RESULT_URL")


def _auto(settings: Settings) -> list[str]:
    return [name for name in settings.result_auto.split(",") if name]
