from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
import pytest
from aiohttp import web
from tests.integration.worker.chains import Adder
from tests.integration.worker.stack import Stack
from tests.serving import serving_app

from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import (
    VERSION,
    WIRE,
    ClaimedCommand,
    ClaimRequest,
    ClaimResponse,
    CommandKey,
    HeartbeatRequest,
    HeartbeatResponse,
    Outcome,
    ReportRequest,
    ReportResponse,
    ReportResult,
)
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolOutcome
from noetl_serverless.worker.client import ControlPlane
from noetl_serverless.worker.worker import Worker

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workflow:
  - step: work
    tool: {kind: python, code: "result = 1", input: {n: "{{ workload.n }}"}}
"""
Key = tuple[str, str]


class FakeControlPlane:
    """Keeps commands in memory, checks fences, and loses answers when told to."""

    def __init__(self) -> None:
        self.token = "t0ken"
        self.plans = {"h": PLAYBOOK}
        self.pending: dict[Key, ClaimedCommand] = {}
        self.claimed: dict[Key, tuple[str, ClaimedCommand]] = {}
        self.outcomes: list[Outcome] = []
        # what an accepted outcome leads to
        self.follow: Callable[[Outcome], list[ClaimedCommand]] = lambda outcome: []
        self.claims: list[ClaimRequest] = []
        self.reports: list[ReportRequest] = []
        self.heartbeats: list[HeartbeatRequest] = []
        # the next so many answers to this path are carried out and lost, or refused with a status
        self.lose: dict[str, int] = {}
        self.refuse: dict[str, list[int]] = {}
        # paths that never answer
        self.hang: set[str] = set()
        # an answer to this path is made, and kept back until then
        self.hold: dict[str, asyncio.Event] = {}
        self.most_outcomes = 1000
        # the status to fail with at a report instead, if any
        self.stumble: Callable[[ReportRequest], int | None] = lambda request: None
        self.refused: set[Key] = set()
        self.unauthorised = 0
        # the version of the protocol that it names
        self.wire = VERSION

    def command(self, name: str, execution: str = "1", **more: Any) -> ClaimedCommand:
        values: dict[str, Any] = {
            "execution_id": execution,
            "command_id": name,
            "step": "work",
            "generation": 1,
            "kind": "step",
            "attempt": 1,
            "delivery": 1,
            "fence": 1,
            "lease_until": "2030-01-01T00:00:00Z",
            "plan": "h",
            "path": "t/t",
            "workload": {"n": name},
            "scope": {"ctx": {}, "steps": {}},
            **more,
        }
        return ClaimedCommand(**values)

    def add(self, *commands: ClaimedCommand) -> list[CommandKey]:
        for command in commands:
            self.pending[_key(command)] = command
        return [CommandKey(execution_id=each.execution_id, command_id=each.command_id) for each in commands]

    def done(self) -> list[str]:
        return sorted(outcome.command_id for outcome in self.outcomes if outcome.status == "done")

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        for name in ("claim", "report", "heartbeat"):
            app.router.add_post(f"/api/commands/{name}", self._handle)
        return app

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _handle(self, request: web.Request) -> web.Response:
        name = request.path.rsplit("/", 1)[1]
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            self.unauthorised += 1
        if self.refuse.get(name):
            return web.Response(status=self.refuse[name].pop(0), body=b'{"detail":"not now"}')
        body = await request.read()
        if name in self.hang:
            await asyncio.sleep(3600)
        if name == "report" and len(orjson.loads(body)["outcomes"]) > self.most_outcomes:
            return web.Response(status=413, body=b'{"detail":"too many"}')
        if name == "report":
            report = ReportRequest.model_validate_json(body)
            if (status := self.stumble(report)) is not None:
                return web.Response(status=status, body=b'{"detail":"it stumbled"}')
        answer = getattr(self, f"_{name}")(body)
        if name in self.hold:
            await self.hold[name].wait()
        if self.lose.get(name):
            self.lose[name] -= 1
            assert request.transport is not None
            request.transport.close()
        headers = {WIRE: str(self.wire)}
        return web.Response(body=answer.model_dump_json().encode(), content_type="application/json", headers=headers)

    def _claim(self, body: bytes) -> ClaimResponse:
        request = ClaimRequest.model_validate_json(body)
        self.claims.append(request)
        if request.recover:
            holding = {_key(key) for key in request.holding}
            commands = [
                command
                for key, (worker, command) in self.claimed.items()
                if worker == request.worker_id and key not in holding
            ]
        else:
            wanted = [_key(key) for key in request.commands] or list(self.pending)
            commands = self._take(wanted, request.limit, request.worker_id)
        return ClaimResponse(commands=commands, plans=self._texts(commands, request.plans))

    def _report(self, body: bytes) -> ReportResponse:
        request = ReportRequest.model_validate_json(body)
        self.reports.append(request)
        results, follow = [], []
        for outcome in request.outcomes:
            status = self._settle(request.worker_id, outcome)
            results.append(ReportResult(**_name(outcome), status=status))
            if status == "accepted":
                follow += self.follow(outcome)
        self.add(*follow)
        commands = self._take([_key(each) for each in follow], request.capacity, request.worker_id)
        return ReportResponse(results=results, commands=commands, plans=self._texts(commands, request.plans))

    def _settle(self, worker: str, outcome: Outcome) -> Any:
        key = _key(outcome)
        held = self.claimed.get(key)
        if held is None or held[0] != worker or held[1].fence != outcome.fence:
            return "stale"
        del self.claimed[key]
        if key in self.refused:
            return "refused"
        self.outcomes.append(outcome)
        if outcome.status == "released":
            self.pending[key] = held[1].model_copy(update={"fence": held[1].fence + 1})
        return "accepted"

    def _heartbeat(self, body: bytes) -> HeartbeatResponse:
        request = HeartbeatRequest.model_validate_json(body)
        self.heartbeats.append(request)
        lost = [key for key in request.commands if _key(key) not in self.claimed]
        return HeartbeatResponse(lost=[CommandKey(**_name(key)) for key in lost])

    def _take(self, keys: list[Key], limit: int, worker: str) -> list[ClaimedCommand]:
        taken = [key for key in keys if key in self.pending][:limit]
        for key in taken:
            self.claimed[key] = (worker, self.pending.pop(key))
        return [self.claimed[key][1] for key in taken]

    def _texts(self, commands: list[ClaimedCommand], known: list[str]) -> dict[str, str]:
        return {each.plan: self.plans[each.plan] for each in commands if each.plan not in known}


def _key(named: CommandKey) -> Key:
    return named.execution_id, named.command_id


def _name(named: CommandKey) -> dict[str, str]:
    return {"execution_id": named.execution_id, "command_id": named.command_id}


class FakeTool:
    """Runs `behave` on the `n` of each call, and counts."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.behave: Callable[[Any], Any] = lambda n: n
        self.running = 0
        self.most = 0

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        self.ran.append(call.input["n"])
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            value = self.behave(call.input["n"])
            if asyncio.iscoroutine(value):
                value = await value
        finally:
            self.running -= 1
        return ToolOutcome("ok", data=value)

    async def close(self) -> None:
        return None


