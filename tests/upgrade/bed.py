"""PostgreSQL, NATS, a result folder and our own server; and on them functions of either release, in any pairing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.eventually import committed, while_progressing

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres
from noetl_serverless.hosts.local.process import Process, Program, wait_until
from noetl_serverless.hosts.local.secrets import Secrets, service_token
from noetl_serverless.store.connection import connect

from .effects import Effects
from .playbooks import CREDENTIAL, SECRET
from .release import Release

# seconds without progress after which nothing is expected to happen any more
PATIENCE = 60.0
# seconds between two invocations of a worker, and two passes of a reconciler
TICK = 0.4
# what a worker of a phase that is over held goes to another soon
LEASE = 6.0
# how long a function may take to hand back what it holds
STOPPING = 25.0
# nothing leaves by itself: the store is as old as its release
TUNED = {
    "lease": LEASE,
    "max_deliveries": 5,
    # some of the gates hold their worker
    "max_in_flight": 64,
    "python_processes": 1,
    "archive_after_days": 0,
    "retention_days": 0,
    "result_ttl_days": 0,
    "database_connections": 3,
}
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


class Refused(RuntimeError):
    """A control plane said no."""


@dataclass(frozen=True, slots=True)
class Function:
    release: Release
    role: str
    url: str
    process: Process


class Bed:
    def __init__(self, home: Path, effects_port: int = 0) -> None:
        self.home = home
        self.results = home / "results"
        self.secrets_file = home / "secrets.json"
        self.logs = home / "logs"
        for folder in (self.results, self.logs, home / "scratch"):
            folder.mkdir(exist_ok=True)
        self.effects = Effects({"guarded": SECRET}, effects_port)
        self._processes: dict[str, Process] = {}
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.effects.close)
        self.postgres = Postgres(
            home / "postgres", free_port(), secrets.token_hex(16), self.logs / "postgres.log", durable=False
        )
        self._nats = Nats(home / "nats", free_port(), secrets.token_hex(16), self.logs / "nats.log")

    def start(self) -> None:
        for server in (self.postgres, self._nats):
            self._stack.callback(server.start().stop)

    def close(self) -> None:
        self._stack.close()

    @property
    def secrets(self) -> Secrets:
        return Secrets.load(self.secrets_file)

    @property
    def database_url(self) -> str:
        return self.postgres.url

    def query(self, sql: str, **values: Any) -> list[Any]:
        with contextlib.closing(connect(self.database_url)) as database:
            return list(database.run(sql, **values) or [])

    def committed(self) -> int | None:
        """How many events there are; None while the database is away."""
        return committed(self.database_url)

    # -- functions

    def control_planes(self, *releases: Release, worker_url: str) -> list[Function]:
        return self._start([(release, "control_plane", "", worker_url, 0) for release in releases])

    def workers(self, *pairs: tuple[Release, str, int]) -> list[Function]:
        """(release, the control plane that it talks to, its port)"""
        return self._start([(release, "worker", url, "", port) for release, url, port in pairs])

    def reconcilers(self, *pairs: tuple[Release, str, str]) -> list[Function]:
        """(release, its control plane, the worker that it invokes)"""
        return self._start([(release, "reconciler", url, worker, 0) for release, url, worker in pairs])

    def _start(self, wanted: Sequence[tuple[Release, str, str, str, int]]) -> list[Function]:
        """All at once: what takes time is their imports."""
        made = []
        try:
            for release, role, control_plane_url, worker_url, port in wanted:
                made.append(self._launch(release, role, control_plane_url, worker_url, port or free_port()))
            for function in made:
                wait_until(partial(_answers, f"{function.url}/readyz"), function.process, PATIENCE, 0.05)
        except BaseException:
            stop(made)
            raise
        return made

    def _launch(self, release: Release, role: str, control_plane_url: str, worker_url: str, port: int) -> Function:
        row = release.functions[role]
        found = self.secrets
        values = {
            **TUNED,
            "database_url": self.database_url,
            "nats_url": self._nats.url,
            "control_plane_url": control_plane_url,
            "function_urls": json.dumps(dict.fromkeys(("worker", "shared"), f"{worker_url}/")),
            "result_url": self.results.as_uri(),
            "service_token": service_token(found.token_key, row["role"], f"{role}@{release.name}"),
            "token_key": found.token_key,
            "encryption_keys": found.encryption_keys,
            "scratch": str(self.home / "scratch"),
        }
        environment = {name: values[name] for name in (*row["secrets"], *row["settings"]) if name in values}
        environment |= {"host": "local", "function": role, **({"pool": row["pool"]} if row["pool"] else {})}
        program = Program(
            f"{release.name} {role}",
            [
                *(str(release.python), "-m", "functions_framework", "--asgi", "--target", row["entry_point"]),
                *("--source", str(release.root / "functions" / row["source"] / "main.py")),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            self.logs / f"{release.name}_{role}.log",
            environment={
                **{name: os.environ[name] for name in _INHERITED if name in os.environ},
                "PYTHONUNBUFFERED": "1",
                **{f"NOETL_{name.upper()}": str(value) for name, value in environment.items()},
            },
            directory=self.home,
            stop_timeout=STOPPING,
        )
        url = f"http://127.0.0.1:{port}"
        self._processes[url] = Process(program)
        return Function(release, role, url, self._processes[url])

    def token(self, role: str, subject: str = "test") -> str:
        return service_token(self.secrets.token_key, role, subject)

    # -- a client

    def register(self, url: str, texts: Iterable[str]) -> None:
        for text in texts:
            self.call(url, "POST", "/api/catalog/register", {"content": text, "resource_type": "Playbook"})

    def call(
        self, url: str, method: str, path: str, body: Any = None, *, role: str = "operator", key: str | None = None
    ) -> Any:
        """What a control plane answers, asked again while it is away.

        Refused if it says no; TimeoutError if it has died, or if nothing has been committed for a minute."""
        headers = {"Authorization": f"Bearer {self.token(role)}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None if body is None else json.dumps(body).encode()
        lasts = while_progressing(self.committed, PATIENCE)
        while True:
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(f"{url}{path}", content, headers, method=method), timeout=30
                ) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                said = f"{method} {path}: {error.code} {error.read().decode()}"
                if error.code != 503 or not lasts():
                    raise Refused(said) from error
            except (OSError, http.client.HTTPException) as error:
                process = self._processes.get(url)
                if (process is not None and not process.alive) or not lasts():
                    raise TimeoutError(f"{method} {path}: {error!r}") from error
            time.sleep(0.1)


@contextlib.contextmanager
def bed(keep: bool = False, effects_port: int = 0) -> Iterator[Bed]:
    """Running; stopped and removed at the end. `keep`: its folder stays."""
    home = Path(tempfile.mkdtemp(prefix="noetl-upgrade-"))
    # under root PostgreSQL runs as somebody else, who must get through
    home.chmod(0o711)
    made = Bed(home, effects_port)
    try:
        made.start()
        yield made
    finally:
        made.close()
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


def stop(functions: Sequence[Function]) -> None:
    """Workers first: they hand back what they hold. RuntimeError if one had died."""
    died = [function for function in functions if not function.process.alive]
    order = ("worker", "reconciler", "control_plane")
    for role in order:
        some = [function for function in functions if function.role == role]
        for function in some:
            function.process.send_stop_signal()
        for function in some:
            function.process.stop()
    if died:
        raise RuntimeError("\n".join(f"{one.process.program.name} died:\n{one.process.tail()}" for one in died))


class Ticks:
    """What a scheduler does: invokes every worker and reconciler again and again."""

    def __init__(self, bed: Bed, functions: Sequence[Function]) -> None:
        self._bed = bed
        self._stop = threading.Event()
        invoked = [function for function in functions if function.role in ("worker", "reconciler")]
        self._threads = [threading.Thread(target=self._invoke, args=(function,), daemon=True) for function in invoked]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _invoke(self, function: Function) -> None:
        role = "control_plane" if function.role == "worker" else "reconciler"
        headers = {"Authorization": f"Bearer {self._bed.token(role)}"}
        body = b'{"sweep": true, "archive": true}' if function.role == "worker" else b"{}"
        while not self._stop.wait(TICK):
            request = urllib.request.Request(f"{function.url}/", body, headers, method="POST")
            # a tick that is lost is followed by another
            with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(request, timeout=30):
                pass


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=2) as response:
        return bool(response.status == 200)
    return False


def put_credential(bed: Bed, url: str) -> None:
    body: Mapping[str, Any] = {"name": CREDENTIAL, "type": "basic", "data": SECRET, "tags": ["upgrade"]}
    bed.call(url, "POST", "/api/credentials", body)
