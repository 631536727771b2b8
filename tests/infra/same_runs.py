"""Runs that have the same digest on every host: the digests are in tests/golden/digests.json."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from localstack.usage import PLAYBOOKS

# where the flagship's files are is in its log
PORT = 48765
GOLDEN = Path(__file__).parents[1] / "golden" / "digests.json"


def golden() -> dict[str, str]:
    """The digest of the flagship and of the fan-out."""
    found: dict[str, str] = json.loads(GOLDEN.read_text())
    return found


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return None


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextlib.contextmanager
def serve_flights() -> Iterator[str]:
    """The files that the flagship fetches, at the same URL every time: one after the other, if several want to."""
    with open(Path(tempfile.gettempdir()) / f"noetl-flights-{os.getuid()}.lock", "w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        handler = functools.partial(_Quiet, directory=str(PLAYBOOKS / "data"))
        with _Server(("127.0.0.1", PORT), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            try:
                yield f"http://127.0.0.1:{PORT}"
            finally:
                server.shutdown()
