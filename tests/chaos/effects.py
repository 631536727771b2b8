"""What the playbooks do to the world: a server that takes note of every request, and is at times a bad one."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from tests.serving import end, serve

# of a hundred effects, so many are answered with an error, not at all, or late, the first time
REFUSED, UNANSWERED, LATE = 20, 10, 10
DELAY = 0.4


@dataclass(frozen=True, slots=True)
class Effect:
    """One request: POST /EXECUTION/NAME, when it came (seconds since 1970)."""

    execution_id: str
    name: str
    key: str
    at: float


def answer_to(name: str) -> dict[str, int]:
    """Follows from the name alone, so that it can be predicted."""
    return {"n": zlib.crc32(name.encode()) % 1000}


class Effects:
    """Listens on 127.0.0.1 from when it is made until it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Effect] = []
        self._times: Counter[tuple[str, str]] = Counter()
        self._server = serve(_handler(self.take))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def seen(self) -> list[Effect]:
        with self._lock:
            return list(self._seen)

    def take(self, path: str, key: str) -> str:
        """Notes the request; what is done with it: "refuse", "drop", "late" or "answer"."""
        execution_id, _, name = path.strip("/").partition("/")
        with self._lock:
            self._seen.append(Effect(execution_id, name, key, time.time()))
            self._times[execution_id, name] += 1
            again = self._times[execution_id, name] > 1
        lot = zlib.crc32(path.encode()) % 100
        if again or lot >= REFUSED + UNANSWERED + LATE:
            return "answer"
        if lot < REFUSED:
            return "refuse"
        return "drop" if lot < REFUSED + UNANSWERED else "late"

    def close(self) -> None:
        end(self._server)


def _handler(take: Callable[[str, str], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            do = take(self.path, self.headers.get("Idempotency-Key") or "")
            if do == "drop":
                self.close_connection = True
                return
            if do == "late":
                time.sleep(DELAY)
            _, _, name = self.path.strip("/").partition("/")
            body = json.dumps(answer_to(name)).encode()
            # who asked may have been killed
            with contextlib.suppress(ConnectionError):
                self.send_response(503 if do == "refuse" else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    return Handler
