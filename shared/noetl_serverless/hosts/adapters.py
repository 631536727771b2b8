"""The adapters of the host a function finds itself on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..ports import Host, Invoker, ResultStore
from ..settings import Settings

if TYPE_CHECKING:
    import aiohttp


# what the settings name the pool by whose workers write the archive, beside the kinds of tools
ARCHIVE = "archive"


class ClosingInvoker(Invoker, Protocol):
    async def close(self) -> None: ...


class UnknownHost(ValueError):
    """NOETL_HOST names a host that there is no adapter for."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What a service gets from the host that it runs on."""

    settings: Settings
    host: Host
    invoker: ClosingInvoker
    # asked for with each new connection, where credentials are short-lived
    database_url: str | Callable[[], str]
    results: Callable[[], ResultStore]
    # the way to the control plane, if it is not plain HTTP
    connect: Callable[[], aiohttp.ClientSession] | None = None
    # whether a function may go on after its answer
    background: bool = True
    # what is to be rung when a timer is due, where the host's own schedule is too slow for that
    alarm: str | None = None


def platform_of(environ: Mapping[str, str] = os.environ) -> Platform:
    """Raises UnknownHost, and ValueError naming the variable that is wrong."""
    settings = Settings.from_environment(environ)
    match settings.host:
        case "local":
            from .local.platform import local_platform

            return local_platform(settings)
        case "aws":
            from .aws.platform import aws_platform

            return aws_platform(environ)
        case _:
            raise UnknownHost(f"NOETL_HOST={settings.host!r}: there are 'local' and 'aws'")
