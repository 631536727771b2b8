"""Google's servers as far as one function sees them: a metadata server, and one API that notes what it is asked."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from tests import serving

from noetl_serverless.hosts.gcp.api import Api
from noetl_serverless.hosts.gcp.metadata import Metadata

EMAIL = "noetl-worker@project.iam.gserviceaccount.com"


def id_token(audience: str, lifetime: float = 3600.0) -> str:
    claims = {"aud": audience, "email": EMAIL, "exp": int(time.time() + lifetime)}
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), "signature"])


class Google:
    """`answers`: what the API answers, in order, the last again and again. `lifetime`: seconds, of new tokens."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [(200, {})]
        self.requests: list[tuple[str, str, Any]] = []
        self.tokens: list[str | None] = []
        self.asked_metadata: list[str] = []
        self.lifetime = 3600.0
        # what the API answers instead
        self.raw: bytes | None = None
        # what the metadata server answers instead
        self.broken: bytes | None = None
        google = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer(json.loads(body or b"null"))

            def _answer(self, body: Any) -> None:
                if self.path.startswith("/computeMetadata/"):
                    self._metadata()
                    return
                google.requests.append((self.command, self.path, body))
                google.tokens.append(self.headers.get("Authorization"))
                status, answer = google.answers.pop(0) if len(google.answers) > 1 else google.answers[0]
                self._send(status, json.dumps(answer).encode() if google.raw is None else google.raw)

            def _metadata(self) -> None:
                google.asked_metadata.append(self.path)
                assert self.headers["Metadata-Flavor"] == "Google"
                if google.broken is not None:
                    self._send(200, google.broken)
                    return
                if "/identity?" in self.path:
                    self._send(200, id_token("https://service", google.lifetime).encode())
                    return
                token = f"token-{len(google.asked_metadata)}"
                answer = {"access_token": token, "expires_in": google.lifetime, "token_type": "Bearer"}
                self._send(200, json.dumps(answer).encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                return None

        self.server = serving.serve(Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"


@pytest.fixture
def google() -> Iterator[Google]:
    made = Google()
    yield made
    serving.end(made.server)


@pytest.fixture
async def metadata(google: Google) -> AsyncIterator[Metadata]:
    made = Metadata(google.host)
    yield made
    await made.close()


@pytest.fixture
async def api(google: Google, metadata: Metadata) -> AsyncIterator[Api]:
    made = Api(metadata, google.url)
    yield made
    await made.close()


def error(code: int, status: str, message: str = "no") -> tuple[int, dict[str, Any]]:
    return code, {"error": {"code": code, "status": status, "message": message}}
