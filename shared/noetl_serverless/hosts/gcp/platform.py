"""The adapters of a Cloud Run function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ...ports import ResultStore
from ...settings import Settings
from ..cloud.configuration import settings_with_secrets
from ..cloud.database import database_url_of
from ..cloud.secrets import CachedSecrets
from ..http.host import HttpHost
from ..platform import Platform
from .api import Api
from .google import Google
from .invoker import CloudTasksInvoker
from .metadata import Metadata
from .secrets import SecretManagerVault

if TYPE_CHECKING:
    import aiohttp

# makes the result store of a URL
Results = Callable[[Google, str], ResultStore]


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpPlatform(Platform):
    """A platform whose parts have the types that serving needs."""

    host: HttpHost
    api: Api


async def gcp_platform(environ: Mapping[str, str], results: Results | None = None) -> GcpPlatform:
    """Reads the function's secrets. `results` is for a function that reads or writes results.

    Raises MissingSecret, ApiError, Unavailable.
    """
    google = Google.of(environ)
    vault = SecretManagerVault(google.api)
    secrets = CachedSecrets(vault, Settings.from_environment(environ).secrets)
    settings = await settings_with_secrets(environ, secrets)
    return GcpPlatform(
        settings=settings,
        host=HttpHost(settings.time_budget),
        invoker=CloudTasksInvoker(google.api, settings.function_urls, per_invocation=settings.max_in_flight),
        # not cached: the password may have changed by the next connection
        database_url=database_url_of(
            settings, CachedSecrets(vault, settings.secrets, ttl=0.0), asyncio.get_running_loop()
        ),
        results=partial(results or _no_results, google, settings.result_url),
        objects=partial(results or _no_results, google),
        connect=_session(google.metadata, settings.control_plane_url),
        # an instance gets no CPU between its requests
        runs_after_response=False,
        # Cloud Scheduler has a resolution of one minute
        timer_function="reconciler",
        trigger_sources=frozenset({"gs", "pubsub"}),
        api=google.api,
    )


def _no_results(google: Google, url: str) -> ResultStore:
    raise TypeError("this function has no result store")


def _session(metadata: Metadata, url: str) -> Callable[[], aiohttp.ClientSession]:
    def session() -> aiohttp.ClientSession:
        from .session import identified_session

        return identified_session(metadata, url)

    return session
