"""A server of files that can be told to fail."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileServer(ThreadingHTTPServer):
    """`asked` counts the requests of each path; the first `failures[path]` of them get 503."""

    daemon_threads = True

    def __init__(self, folder: Path, failures: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        self.failures = failures
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fails(self, path: str) -> bool:
        with self.lock:
            self.requests[path] += 1
            return self.requests[path] <= self.failures.get(path, 0)


class _Handler(SimpleHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        if self.server.fails(self.path):
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        return None


@contextlib.contextmanager
def served(folder: Path, failures: Mapping[str, int] | None = None) -> Iterator[FileServer]:
    with FileServer(folder, failures or {}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
