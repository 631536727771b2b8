"""Requests to a cloud's APIs, sent by threads over kept-alive connections."""

from __future__ import annotations

import asyncio
import http.client
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ...errors import Unavailable
from .connections import Body, Connections, Read

MAX_TRIES = 3
FIRST_PAUSE_SECONDS = 0.1
TIMEOUT_SECONDS = 10.0
# requests under way at once: a worker may read results for all its commands
MAX_CONNECTIONS = 32

# asked before each try, since a signature or a token may have expired by then
Headers = Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class ApiError(Exception):
    """A service answered with an error. `code` is its own: AccessDenied, NOT_FOUND, ..."""

    def __init__(self, service: str, status: int, code: str, message: str) -> None:
        super().__init__(f"{service} answered {status} {code}: {message}")
        self.status = status
        self.code = code

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.status >= 500 or self.status == 429


class Transport:
    """Every request is retried while the failure is transient; then what `error_of` makes of the answer, or Unavailable
    if there was none."""

    def __init__(self, error_of: Callable[[str, Response], ApiError], tries: int = MAX_TRIES) -> None:
        self._error_of = error_of
        self._tries = tries
        self._connections = Connections()
        self._threads = ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="cloud-api")

    async def send(
        self,
        service: str,
        method: str,
        url: str,
        headers: Headers,
        body: Body = b"",
        *,
        timeout: float = TIMEOUT_SECONDS,
        tries: int | None = None,
        accept: Collection[int] = (),
        read: Read | None = None,
        fresh: bool = False,
    ) -> Response:
        """`service` is its name in errors; `url` is encoded already; `timeout` is in seconds, for each try; `accept`:
        what is an answer beside the 200s. `read`, in a thread, and `fresh`: as in `Connections.exchange`."""
        tries = tries or self._tries
        for attempts_left in reversed(range(tries)):
            try:
                answer = await self._once(method, url, await headers(), body, timeout, read, fresh)
                if answer.status < 300 or answer.status in accept:
                    return answer
                error = self._error_of(service, answer)
                if not attempts_left or not error.is_transient:
                    raise error
            except (OSError, http.client.HTTPException) as error:
                if not attempts_left:
                    raise Unavailable(f"{service} does not answer: {type(error).__name__}") from error
            await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (tries - 1 - attempts_left) * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connections.close()

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: Body, *more: Any) -> Response:
        exchange = self._connections.exchange
        loop = asyncio.get_running_loop()
        return Response(*await loop.run_in_executor(self._threads, exchange, method, url, headers, body, *more))
