"""The HTTP side of a control plane: the product's own routes and middleware, from the bytes of a request to the status
and the bytes of its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noetl_serverless.control_plane.encode import encode
from noetl_serverless.control_plane.operation import Operation
from noetl_serverless.control_plane.routes import OPERATIONS
from noetl_serverless.control_plane.tokens import Role, Verifier, mint
from noetl_serverless.control_plane.watchers import Watchers
from noetl_serverless.engine.events import Event
from noetl_serverless.errors import NotFound, Problem, TooLarge
from noetl_serverless.limits import PAGE_BYTES
from noetl_serverless.orchestrator.claims import Claims
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.triggers import TriggerStarts
from noetl_serverless.store.executions import ResultRange
from noetl_serverless.telemetry.http import EXCEPTION_HANDLERS, HttpMiddleware, as_problem
from noetl_serverless.testing.rows import loaded
from noetl_serverless.worker.direct import DirectOrchestrator

from .loop import Process
from .memory_keychain import keychain
from .trigger_links import TriggersLink
from .web_secret import WebhookSecrets

if TYPE_CHECKING:
    from .links import EventStoreLink
    from .world import World

KEY = "k" * 32
VERIFIER = Verifier(KEY)
# of the answers to workers, where things go wrong, the one in so many that is compared with what is stored
LOOKED_AT = 4
# of a manifest, in a page
PARTS = 4
WORKERS = {"claimCommands", "reportOutcomes", "heartbeat", "getManifest", "acquireSecret", "storeSecret"}
SERVED = {operation.name: operation for operation in OPERATIONS}


def _token(role: Role) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {mint(KEY, role, 'simulation', 1e9, now=1_700_000_000.0)}".encode()


TOKENS = {name: _token("worker" if name in WORKERS else "gateway") for name in SERVED}


@dataclass(frozen=True, slots=True)
class Called:
    """A request, as its route has taken it apart."""

    operation: str
    path: str
    names: dict[str, str]
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    query: str = ""


def called(
    path: str, body: bytes | None = None, key: str | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Called:
    headers = headers if key is None else ((b"idempotency-key", key.encode()), *headers)
    path, _, query = path.partition("?")
    names: dict[str, str] = {}
    match path.split("/")[2:]:
        case ["commands", "claim"]:
            name = "claimCommands"
        case ["commands", "report"]:
            name = "reportOutcomes"
        case ["commands", "heartbeat"]:
            name = "heartbeat"
        case ["keychain", "acquire"]:
            name = "acquireSecret"
        case ["keychain", "store"]:
            name = "storeSecret"
        case ["results", "manifest", id, step, generation]:
            name, names = "getManifest", {"execution_id": id, "step": step, "generation": generation}
        case ["execute"]:
            name = "execute"
        case ["executions", id, ("cancel" | "pause" | "resume" | "restart") as verb]:
            name, names = f"{verb}Execution", {"execution_id": id}
        case ["executions", id, "signals", signal]:
            name, names = "signalExecution", {"execution_id": id, "signal": signal}
        case ["hooks", *trigger]:
            name, names = "receiveWebhook", {"trigger": "/".join(trigger)}
        case _:
            raise AssertionError(path)
    return Called(name, path, names, body or b"", headers, query)


class Server:
    def __init__(self, orchestrator: Orchestrator, log: EventStoreLink, process: Process, world: World) -> None:
        self._process = process
        self._world = world
        link = OrchestratorLink(orchestrator, world)
        self._direct = DirectLink(link, self)
        triggers = TriggersLink(world.triggers, world, process)

        def now() -> datetime:
            return datetime.fromtimestamp(process.wall(), UTC)

        services: Any = SimpleNamespace(
            orchestrator=link,
            executions=History(log),
            verifier=VERIFIER,
            watchers=Watchers(),
            keychain=keychain(world, process),
            replays=Logs(log),
            triggers=triggers,
            trigger_starts=TriggerStarts(triggers, orchestrator, now),
            credentials=WebhookSecrets(),
            now=now,
        )
        self._apps = {
            name: HttpMiddleware(_Noticed(_route(SERVED[name], services), self)) for name in TOKENS if name in _WANTED
        }

    def direct(self) -> DirectOrchestrator:
        """For a worker in the same process."""
        answering: Any = self._direct
        return DirectOrchestrator(answering)

    async def answer(self, call: Called) -> tuple[int, bytes]:
        """Where nothing is to go wrong, one request is served at a time, so that the order of events hangs on nothing
        but the order of the requests."""
        if self._world.calm:
            async with self._world.turnstile:
                return await self._answer(call)
        return await self._answer(call)

    async def _answer(self, call: Called) -> tuple[int, bytes]:
        body, status, chunks = call.body, 500, []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                chunks.append(message["body"])

        scope: Scope = {
            "type": "http",
            "method": SERVED[call.operation].method,
            "path": call.path,
            "path_params": call.names,
            "query_string": call.query.encode(),
            "headers": [TOKENS[call.operation], *call.headers],
            "starlette.exception_handlers": ({}, EXCEPTION_HANDLERS),
        }
        await self._apps[call.operation](scope, receive, send)
        return status, b"".join(chunks)

    def check(self, call: str, body: bytes) -> None:
        if call == "/api/commands/report" and len(body) > self._world.body_limit:
            raise TooLarge("the body is too large")

    def noticed(self, error: Exception, path: str) -> None:
        """What is answered as a bare 500 is a mistake of ours."""
        if type(as_problem(error)) is Problem:
            self._world.caught(error, f"{self._process}: {path}")


_WANTED = {*WORKERS, "execute", "receiveWebhook"} | {
    f"{verb}Execution" for verb in ("cancel", "pause", "resume", "signal", "restart")
}


def _route(operation: Operation, services: Any) -> ASGIApp:
    app: ASGIApp = operation.route(services).app
    return app


class _Noticed:
    """Between the middleware and the route."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._server.check(scope["path"], (await receive())["body"])
            await self._app(scope, receive, send)
        except Exception as error:
            self._server.noticed(error, scope["path"])
            raise


