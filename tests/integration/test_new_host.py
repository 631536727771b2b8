"""The page on adding a host, followed in a copy of the project: what it adds runs a playbook."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.stores import LARGE, SMALL, playbook
from tests.unit.hosts.cloud.conftest import MemoryVault

from noetl_serverless.cli.client import Client
from noetl_serverless.cli.failure import Refused
from noetl_serverless.hosts.cloud.migration import migrate_deployment
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program, wait_until
from noetl_serverless.hosts.table import FunctionSpec, load_functions
from noetl_serverless.settings import Settings
from noetl_serverless.store.connection import connect

from .recipes import ROOT, Copy

HOST = "shared/noetl_serverless/hosts/desk"
ROLES = ("control_plane", "gateway", "reconciler", "worker", "operator")
START_SECONDS = 60.0


class Desk:
    """Functions of the new host, each in a process of its own, with its secrets in files."""

    def __init__(self, copy: Copy, database_url: str, nats_url: str, folder: Path) -> None:
        self._copy = copy
        self._folder = folder / "desk"
        self._folder.mkdir()
        self._ports: dict[str, int] = {}
        self._processes: list[Process] = []
        names = ["token_key", "encryption_keys", *(f"service_token/{role}" for role in ROLES)]
        # what the function `migration` does on a cloud
        vault = MemoryVault(dict.fromkeys(names))
        provision = {"NOETL_HOST": "desk", "NOETL_PROVISION": json.dumps({name: name for name in names})}
        asyncio.run(migrate_deployment(Settings.from_environment(provision), vault, database_url))
        made = {name: str(value) for name, value in vault.values.items()}
        self._values = {**made, "nats_url": nats_url, "database_url": database_url}

    @property
    def token(self) -> str:
        return self._values["service_token/operator"]

    def start(self) -> str:
        """The URL of the control plane."""
        specs = load_functions(self._copy.folder / "functions", "desk")
        self._ports = {spec.name: free_port() for spec in specs}
        self._processes = [self._process(spec) for spec in specs]
        for spec, process in zip(specs, self._processes, strict=True):
            wait_until(partial(_is_ready, self._url(spec.name)), process, START_SECONDS)
        return self._url("control_plane")

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.stop()

    def _process(self, spec: FunctionSpec) -> Process:
        source = self._copy.folder / "functions" / spec.source / "main.py"
        port = str(self._ports[spec.name])
        return Process(
            Program(
                name=spec.name,
                argv=[
                    *(sys.executable, "-m", "functions_framework", "--asgi", "--target", "function"),
                    *("--source", str(source), "--host", "127.0.0.1", "--port", port),
                ],
                log=self._folder / f"{spec.name}.log",
                environment={**self._copy.environment(), **self._variables(spec)},
                directory=self._folder,
            )
        )

    def _variables(self, spec: FunctionSpec) -> Mapping[str, str]:
        """As Terraform sets them on a cloud, but for an object store: there is none."""
        values = {
            "control_plane_url": self._url("control_plane"),
            "function_urls": json.dumps({"shared": self._url("worker"), "reconciler": self._url("reconciler")}),
        }
        return {
            "NOETL_HOST": "desk",
            "NOETL_FUNCTION": spec.name,
            "NOETL_POOL": spec.pool or "",
            "NOETL_SECRETS": json.dumps({name: self._file(spec, name) for name in spec.secrets}),
            **{f"NOETL_{name.upper()}": value for name, value in values.items() if name in spec.settings},
        }

    def _file(self, spec: FunctionSpec, name: str) -> str:
        path = self._folder / name.replace("/", "-") / spec.role
        path.parent.mkdir(exist_ok=True)
        path.write_text(self._values[f"service_token/{spec.role}" if name == "service_token" else name])
        return str(path)

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"


def _is_ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    copy = Copy(tmp_path / "copy")
    copy.follow("Add a host")
    return copy


def test_a_host_is_one_folder_of_at_most_a_hundred_lines(copy: Copy) -> None:
    assert list(copy.changed()) == [
        f"{HOST}/__init__.py",
        *(f"{HOST}/entry/{name}.py" for name in ("__init__", "control_plane", "gateway", "reconciler", "worker")),
        f"{HOST}/platform.py",
    ]
    lines = [line for path in (copy.folder / HOST).rglob("*.py") for line in path.read_text().splitlines()]
    assert len(lines) <= 100
    copy.run("-m", "tests.structure")
    copy.run("-m", "ruff", "check", "--no-cache", HOST)
    copy.run("-m", "ruff", "format", "--check", "--no-cache", HOST)


@pytest.fixture
def desk(copy: Copy, postgres_url: str, nats_url: str, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(copy, postgres_url, nats_url, tmp_path)
    yield desk
    desk.stop()


def run(client: Client, text: str, payload: dict[str, Any]) -> dict[str, Any]:
    execution_id = client.execute(client.register(text)["path"], None, payload)
    for _ in client.follow(execution_id):
        pass
    return client.execution(execution_id)


def test_the_new_host_runs_playbooks(desk: Desk, postgres_url: str) -> None:
    with contextlib.closing(Client(desk.start(), desk.token)) as client:
        ended = run(client, (ROOT / "playbooks" / "hello.yaml").read_text(), {"name": "desk"})
        assert (ended["status"], ended["result"]["data"]) == ("COMPLETED", "Hello, desk!")
        ended = run(client, playbook("auto"), {})
        assert (ended["status"], ended["result"]["data"]) == (
            "COMPLETED",
            {f"auto_{SMALL}": SMALL, f"auto_{LARGE}": LARGE},
        )
        with pytest.raises(Refused, match="this deployment has none: set NOETL_RESULT_URL"):
            client.post("/api/archives", {})
    with contextlib.closing(connect(postgres_url)) as database:
        assert database.run("SELECT DISTINCT store FROM noetl.result_ref") == [["postgres"]]
