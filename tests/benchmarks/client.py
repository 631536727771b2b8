"""A client of the control plane: one session, connections kept alive."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
import orjson

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
# seconds that one execution may take before the measurement is given up
LONGEST_RUN = 600.0
EVENTS_PAGE = 5000


class Refused(RuntimeError):
    """The control plane answered with an error."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`seconds` by the clock of the control plane; `events` is how many the log has."""

    execution_id: str
    status: str
    started: float
    ended: float
    result: Any
    error: Any

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class Client:
    def __init__(self, url: str, token: str, connections: int = 64) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=60.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=LONGEST_RUN),
        )

    async def close(self) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[Any, dict[str, str]]:
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(method, self._url + path, data=data) as response:
            content = await response.read()
            if response.status >= 400:
                raise Refused(f"{method} {path}: {response.status} {content[:2000].decode(errors='replace')}")
            return orjson.loads(content), {name.lower(): value for name, value in response.headers.items()}

    async def register(self, text: str) -> None:
        await self.call("POST", "/api/catalog/register", {"content": text, "resource_type": "Playbook"})

    async def execute(self, path: str, payload: dict[str, Any] | None = None) -> str:
        answer, _ = await self.call("POST", "/api/execute", {"path": path, "payload": payload or {}})
        return str(answer["execution_id"])

    async def wait(self, execution_id: str) -> None:
        """Long poll for the end, as a client does that wants to know at once."""
        path = f"/api/executions/{execution_id}/events?event_type=playbook.completed&wait=30"
        deadline = time.monotonic() + LONGEST_RUN
        while True:
            _, headers = await self.call("GET", path)
            if headers["noetl-execution-status"] in ENDED:
                return
            _check(deadline, execution_id)

    async def look(self, execution_id: str, pause: float) -> None:
        """Look now and then, so that what is measured is not the looking."""
        deadline = time.monotonic() + LONGEST_RUN
        while (await self.get(execution_id))["status"] not in ENDED:
            await asyncio.sleep(pause)
            _check(deadline, execution_id)

    async def get(self, execution_id: str) -> dict[str, Any]:
        answer, _ = await self.call("GET", f"/api/executions/{execution_id}?include_events=false")
        return dict(answer)

    async def ended(self, execution_id: str) -> Ended:
        """Of an execution that has ended; RuntimeError unless it completed."""
        answer = await self.get(execution_id)
        if answer["status"] != "COMPLETED":
            raise RuntimeError(f"{answer['path']} {execution_id}: {answer['status']} {answer['error']}")
        return Ended(
            execution_id,
            answer["status"],
            instant(answer["start_time"]),
            instant(answer["end_time"]),
            answer["result"],
            answer["error"],
        )

    async def run(self, path: str, payload: dict[str, Any] | None = None, pause: float = 0.05) -> Ended:
        """Start, look every `pause` seconds until it has ended, and check that it completed."""
        execution_id = await self.execute(path, payload)
        await self.look(execution_id, pause)
        return await self.ended(execution_id)

    async def events(self, execution_id: str, event_type: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        kind = f"&event_type={event_type}" if event_type else ""
        while True:
            after = found[-1]["seq"] if found else 0
            path = f"/api/executions/{execution_id}/events?after={after}&limit={EVENTS_PAGE}{kind}"
            page, _ = await self.call("GET", path)
            found += page
            if len(page) < EVENTS_PAGE:
                return found

    async def events_count(self, execution_id: str) -> int:
        _, headers = await self.call("GET", f"/api/executions/{execution_id}/events?limit=1")
        return int(headers["noetl-last-seq"])

    async def recent(self, path: str, count: int) -> list[dict[str, Any]]:
        answer, _ = await self.call("GET", f"/api/executions?path={path}&page_size={min(1000, count)}")
        return list(answer)


def instant(text: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def _check(deadline: float, execution_id: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"execution {execution_id} has not ended after {LONGEST_RUN:g} s")
