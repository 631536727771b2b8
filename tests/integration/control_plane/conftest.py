"""The control plane over a real PostgreSQL and the real orchestrator, called as an ASGI app: no sockets, no hints."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from starlette.applications import Starlette

from noetl_serverless.control_plane.app import create_app
from noetl_serverless.control_plane.tokens import Role, mint
from noetl_serverless.control_plane.watchers import Watchers
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.settings import Settings
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.runtimes import Runtimes

TOKEN_KEY = "k" * 32
SETTINGS = Settings(token_key=TOKEN_KEY, encryption_keys=f"k1:{base64.b64encode(b'0123456789abcdef' * 2).decode()}")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Client:
    app: Starlette
    token: str
    headers: dict[str, str] = field(default_factory=dict)

    def of(self, role: Role) -> Client:
        return Client(self.app, mint(TOKEN_KEY, role, f"test-{role}", 3600))

    async def get(self, path: str, /, **query: Any) -> Answer:
        return await self.call("GET", path, query=query)

    async def post(self, path: str, body: Any = None, /, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", path, None if body is None else orjson.dumps(body), headers=named)

    async def delete(self, path: str) -> Answer:
        return await self.call("DELETE", path)

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | list[bytes] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        path, _, query_string = path.partition("?")
        given = {"authorization": f"Bearer {self.token}", **self.headers, **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": (query_string or urlencode(query or {})).encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        chunks = body if isinstance(body, list) else [body or b""]
        coming = iter(chunks)
        left = len(chunks)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            nonlocal left
            if not left:
                # a client that stays until the end of a streamed answer
                await asyncio.Event().wait()
            left -= 1
            return {"type": "http.request", "body": next(coming), "more_body": left > 0}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_url, 4)
    yield database
    await database.close()


@dataclass
class Clock:
    """The control plane's, ahead of the real one by `minutes`."""

    minutes: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=self.minutes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchers() -> Watchers:
    return Watchers()


@pytest.fixture
def results_url(tmp_path: Path) -> str:
    return tmp_path.as_uri()


@pytest.fixture
def settings(results_url: str) -> Settings:
    return replace(SETTINGS, result_url=results_url)


@pytest.fixture
def app(database: Database, watchers: Watchers, settings: Settings, clock: Clock) -> Starlette:
    catalog = PostgresCatalog(database)
    results = ResultStores(FsspecResultStore(settings.result_url))
    notifications = Notifications(None, None)
    orchestrator = Orchestrator(
        PostgresEventStore(database),
        Plans(catalog),
        notifications,
        on_commit=watchers.notify,
        results=lambda: results,
        register=Runtimes(database).register,
    )
    return create_app(
        settings,
        database=database,
        orchestrator=orchestrator,
        catalog=catalog,
        watchers=watchers,
        results=lambda: results,
        now=clock.now,
    )


@pytest.fixture
def user(app: Starlette) -> Client:
    """What the gateway sends on behalf of users."""
    return Client(app, mint(TOKEN_KEY, "gateway", "test-gateway", 3600))


@pytest.fixture
def worker(user: Client) -> Client:
    return user.of("worker")


@pytest.fixture
def playbook() -> str:
    return """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: two, path: demo/two}
workload: {a: {b: 1, c: 2}}
workflow:
  - step: first
    tool: {kind: python, code: "result = 1"}
    set: {ctx.seen: "{{ output.data }}"}
    next: {arcs: [{step: second}]}
  - step: second
    tool: {kind: python, code: "result = 2"}
"""


@pytest.fixture
async def registered(user: Client, playbook: str) -> dict[str, Any]:
    answer = await user.post("/api/catalog/register", {"content": playbook, "resource_type": "Playbook"})
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


@pytest.fixture
async def started(user: Client, registered: dict[str, Any]) -> str:
    """The id of an execution of the playbook."""
    answer = await user.post("/api/execute", {"path": "demo/two"})
    assert answer.status == 200, answer.body
    return str(answer.json["execution_id"])


@dataclass
class FakeWorker:
    """Does what a worker does, one command at a time; every outcome is what the test says."""

    client: Client

    async def claim(self) -> list[dict[str, Any]]:
        answer = await self.client.post("/api/commands/claim", {"worker_id": "w-1", "limit": 10})
        assert answer.status == 200, answer.body
        return answer.json["commands"]  # type: ignore[no-any-return]

    async def report(self, command: dict[str, Any], **outcome: Any) -> dict[str, Any]:
        named = {key: command[key] for key in ("execution_id", "command_id", "fence")}
        body = {"worker_id": "w-1", "outcomes": [{**named, "status": "done", **outcome}], "capacity": 10}
        answer = await self.client.post("/api/commands/report", body)
        assert answer.status == 200, answer.body
        return answer.json  # type: ignore[no-any-return]

    async def finish(self) -> None:
        """Run whatever is pending to its end."""
        commands = await self.claim()
        while commands:
            commands = (await self.report(commands[0], data={"n": 1}))["commands"] + commands[1:]


@pytest.fixture
def hands(worker: Client) -> FakeWorker:
    return FakeWorker(worker)
