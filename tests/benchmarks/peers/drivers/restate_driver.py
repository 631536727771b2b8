"""Restate: one restate-server, one Python service process (hypercorn, HTTP/2), and the blocking HTTP ingress.

PEERS_RESTATE_SERVER names the server's executable.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import restate

from .http_engine import post, session
from .measure import blob, check, fib, free_port, process, run_until_orphaned, until, wait_for_port
from .workloads import Awaited, measure_all

DIRECTORY = Path(os.environ["PEERS_DIR"])
# parallel steps of one invocation at a time: as many as our loop has in flight
WINDOW = 500

service = restate.Service("bench", inactivity_timeout=timedelta(minutes=10), abort_timeout=timedelta(minutes=20))


async def trivial(i: int) -> dict[str, int]:
    return {"i": i}


def fib_of(n: int) -> dict[str, int]:
    return {"v": fib(n)}


@service.handler()
async def chain(ctx: restate.Context, n: int) -> dict[str, int]:
    result = {"i": -1}
    for i in range(n):
        result = await ctx.run_typed(f"s{i}", trivial, i=i)
    return result


@service.handler()
async def fibs(ctx: restate.Context, given: dict[str, int]) -> bool:
    for i in range(given["count"]):
        await ctx.run_typed(f"s{i}", fib_of, n=given["n"])
    return True


@service.handler()
async def fan_out(ctx: restate.Context, n: int) -> int:
    total = 0
    for begin in range(0, n, WINDOW):
        steps = [ctx.run_typed(f"s{i}", trivial, i=i) for i in range(begin, min(n, begin + WINDOW))]
        await restate.gather(*steps)
        total += sum([(await step)["i"] for step in steps])
    return total


@service.handler()
async def payload(ctx: restate.Context, mb: int) -> int:
    async def make() -> str:
        return blob(mb)

    made = await ctx.run_typed("make", make, restate.RunOptions(max_attempts=1))

    async def use() -> int:
        return len(made)

    return int(await ctx.run_typed("use", use))


class Restate:
    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self._url = url
        self._client = client

    async def chain(self, length: int) -> None:
        check(await self._call("chain", length), {"i": length - 1})

    async def fibs(self, n: int, count: int) -> None:
        await self._call("fibs", {"n": n, "count": count})

    async def fan_out(self, count: int) -> None:
        check(await self._call("fan_out", count), count * (count - 1) // 2)

    async def history(self, length: int) -> None:
        await self.chain(length)

    async def payload(self, mb: int) -> None:
        # it retries a message that is too large for it without end
        check(await asyncio.wait_for(self._call("payload", mb), 30), mb * 1_000_000)

    async def _call(self, handler: str, argument: Any) -> Any:
        return await post(self._client, f"{self._url}/bench/{handler}", argument)


def serve(port: int) -> None:
    import hypercorn.asyncio
    import hypercorn.config

    threading.Thread(target=run_until_orphaned, daemon=True).start()
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2147483647
    config.keep_alive_timeout = 3600
    asyncio.run(hypercorn.asyncio.serve(restate.app([service]), config))


def main() -> None:
    ingress, admin, node, port = (free_port() for _ in range(4))
    home = DIRECTORY / "restate"
    home.mkdir(parents=True)
    environment = {
        **os.environ,
        "HOME": str(home),
        "RESTATE_BASE_DIR": str(home),
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_ADVERTISED_HOST": "127.0.0.1",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
        "RESTATE_NODE_NAME": "bench",
    }
    with (
        process([os.environ["PEERS_RESTATE_SERVER"]], DIRECTORY / "restate.log", environment),
        process(
            [sys.executable, "-m", "tests.benchmarks.peers.drivers.restate_driver", "--serve", port],
            DIRECTORY / "restate-service.log",
        ),
    ):
        wait_for_port(port)
        until(lambda: _deploy(admin, port), "restate-server does not take the deployment")
        loop = asyncio.new_event_loop()
        client = loop.run_until_complete(_session())
        engine = Restate(f"http://127.0.0.1:{ingress}", client)
        until(lambda: _answers(engine, loop), "restate-server does not answer")
        for _ in range(20):
            loop.run_until_complete(engine.chain(5))
        measure_all(Awaited(engine, loop))
        loop.run_until_complete(client.close())


def _deploy(admin: int, port: int) -> bool:
    body = json.dumps({"uri": f"http://127.0.0.1:{port}"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments", body, {"content-type": "application/json"}, method="POST"
    )
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except (OSError, urllib.error.HTTPError):
        return False
    return True


def _answers(engine: Restate, loop: asyncio.AbstractEventLoop) -> bool:
    try:
        loop.run_until_complete(engine.chain(1))
    except (RuntimeError, aiohttp.ClientError):
        return False
    return True


async def _session() -> aiohttp.ClientSession:
    return session()


if __name__ == "__main__":
    serve(int(sys.argv[2])) if "--serve" in sys.argv else main()
