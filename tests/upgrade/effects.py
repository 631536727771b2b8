"""What executions do to the world outside, counted; and the gates that hold them up."""

from __future__ import annotations

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Effects:
    """POST /effects/<n>/<name> is an effect, GET /gates/<name>/<n> tells whether the gate is open.

    `guarded`: the effects that must bring a name and a password."""

    def __init__(self, guarded: Mapping[str, Mapping[str, str]], port: int = 0) -> None:
        # (n, name) -> the idempotency keys that it came with
        self.seen: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
        self.open: set[str] = set()
        # the executions that have come to their gate
        self.asked: set[int] = set()
        self._guarded = {
            name: "Basic " + base64.b64encode(f"{secret['username']}:{secret['password']}".encode()).decode()
            for name, secret in guarded.items()
        }
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="effects")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
        match method, path.strip("/").split("/"):
            case "GET", ["gates", name, n]:
                self.asked.add(int(n))
                return 200, {"open": name in self.open}
            case "POST", ["effects", n, name]:
                if headers.get("authorization") != self._guarded.get(name):
                    return 401, {"not": "with this name and password"}
                with self._lock:
                    self.seen[int(n), name].append(headers.get("idempotency-key", ""))
                return 200, {"done": name}
        return 404, {"no": path}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        effects = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, body = effects._answer(self.command, self.path, headers)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        return Handler
