"""Functions other than workers in the registry: they serve requests, and have nothing to finish between two of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ...protocol import Instance, Kind
from ...telemetry.presence import ALONE_AFTER_SECONDS, Presence, described, instance_id
from ..platform import Platform

logger = logging.getLogger(__name__)

# seconds between two heartbeats of a function that exists only while it serves requests
REQUEST_SECONDS = 60.0
# how long an instance that ends waits for the registry
END_SECONDS = 2.0


class Attendance:
    """Where a process goes on between two requests, it is `ready` and sends heartbeats. Elsewhere it is `idle`, and
    sends one after a request, at times."""

    def __init__(self, presence: Presence, register: Callable[[Instance], Awaitable[object]], *, runs_on: bool) -> None:
        self._registry = presence
        self._register = register
        self._runs_on = runs_on
        self._keeping: asyncio.Task[None] | None = None

    async def touch(self) -> None:
        """A request was served. It never fails."""
        if self._runs_on:
            if self._keeping is None:
                self._keeping = asyncio.create_task(self._keep())
        elif (instance := self._registry.due("idle", after=REQUEST_SECONDS)) is not None:
            await self._write(instance)

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._registry.shown is not None:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._write(self._registry.now("ended"))
            except TimeoutError:
                logger.info("the registry does not answer; this instance will look dead")

    async def _keep(self) -> None:
        while True:
            await self._write(self._registry.now("ready"))
            await asyncio.sleep(ALONE_AFTER_SECONDS)

    async def _write(self, instance: Instance) -> None:
        try:
            await self._register(instance)
        except Exception as error:
            self._registry.forget()
            logger.info("the registry was not reached: %s", type(error).__name__)


def attendance(
    platform: Platform, kind: Kind, register: Callable[[Instance], Awaitable[object]], uri: str | None = None
) -> Attendance:
    settings = platform.settings
    name = f"{settings.function}@{instance_id()}"
    instance = described(kind, name, uri=uri, meta={"function": settings.function, "host": settings.host})
    return Attendance(Presence(instance), register, runs_on=platform.runs_after_response)


def attended(app: ASGIApp, attendance: Attendance) -> ASGIApp:
    """The app, which shows itself after the answer to a request."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope["type"] == "http":
            await attendance.touch()

    return served
