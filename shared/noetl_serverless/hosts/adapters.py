"""The adapters of the host a function finds itself on."""

from __future__ import annotations

from typing import Protocol

from ..ports import Host, Invoker
from ..settings import Settings


class ClosingInvoker(Invoker, Protocol):
    async def close(self) -> None: ...


class UnknownHost(ValueError):
    """NOETL_HOST names a host that there is no adapter for."""


def invoker_of(settings: Settings) -> ClosingInvoker:
    """Raises UnknownHost."""
    match settings.host:
        case "local":
            from .local.invoker import HttpInvoker

            return HttpInvoker(settings.function_urls, settings.service_token)
        case _:
            raise UnknownHost(f"NOETL_HOST={settings.host!r}: there is only 'local'")


def host_of(settings: Settings) -> Host:
    """Raises UnknownHost."""
    match settings.host:
        case "local":
            from .local.host import LocalHost

            return LocalHost(settings.time_budget)
        case _:
            raise UnknownHost(f"NOETL_HOST={settings.host!r}: there is only 'local'")
