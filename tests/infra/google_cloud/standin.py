"""The stand-ins as a process of their own, and Google's clients of it: for tests, and for those who deploy to it."""

from __future__ import annotations

import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from google.oauth2.credentials import Credentials

from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program, wait_until

PROJECT = "noetl-test"
REGION = "europe-west3"
START_SECONDS = 30.0
_ROOT = Path(__file__).parents[3]


class Standin:
    """Started when made. `token` is the administrator's."""

    def __init__(self, home: Path, *arguments: str, port: int = 0) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = secrets.token_hex(24)
        command = [sys.executable, "-m", "tests.infra.google_cloud", "--port", str(self.port), "--home", str(home)]
        given = ["--project", PROJECT, "--region", REGION, "--token", self.token, *arguments]
        self.process = Process(
            Program("google", [*command, *given], home / "google.log", environment=dict(os.environ), directory=_ROOT)
        )
        wait_until(self._answers, self.process, START_SECONDS)

    def stop(self) -> None:
        self.process.stop()

    def admin(self, verb: str, path: str, body: Any = None) -> Any:
        """Calls `/_standin/PATH`. RuntimeError if it is refused."""
        return call(f"{self.url}/_standin/{path}", verb, body, self.token)

    def credentials(self, email: str | None = None) -> Credentials:
        """The administrator's, or those of a person or service account."""
        token = self.token if email is None else self.admin("POST", "tokens", {"email": email})["accessToken"]
        # google-auth has no types
        return Credentials(token)  # type: ignore[no-untyped-call]

    def client(self, kind: Any, email: str | None = None) -> Any:
        """A client of Google's, over REST."""
        transport = kind.get_transport_class("rest")
        host = f"127.0.0.1:{self.port}"
        return kind(transport=transport(host=host, url_scheme="http", credentials=self.credentials(email)))

    def _answers(self) -> bool:
        try:
            self.admin("GET", "calls")
        except (OSError, RuntimeError):
            return False
        return True


def call(url: str, verb: str, body: Any = None, token: str | None = None) -> Any:
    """A JSON API's answer. RuntimeError with what it says if it refuses."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=verb), timeout=120) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(f"{error.code} {error.read().decode(errors='replace')}") from None
