"""A stack to break: its processes by role, a client that does not give up, and how long it takes to be back."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from tests.audit import audit, events_of, stored_events
from tests.e2e.stack import Stack
from tests.eventually import committed, while_progressing
from tests.log_rules import Finding

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.local.environment import Addresses, environment_of
from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program, wait_until
from noetl_serverless.hosts.local.secrets import Secrets, service_token
from noetl_serverless.hosts.table import functions_folder, load_functions
from noetl_serverless.settings import Settings
from noetl_serverless.store.connection import connect

ENDED = ("COMPLETED", "FAILED", "CANCELLED")
FUNCTIONS = ("control_plane", "reconciler", "worker", "gateway")
# the process that serves them all, if they share one
TOGETHER = "functions"
# a page of events with less than this is not cut short by its size
SMALL_BYTES = 500_000
# seconds without progress after which nothing is expected to happen any more
PATIENCE = 120.0


class Away(OSError):
    """No stack runs."""


class BrokenStack(Stack):
    """A stack of its own, tuned, with `lease` seconds after which what a dead worker held goes to another. Functions
    have processes of their own, unless `processes` is "together"."""

    def __init__(self, data: Path, **settings: object) -> None:
        super().__init__(data)
        self._environment: dict[str, str] = {}
        # a process for each pool would be three more
        pools = "all" if settings.get("processes") == "together" else ""
        self.set(**{"processes": "separate", "local_pools": pools, **settings})

    @property
    def is_together(self) -> bool:
        return self._environment["NOETL_PROCESSES"] == "together"

    def set(self, **settings: object) -> None:
        """Tune it otherwise, from the next start on."""
        self._environment |= {f"NOETL_{name.upper()}": str(value) for name, value in settings.items()}

    def environment(self, **variables: str) -> None:
        """Further variables that it has from the next start on."""
        self._environment |= variables

    def up(self) -> None:
        with mock.patch.dict(os.environ, self._environment):
            self.ask("up", "--detach")

    def down(self) -> None:
        self.ask("down")

    @property
    def layout(self) -> Layout:
        return Layout(self.data)

    @property
    def running(self) -> dict[str, Any]:
        """Its run.json. Away if it does not run."""
        found = self.layout.running()
        if found is None:
            raise Away("the stack does not run")
        return found

    @property
    def database_url(self) -> str:
        return str(self.running["database_url"])

    def query(self, sql: str, **values: Any) -> list[Any]:
        """Its rows, once PostgreSQL takes connections: what was killed may still recover."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection = connect(self.database_url)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            with contextlib.closing(connection) as database:
                return list(database.run(sql, **values) or [])

    # -- waiting, which a busy machine makes longer

    def _committed(self) -> int | None:
        try:
            return committed(self.database_url)
        except (OSError, KeyError):
            return None

    def patience(self, seconds: float = PATIENCE) -> Callable[[], bool]:
        """Whether to wait on: until nothing has been committed for `seconds`."""
        return while_progressing(self._committed, seconds)

    # -- a client

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """What the control plane answers, asked again while it or what it needs is away; RuntimeError if it refuses."""
        token = Secrets.load(self.layout.secrets).operator_token
        content = None if body is None else json.dumps(body).encode()
        lasts: Callable[[], bool] | None = None
        while True:
            try:
                request = urllib.request.Request(
                    f"{self.running['control_plane_url']}{path}",
                    content,
                    {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})},
                    method=method,
                )
                with urllib.request.urlopen(request, timeout=30) as response:
                    return json.load(response)
            except (OSError, ValueError, http.client.HTTPException) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from error
                lasts = lasts or self.patience()
                if not lasts():
                    raise TimeoutError(f"{method} {path}: {error!r}") from error
            time.sleep(0.1)

    def register(self, text: str) -> None:
        self.call("POST", "/api/catalog/register", {"content": text, "resource_type": "Playbook"})

    def execute(self, path: str, workload: dict[str, Any] | None = None, *, key: str | None = None) -> str:
        """The id of the execution; a `key` starts one only, however often it has to be said."""
        headers = {"Idempotency-Key": key} if key else {}
        return str(
            self.call("POST", "/api/execute", {"path": path, "payload": workload or {}}, headers)["execution_id"]
        )

    def entry(self, execution_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/api/executions/{execution_id}?include_events=false"))

    def log(self, execution_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page = self.call("GET", f"/api/executions/{execution_id}/events?after={after}&limit=1000")
            found += page
            # a page of large events has fewer
            if not page or (len(page) < 1000 and len(json.dumps(page)) < SMALL_BYTES):
                return found

    def wait(self, ids: Iterable[str], patience: float = PATIENCE) -> dict[str, dict[str, Any]]:
        """Their entries, once all have ended."""
        ended: dict[str, dict[str, Any]] = {}
        waiting = list(ids)
        lasts = self.patience(patience)
        while waiting:
            entry = self.entry(waiting[0])
            if entry["status"] in ENDED:
                ended[waiting.pop(0)] = entry
            elif not lasts():
                raise TimeoutError(self.stuck(waiting))
            else:
                time.sleep(0.1)
        return ended

    def stuck(self, ids: Iterable[str]) -> str:
        """Where executions stand that should have ended."""
        lines = []
        for execution_id in list(ids)[:10]:
            commands = self.query(
                """SELECT command_id, status, deliveries, worker, lease_until - now(), due_at - now()
                FROM noetl.outstanding WHERE execution_id = :id""",
                id=execution_id,
            )
            last = [(event["seq"], event["event_type"], event["step"]) for event in self.log(execution_id)[-3:]]
            lines.append(f"{execution_id} does not end: out {commands}, last {last}")
        return "\n".join(lines)

    def audit(self, ids: Iterable[str]) -> list[Finding]:
        """What is wrong with these executions by our own rules, by the engine's, and where REST tells another story."""
        named = set(ids)
        return [*audit(self.database_url, named), *self.audit_answers(named)]

    def audit_answers(self, ids: Iterable[str]) -> list[Finding]:
        """Where REST tells another story of these executions than the database, or the engine's own check objects."""
        found: list[Finding] = []
        with contextlib.closing(connect(self.database_url)) as database:
            for execution_id in ids:
                if events_of(self.log(execution_id)) != stored_events(database, execution_id):
                    found.append(Finding(execution_id, "the log by REST is another", "see noetl.event"))
                for difference in self.call("GET", f"/api/replay/validate?execution_id={execution_id}")["differences"]:
                    found.append(Finding(execution_id, "a projection is not the log's", json.dumps(difference)))
        return found

    def report(self, worker: str, execution_id: str, command: str, fence: int) -> str:
        """Report a command as done in the name of a worker; what becomes of that."""
        token = service_token(Secrets.load(self.layout.secrets).token_key, "worker", "late")
        outcome = {"execution_id": execution_id, "command_id": command, "fence": fence, "status": "done", "data": {}}
        body = {"worker_id": worker, "outcomes": [outcome]}
        answer = self.call("POST", "/api/commands/report", body, {"Authorization": f"Bearer {token}"})
        return str(answer["results"][0]["status"])

    def said(self, part: str, *messages: str) -> bool:
        """Whether one of these stands in the part's log."""
        text = self.layout.log(part).read_text(errors="replace")
        return any(message in text for message in messages)

    @contextlib.contextmanager
    def another_worker(self) -> Iterator[OtherWorker]:
        """One more of the same pool, which is started by whoever invokes it."""
        run, port = self.running, free_port()
        (spec,) = (spec for spec in load_functions(functions_folder()) if spec.name == "worker")
        url = f"http://127.0.0.1:{port}"
        urls = {name: run[f"{name}_url"] for name in FUNCTIONS}
        addresses = Addresses(run["database_url"], run["nats_url"], urls, {"worker": f"{url}/", "shared": f"{url}/"})
        with mock.patch.dict(os.environ, self._environment):
            settings = Settings.from_environment()
        source = functions_folder() / spec.source / "main.py"
        program = Program(
            "worker",
            [
                *(sys.executable, "-m", "functions_framework", "--asgi", "--target", spec.entry_point),
                *("--source", str(source), "--host", "127.0.0.1", "--port", str(port)),
            ],
            self.layout.log("other_worker"),
            environment=environment_of(spec, addresses, Secrets.load(self.layout.secrets), self.layout, settings),
            directory=self.layout.home,
        )
        process = Process(program)
        try:
            wait_until(lambda: _answers(f"{url}/readyz"), process, PATIENCE)
            yield OtherWorker(url, service_token(Secrets.load(self.layout.secrets).token_key, "control_plane", "test"))
        finally:
            process.stop()

    # -- processes

    def pid(self, part: str) -> int | None:
        """Of postgres, nats, or the process that the supervisor started for a function; None while there is none."""
        if self.is_together and part in FUNCTIONS:
            part = TOGETHER
        pid: int | None = self.running["pids"].get(part)
        return pid

    def server(self, function: str) -> int:
        """The process that serves the function; of its own, it is a child of the one that the supervisor started."""
        if self.is_together:
            return int(eventually(lambda: self.pid(TOGETHER)))
        return int(eventually(lambda: next(iter(children(self.pid(function))), None)))

    def victims(self) -> dict[str, list[int]]:
        """Every process that may be killed, by role, those of this moment."""
        found: dict[str, list[int]] = {}
        for name in ("postgres", "nats"):
            found[name] = [pid] if (pid := self.pid(name)) else []
        if self.is_together:
            found[TOGETHER] = [pid] if (pid := self.pid(TOGETHER)) else []
            zygotes = children(pid)
        else:
            for name in FUNCTIONS:
                found[f"{name} arbiter"] = [pid] if (pid := self.pid(name)) else []
                found[f"{name} server"] = children(pid)
            zygotes = [pid for server in found["worker server"] for pid in children(server)]
        found["worker python"] = with_children(zygotes)
        found["postgres backend"] = self.backends()
        return {role: pids for role, pids in found.items() if pids}

    def backends(self) -> list[int]:
        """The processes of PostgreSQL that serve a client."""
        return [pid for pid in children(self.pid("postgres")) if _is_backend(pid)]

    def kill(self, role: str, random: random.Random, number: signal.Signals = signal.SIGKILL) -> int | None:
        """Signal one process of the role; its pid, None if it was gone already."""
        pids = self.victims().get(role)
        if not pids:
            return None
        pid = random.choice(pids)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return None
        return pid

    def seconds_until_back(self, role: str, pid: int) -> float:
        """How long after `pid` was killed its part serves again, by another process."""
        start = time.monotonic()
        part = role.split()[0]
        while not self._is_back(role, part, pid):
            if time.monotonic() - start > PATIENCE:
                raise TimeoutError(f"the {role} is not back after {PATIENCE:g} s")
            time.sleep(0.02)
        return time.monotonic() - start

    def _is_back(self, role: str, part: str, pid: int) -> bool:
        with contextlib.suppress(psutil.Error, KeyError, Away):
            if lives(pid):
                return False
            if part == "postgres":
                return self._database_answers()
            if part == "nats":
                return _greets(self.running["nats_url"])
            if role == "worker python":
                # its place is taken when a call needs it; until then its server need only be there
                return self.server(part) is not None
            names = FUNCTIONS if part == TOGETHER else (part,)
            urls = [f"{self.running[f'{name}_url']}/readyz" for name in names]
            return self.pid(part) not in (pid, None) and all(map(_answers, urls))
        return False

    def _database_answers(self) -> bool:
        try:
            return bool(self.query("SELECT 1"))
        except Exception:
            return False


@dataclass(frozen=True, slots=True)
class OtherWorker:
    url: str
    token: str

    def invoke(self) -> None:
        """Let it look for work; it does so while we go on."""
        request = urllib.request.Request(
            self.url, b'{"sweep": true}', {"Authorization": f"Bearer {self.token}"}, method="POST"
        )
        threading.Thread(target=lambda: urllib.request.urlopen(request, timeout=PATIENCE).close(), daemon=True).start()


@contextlib.contextmanager
def broken_stack(**settings: object) -> Iterator[BrokenStack]:
    """Running; stopped and removed at the end, whatever is left of it."""
    with tempfile.TemporaryDirectory(prefix="noetl-faults-", ignore_cleanup_errors=True) as folder:
        # under root PostgreSQL runs as somebody else, who must get through
        Path(folder).chmod(0o711)
        stack = BrokenStack(Path(folder), **settings)
        stack.up()
        try:
            yield stack
        finally:
            stack("down")


@dataclass(frozen=True, slots=True)
class Kill:
    role: str
    pid: int
    at: float
    back: float


def eventually(what: Callable[[], Any], patience: float = PATIENCE, pause: float = 0.05) -> Any:
    """The first true value that `what` gives; TimeoutError if there is none."""
    until = time.monotonic() + patience
    while not (value := what()):
        if time.monotonic() > until:
            raise TimeoutError(f"not after {patience:g} s: {what}")
        time.sleep(pause)
    return value


def with_children(pids: list[int]) -> list[int]:
    return [*pids, *(child for pid in pids for child in children(pid))]


def children(pid: int | None) -> list[int]:
    if pid is None:
        return []
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    return []


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def _is_backend(pid: int) -> bool:
    """Whether it serves a client."""
    with contextlib.suppress(psutil.Error):
        title = " ".join(psutil.Process(pid).cmdline())
        return "127.0.0.1" in title or "[local]" in title
    return False


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
        return bool(response.status == 200)
    return False


def _greets(url: str) -> bool:
    address = url.rpartition("@")[2].split(":")
    with contextlib.suppress(OSError), socket.create_connection((address[0], int(address[1])), timeout=1) as client:
        return client.recv(4) == b"INFO"
    return False
