"""What a host needs to know of an assembled service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

Close = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Service:
    """`close` is awaited in order when the process ends; `on_drain` is called as soon as it is known to end."""

    app: ASGIApp
    close: tuple[Close, ...]
    on_drain: Callable[[], None] | None = None
