"""What a service gets from the host that it runs on."""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(kw_only=True, frozen=True, slots=True)
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
    # what is to be invoked when a timer is due, where the host's own schedule is too slow for that
    alarm: str | None = None
