"""What a service gets from the host that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..ports import Host, Invoker, ResultStore
from ..settings import Settings
from .process import SharedProcess, current_process

if TYPE_CHECKING:
    import aiohttp


# the key in the settings' pools, beside the kinds of tools, of the pool whose workers write the archive
ARCHIVE = "archive"


class ClosingInvoker(Invoker, Protocol):
    async def close(self) -> None: ...


@dataclass(kw_only=True, frozen=True, slots=True)
class Platform:
    """What a service gets from the host that it runs on."""

    settings: Settings
    host: Host
    invoker: ClosingInvoker
    # called for each new connection, if credentials are short-lived
    database_url: str | Callable[[], str]
    results: Callable[[], ResultStore]
    # makes the session to the control plane, if that is not plain HTTP
    connect: Callable[[], aiohttp.ClientSession] | None = None
    # the objects below a URL such as s3://bucket, as the function may read them; None: it reads none
    objects: Callable[[str], ResultStore] | None = None
    # what triggers may listen to besides streams of NATS, which the reconciler's entry point reads or is told of
    trigger_sources: frozenset[str] = frozenset()
    # whether a function may continue after its answer
    runs_after_response: bool = True
    # what the function shares with others, if they run in one process
    process: SharedProcess | None = field(default_factory=current_process)
    # the function to invoke when a timer is due, if the host's own schedule is too slow for that
    timer_function: str | None = None