class FakePool:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


def own(name: str) -> str:
    """The execution of a command that has one of its own."""
    return str(crc32(name.encode()))


class WorkerHarness:
    """A worker, its control plane over real HTTP, and a bus in memory."""

    def __init__(self, url: str, plane: FakeControlPlane, scratch: Path) -> None:
        self.url = url
        self.plane = plane
        self.notifier = MemoryNotifier()
        self.tool = FakeTool()
        self.pool = FakePool()
        self.settings = Settings(lease=30.0, max_in_flight=8, scratch=str(scratch))
        self.clients: list[ControlPlane] = []

    def worker(self, grace: float = 1.0, **settings: Any) -> Worker:
        client = ControlPlane(self.url, self.plane.token)
        self.clients.append(client)
        load: Any = lambda kind: self.tool  # noqa: E731
        pool: Any = self.pool
        return Worker(
            replace(self.settings, **settings),
            client,
            self.notifier,
            ResultStores(FsspecResultStore(f"memory://{secrets.token_hex(6)}")),
            load,
            pool,
            load_plan,
            grace=grace,
        )

    async def send(self, *names: str, execution: str | None = None) -> None:
        """Put commands into the plane and pointers onto the bus; each in an execution of its own by default."""
        commands = [self.plane.command(name, execution or own(name)) for name in names]
        await self.notifier.publish("shared", self.plane.add(*commands))


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[WorkerHarness]:
    plane = FakeControlPlane()
    async with serving_app(plane.app()) as url:
        harness = WorkerHarness(url, plane, tmp_path)
        yield harness
        for client in harness.clients:
            await client.close()


@pytest.fixture
def tool() -> Adder:
    return Adder()


@pytest.fixture
async def stack(tmp_path: Path, tool: Adder) -> AsyncIterator[Stack]:
    """The real orchestrator, and a worker whose only tool counts."""
    stack = Stack(tmp_path, lambda kind: tool)
    stack.client.delay = 0.005
    yield stack
    await stack.worker.close()
