from __future__ import annotations

import asyncio

from aiohttp import web
from tests.serving import serving_app

from noetl_serverless.hosts.local.tick import tick


async def test_ticks_never_overlap_and_go_on_after_a_failure() -> None:
    under_way = 0
    seen: list[str] = []
    enough = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        seen.append(request.headers["Authorization"])
        if len(seen) == 4:
            enough.set()
        await asyncio.sleep(0.03)
        under_way -= 1
        return web.Response(status=500 if len(seen) == 1 else 200)

    app = web.Application()
    app.router.add_post("/", handle)
    async with serving_app(app) as url:
        ticking = asyncio.create_task(tick(f"{url}/", "token", 0.01, 5))
        async with asyncio.timeout(30):
            await enough.wait()
        ticking.cancel()
    assert set(seen) == {"Bearer token"}
