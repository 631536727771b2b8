"""More workers of the same stack, each a process of its own, as a cloud starts more instances of one function."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.table import functions_folder

from .stack import Bench

LONGEST_START = 60.0


@asynccontextmanager
async def more_workers(bench: Bench, count: int) -> AsyncIterator[list[str]]:
    """The URLs of `count` workers that are ready, and that nobody invokes but the caller."""
    ports = [free_port() for _ in range(count)]
    processes = [_start(bench, port) for port in ports]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        await asyncio.gather(*(ready(url) for url in urls))
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@asynccontextmanager
async def invoked(urls: list[str]) -> AsyncIterator[None]:
    """Each is invoked again as soon as it has answered."""

    async def keep_invoking(session: aiohttp.ClientSession, url: str) -> None:
        while True:
            async with session.post(url, json={"pool": "shared"}) as response:
                await response.read()

    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.ensure_future(keep_invoking(session, url)) for url in urls]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _start(bench: Bench, port: int) -> subprocess.Popen[bytes]:
    source = functions_folder() / "worker" / "main.py"
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "functions_framework", "--asgi", "--target", "function"),
            *("--source", str(source), "--host", "127.0.0.1", "--port", str(port)),
        ],
        env=bench.environment("worker"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def ready(url: str) -> None:
    async with asyncio.timeout(LONGEST_START), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