class OrchestratorLink:
    """The orchestrator as the routes call it; what it answers to workers is looked at."""

    def __init__(self, orchestrator: Orchestrator, world: World) -> None:
        self._world = world
        self._orchestrator = orchestrator
        self._answers = 0
        self.start, self.heartbeat, self.controls = orchestrator.start, orchestrator.heartbeat, orchestrator.controls
        self.restart = orchestrator.restart
        self.for_older_worker = orchestrator.for_older_worker
        self.plan, self.plan_of = orchestrator.plan, orchestrator.plan_of
        self.states = orchestrator.states

    async def claim(self, request: Any) -> Any:
        answer = await self._orchestrator.claim(request)
        await self._compare(answer.commands, ())
        return answer

    async def report(self, request: Any) -> Any:
        answer = await self._orchestrator.report(request)
        self._world.log.check_answer(request, answer)
        await self._compare(answer.commands, request.running)
        return answer

    async def _compare(self, commands: Sequence[Any], running: Sequence[Any]) -> None:
        """A command is the same to the last byte, whether it follows from a report, is claimed from what is at hand, or
        is made anew from what is stored."""
        self._answers += 1
        if not self._world.calm and self._answers % LOOKED_AT:
            return
        for command in commands:
            log, key = self._world.log, (command.execution_id, command.command_id)
            row = log.commands.get(key)
            if row is None or (row.status, row.fence) != ("claimed", command.fence):
                continue
            lease, case = (
                replace(log.commands.as_lease(key), lease_until=command.lease_until),
                loaded(log.executions[key[0]]),
            )
            (again,) = await Claims(log, self._orchestrator._playbooks).to_commands([lease], {key[0]: case}, running)
            if command.ahead is None or command.ahead.head != case.head:
                command, again = (each.model_copy(update={"ahead": None}) for each in (command, again))
            if encode(command) != encode(again):
                self._world.log.broken("a command is not what is stored", f"{encode(command)!r} / {encode(again)!r}")


class DirectLink:
    """The orchestrator as a worker in the same process calls it."""

    def __init__(self, link: OrchestratorLink, server: Server) -> None:
        self._link = link
        self._server = server

    async def claim(self, request: Any) -> Any:
        return await self._noticed(self._link.claim(request))

    async def report(self, request: Any) -> Any:
        return await self._noticed(self._link.report(request))

    async def heartbeat(self, request: Any) -> Any:
        return await self._noticed(self._link.heartbeat(request))

    async def _noticed(self, answering: Awaitable[Any]) -> Any:
        try:
            return await answering
        except Exception as error:
            self._server.noticed(error, "directly")
            raise


class History:
    """`archive.history.History`, as far as it is asked."""

    def __init__(self, log: EventStoreLink) -> None:
        self._log = log

    async def get(self, execution_id: int) -> Any:
        raise NotFound(f"there is no execution {execution_id}")

    async def follow(self, execution_id: int, *, after: int, type: str, limit: int) -> tuple[list[Event], int, str]:
        events = await self._log.events(str(execution_id))
        found = [event for event in events if event.seq > after and event.type == type]
        return found[:limit], events[-1].seq, ""

    async def loop_results(
        self, execution_id: int, step: str, generation: int, after: int, most: int
    ) -> tuple[list[ResultRange], bool]:
        """A few at a time, so that there are pages in small worlds, too."""
        found = await self._log.parts(str(execution_id), step, generation)
        parts = [ResultRange(part["start"], part["end"], part.get("data"), part.get("ref")) for part in found]
        kept = sorted((part for part in parts if part.end > after), key=lambda part: part.start)
        few = PARTS if most == PAGE_BYTES else len(kept)
        return kept[:few], len(kept) > few


class Logs:
    """`archive.replays.ArchivedReplays`, as far as it is asked."""

    def __init__(self, log: EventStoreLink) -> None:
        self._log = log

    async def log(self, execution_id: int, limit: int) -> tuple[list[Event], dict[str, Any]]:
        events = await self._log.events(str(execution_id))
        found = await self._log.load([str(execution_id)])
        return events[:limit], dict(found[str(execution_id)].state.workload)
