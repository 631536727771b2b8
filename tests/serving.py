"""A small HTTP server in a thread, for tests of clients."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
