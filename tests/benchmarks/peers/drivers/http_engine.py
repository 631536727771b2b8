"""The client of engines whose runs are started and awaited with one HTTP request."""

from __future__ import annotations

from typing import Any

import aiohttp

from .measure import LONGEST_RUN
from .workloads import CONCURRENT


def session(headers: dict[str, str] | None = None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=2 * CONCURRENT, keepalive_timeout=60.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=LONGEST_RUN),
    )


async def post(client: aiohttp.ClientSession, url: str, body: Any) -> Any:
    async with client.post(url, json=body) as response:
        if response.status >= 400:
            raise RuntimeError(f"{response.status} {(await response.text())[:400]}")
        return await response.json(content_type=None)
