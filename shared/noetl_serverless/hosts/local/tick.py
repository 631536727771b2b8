"""The schedule of the local host: does what a cloud's scheduler does for the functions that have one."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

_log = logging.getLogger(__name__)


async def tick(url: str, token: str, every: float, timeout: float) -> None:
    """POST to `url` every `every` seconds, one at a time, until cancelled. A tick that fails is lost."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout), headers={"Authorization": f"Bearer {token}"}
    ) as session:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                async with session.post(url, json={}) as response:
                    await response.read()
                    if response.status >= 400:
                        _log.warning("%s answered the tick with %d", url, response.status)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                _log.debug("a tick of %s was lost: %r", url, error)
            due = max(due + every, loop.time())
            await asyncio.sleep(due - loop.time())
