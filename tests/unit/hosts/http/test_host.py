from __future__ import annotations

import asyncio
from typing import Any

from noetl_serverless.hosts.http.host import HttpHost


async def test_what_remains_counts_from_the_beginning_of_the_request() -> None:
    host = HttpHost(10.0)
    seen: dict[str, float] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/long":
            await asyncio.sleep(0.05)
        # what a request starts has its time, too
        seen[scope["path"]] = await asyncio.create_task(remaining())

    async def remaining() -> float:
        return host.remaining()

    timed: Any = host.timed(app)
    await asyncio.gather(*(timed({"type": "http", "path": path}, None, None) for path in ("/long", "/short")))
    assert seen["/long"] < 9.96 < seen["/short"] <= 10.0


def test_without_a_request_all_of_it_remains() -> None:
    assert HttpHost(10.0).remaining() == 10.0
