"""All functions of a stack in one process and one event loop, each its own app of the Functions Framework on its own
port.

`python -m noetl_serverless.hosts.local.functions` reads the functions from its standard input: see `program`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import uvicorn
from functions_framework.aio import create_asgi_app
from starlette.types import ASGIApp, Receive, Scope, Send

from ...telemetry import logs
from ..http.framework import KEEP_ALIVE_SECONDS
from ..process import SharedProcess, sharing
from .program import FunctionProgram, from_input


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # the process has one handler for all servers
        yield


async def serve(programs: Sequence[FunctionProgram]) -> None:
    """Serve the functions in this order until SIGTERM, which ends them in the opposite order: a worker that ends
    releases its commands through the control plane."""
    process = SharedProcess()
    servers: list[_Server] = []

    def stop(*_: object) -> None:
        for server in servers:
            server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    serving: list[asyncio.Task[None]] = []
    for program in programs:
        server = _Server(
            uvicorn.Config(
                _attributed(load(program, process), program.name),
                host="127.0.0.1",
                port=program.port,
                lifespan="off",
                proxy_headers=False,
                log_config=None,
                log_level="warning",
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        servers.append(server)
        serving.append(asyncio.create_task(server.serve()))
        await server.listening.wait()
        # its first request starts it, and has it notice SIGTERM before those that were started earlier
        await asyncio.to_thread(_request, f"http://127.0.0.1:{program.port}/livez")
    await asyncio.gather(*serving)


def load(program: FunctionProgram, process: SharedProcess) -> ASGIApp:
    """The app of a function, which reads its own environment and no other's while it is loaded."""
    before = dict(os.environ)
    os.environ.update(program.environment)
    try:
        with sharing(process), logs.log_service(program.name):
            app: ASGIApp = create_asgi_app(program.target, program.source, "http")
            return app
    finally:
        os.environ.clear()
        os.environ.update(before)


def _attributed(app: ASGIApp, service: str) -> ASGIApp:
    async def attributed(scope: Scope, receive: Receive, send: Send) -> None:
        with logs.log_service(service):
            await app(scope, receive, send)

    return attributed


def _request(url: str) -> None:
    """Whatever the answer is: whoever started this process looks whether the function is ready."""
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=30) as response:
        response.read()


def main() -> None:
    import uvloop

    programs = from_input(sys.stdin.buffer.read())
    sys.path[:] = [path for path in sys.path if path]
    uvloop.run(serve(programs))


if __name__ == "__main__":
    main()
