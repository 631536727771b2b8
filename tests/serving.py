"""Small HTTP servers for tests of clients: in a thread, or in the event loop of the test."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiohttp import web

# serve_forever() looks this often whether it is to end, in seconds; by default every half
POLL = 0.01


def serve(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """On a free port of 127.0.0.1, until `end`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(POLL,), daemon=True).start()
    return server


def end(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Its URL."""
    server = serve(handler)
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        end(server)


@contextlib.asynccontextmanager
async def serving_app(app: web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its URL, on a free port of 127.0.0.1; what is still being answered at the end is cut off."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
