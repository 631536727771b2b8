"""A server of PostgreSQL that agrees to TLS and then does not speak it."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator

# the request for TLS, and what is no TLS record
_REQUEST_BYTES = 8
_NO_TLS = b"no TLS record of any version\n"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        # a client that has seen enough hangs up
        with contextlib.suppress(ConnectionError):
            self.request.recv(_REQUEST_BYTES)
            self.request.sendall(b"S")
            # the client begins, and waits for the answer
            self.request.recv(1)
            self.request.sendall(_NO_TLS)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def broken_tls() -> Iterator[int]:
    """Its port on 127.0.0.1."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
