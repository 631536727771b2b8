"""One lazy connection to NATS, replaced whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from ..errors import Unavailable

T = TypeVar("T")

logger = logging.getLogger(__name__)

# failures between this process and the server, as opposed to mistakes of ours
FAILURES = (nats.errors.Error, OSError, asyncio.TimeoutError)
# the stream, its consumer or the bucket is not there: a new or wiped server
MISSING = (nats.js.errors.NoStreamResponseError, nats.js.errors.NotFoundError, nats.errors.NoRespondersError)


class NatsConnection:
    """Connects on first use and after every loss.

    nats-py's own reconnect is off: it buffers what is published while the server is away, and a function
    that was frozen finds its socket dead without any notice.
    """

    def __init__(self, url: str, *, ca: str = "", connect_timeout: float = 2.0, retry_after: float = 0.5) -> None:
        """`ca`: the PEM of an authority to trust, for tls:// servers, instead of the machine's."""
        self._url = url
        self._ca = ca
        self._connect_timeout = connect_timeout
        self._retry_after = retry_after
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._failed_at = float("-inf")
        # how many connections there have been
        self.connection_number = 0

    async def client(self) -> Client:
        """A connected client. Raises Unavailable if no server answers, at once if none did a moment ago."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # the event loop of the old client is gone, and the client with it
            self._client, self._loop, self._lock = None, loop, asyncio.Lock()
        if self._client is not None and self._client.is_connected:
            return self._client
        async with self._lock:
            if self._client is not None and self._client.is_connected:
                return self._client
            if loop.time() - self._failed_at < self._retry_after:
                raise Unavailable("NATS does not answer")
            return await self._connect(loop)

    async def jetstream(self) -> JetStreamContext:
        client = await self.client()
        return client.jetstream(timeout=self._connect_timeout)

    async def run_with_retry(self, operation: Callable[[], Awaitable[T]], create: Callable[[], Awaitable[None]]) -> T:
        """Run `operation`, and again after `create` if something is missing, or over a new connection if this one is
        lost.

        Raises Unavailable.
        """
        number = self.connection_number
        try:
            return await operation()
        except MISSING:
            pass
        except FAILURES:
            await self.drop(number)
        number = self.connection_number
        try:
            try:
                return await operation()
            except MISSING:
                await create()
                return await operation()
        except FAILURES as error:
            await self.drop(number)
            raise Unavailable("NATS does not answer") from error

    async def drop(self, number: int | None = None) -> None:
        """Give up this connection, so that the next use makes a new one; with `number`, only if it has that number."""
        if number is not None and number != self.connection_number:
            # another task saw it fail first, and there is a new one
            return
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            try:
                await asyncio.wait_for(client.close(), 1.0)
            except FAILURES as error:
                logger.debug("closing a lost NATS connection: %s", error)

    async def close(self) -> None:
        await self.drop()

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Client:
        servers = self._url.split(",")
        random.shuffle(servers)
        failure: BaseException | None = None
        for server in servers:
            try:
                # each has its share of the time: one that does not respond must not use up the others'
                self._client = await self._connect_to(server, self._connect_timeout / len(servers))
            except FAILURES as error:
                failure = error
                continue
            self.connection_number += 1
            return self._client
        self._failed_at = loop.time()
        raise Unavailable("NATS does not answer") from failure

    async def _connect_to(self, server: str, timeout: float) -> Client:
        client = Client()
        options: dict[str, Any] = {
            "servers": [server],
            "allow_reconnect": False,
            # without it a refused connection is tried again until the timeout
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0.05,
            "connect_timeout": timeout,
            "ping_interval": 20,
            "max_outstanding_pings": 2,
            "error_cb": _log_error,
        }
        if self._ca:
            options["tls"] = ssl.create_default_context(cadata=self._ca)
        await asyncio.wait_for(client.connect(**options), timeout)
        return client


async def _log_error(error: Exception) -> None:
    logger.debug("NATS connection: %r", error)
