"""Invokes functions over HTTP."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import Any

import aiohttp

_log = logging.getLogger(__name__)

# what is due within this many seconds is invoked together: a burst of timers costs twenty invocations a second
TOGETHER_SECONDS = 0.05
# invocations that wait for their time
MAX_PLANNED = 10_000


class HttpInvoker:
    """POSTs to a function's URL and does not wait for the answer, which comes when the function's work is
    done.

    At most one invocation per function is under way. One that comes meanwhile is remembered and follows it, since the
    work it announces may have come too late for the one under way. An invocation that fails is lost: the reconciler
    finds what it was for.
    """

    def __init__(self, urls: Mapping[str, str], token: str, timeout: float = 900.0) -> None:
        self._urls = dict(urls)
        self._token = token
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        # function -> the payload of the invocation that follows the one under way
        self._next: dict[str, dict[str, Any] | None] = {}
        # (function, the end of an interval of TOGETHER_SECONDS, in these) -> what is to be invoked then
        self._planned: dict[tuple[str, int], dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None:
        if function not in self._urls:
            _log.warning("no URL for function %s: it is not invoked", function)
        elif delay > 0:
            self._plan(function, payload or {}, delay)
        else:
            self._invoke(function, payload or {})

    async def close(self) -> None:
        """Stop waiting for invocations under way; the functions continue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _invoke(self, function: str, payload: dict[str, Any]) -> None:
        if function in self._next:
            # merged, so that nothing that one of several invocations requested is lost
            self._next[function] = {**(self._next[function] or {}), **payload}
            return
        self._next[function] = None
        self._spawn(self._keep_posting(function, payload))

    def _plan(self, function: str, payload: dict[str, Any], delay: float) -> None:
        due = asyncio.get_running_loop().time() + delay
        key = (function, math.ceil(due / TOGETHER_SECONDS))
        if key in self._planned:
            self._planned[key].update(payload)
        elif len(self._planned) < MAX_PLANNED:
            self._planned[key] = dict(payload)
            self._spawn(self._later(key))
        else:
            _log.debug("too many invocations of %s wait for their time: one is lost", function)

    async def _later(self, key: tuple[str, int]) -> None:
        function, interval = key
        await asyncio.sleep(interval * TOGETHER_SECONDS - asyncio.get_running_loop().time())
        self._invoke(function, self._planned.pop(key))

    async def _keep_posting(self, function: str, payload: dict[str, Any] | None) -> None:
        try:
            while payload is not None:
                await self._post(function, payload)
                payload, self._next[function] = self._next[function], None
        finally:
            del self._next[function]

    async def _post(self, function: str, payload: dict[str, Any]) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"Authorization": f"Bearer {self._token}"},
            )
        try:
            async with self._session.post(self._urls[function], json=payload) as response:
                await response.read()
                if response.status >= 400:
                    _log.warning("%s answered an invocation with %d", function, response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.debug("an invocation of %s was lost: %r", function, error)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
