"""A server that keeps what it was sent: the other end of queues, jobs and subscriptions in the tests."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from tests.serving import serve

PATIENCE = 20.0


@dataclass(slots=True)
class Arrival:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    def claims(self) -> dict[str, Any]:
        """Of the ID token that came along."""
        token = self.headers["Authorization"].removeprefix("Bearer ")
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        return claims


@dataclass(slots=True)
class Recorder:
    """Answers with `statuses`, in turn, and then with 200; each answer takes `seconds`."""

    statuses: list[int] = field(default_factory=list)
    seconds: float = 0.0
    arrivals: list[Arrival] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self) -> ThreadingHTTPServer:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status = recorder.record(Arrival(self.path, dict(self.headers), body, time.time()))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return None

        return serve(Handler)

    def record(self, arrival: Arrival) -> int:
        with self._lock:
            self.arrivals.append(arrival)
            status = self.statuses.pop(0) if self.statuses else 200
            self.busy += 1
            self.most_busy = max(self.busy, self.most_busy)
        time.sleep(self.seconds)
        with self._lock:
            self.busy -= 1
        return status

    def wait(self, count: int) -> list[Arrival]:
        until = time.monotonic() + PATIENCE
        while len(self.arrivals) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.arrivals) >= count
        return self.arrivals
