"""The gateway of a deployment on any cloud, over its HTTP API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import requests


class Gateway:
    """Signed in, it is asked what a user may ask."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()

    def sign_in(self, id_token: str) -> None:
        answer = self._post("/api/auth/login", {"id_token": id_token})
        self._session.headers["Authorization"] = f"Bearer {answer['session_token']}"

    def is_ready(self) -> bool:
        """Whether it reaches its session store and the control plane."""
        return self._session.get(f"{self.url}/readyz", timeout=60).ok

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """The control plane's REST below /noetl. AssertionError with the answer if it is not a success."""
        answer = self._session.request(method, f"{self.url}/noetl/{path}", json=body, params=query, timeout=60)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def register(self, text: str) -> None:
        self.ask("POST", "catalog/register", {"content": text})

    def deliver(self, trigger: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
        """A webhook, whose sender is not signed in: the answer's status and document."""
        answer = requests.post(f"{self.url}/hooks/{trigger}", data=body, headers=dict(headers), timeout=60)
        return answer.status_code, answer.json()

    def run(self, path: str, workload: Mapping[str, Any], patience: float) -> dict[str, Any]:
        """The state of a run at its end. TimeoutError if it does not end in `patience` seconds."""
        started = self.ask("POST", "execute", {"path": path, "payload": dict(workload)})
        return self.wait(started["execution_id"], patience)

    def wait(self, execution_id: str, patience: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        while True:
            state: dict[str, Any] = self.ask("GET", f"executions/{execution_id}")
            if state["status"] != "RUNNING":
                return state
            if time.monotonic() > deadline:
                raise TimeoutError(f"{execution_id} is still running after {patience:g} s: {state}")
            time.sleep(0.5)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = self._session.post(f"{self.url}{path}", json=dict(body), timeout=60)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()
