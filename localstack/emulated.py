"""The whole AWS deployment, applied by Terraform to an emulator, with a real PostgreSQL and a real NATS beside it."""

from __future__ import annotations

import json
import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
from localstack import terraform, toolbox
from localstack.emulator import REGION, Emulator
from localstack.issuer import AUDIENCE, Issuer

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres
from noetl_serverless.hosts.local.process import Process
from noetl_serverless.hosts.local.workspace import create_workspace, workspace_credential
from noetl_serverless.store.connection import connect

ROOT = toolbox.ROOT
USERS = (
    "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'noetl'"
)
# seconds for one command, cold starts and all
LONGEST = 600
# this machine runs all instances, so only few run at once
SMALL = {
    "gateway": {"max_instances": 4},
    "control_plane": {"max_instances": 12},
    "worker": {"max_instances": 2},
    "worker_data": {"max_instances": 2},
}


class Emulated:
    """Servers, packages and Terraform below `home`. Start the servers, package, apply; then ask `gateway`."""

    def __init__(self, home: Path, port: int, provider: Mapping[str, str] | None = None) -> None:
        """`provider`: environment variables by which Terraform finds its provider. Without them it goes by the user's
        configuration, or asks the registry."""
        self.home = home
        self.emulator = Emulator(home / "emulator", port)
        self.python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self._architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
        self.packages = ROOT / "dist" / "aws" / f"python{self.python}-{self._architecture}"
        self._postgres = Postgres(
            home / "postgres", free_port(), secrets.token_hex(12), home / "postgres.log", durable=False
        )
        self._nats = Nats(home / "nats", free_port(), secrets.token_hex(12), home / "nats.log")
        self._servers: list[Process] = []
        self._workspace = secrets.token_hex(12)
        self._issuer: Issuer | None = None
        self.terraform: terraform.Terraform | None = None
        self.provider = dict(provider or {})

    # ---- servers beside the deployment

    def start_servers(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        # as root, PostgreSQL runs as another user, who needs access to the folder
        self.home.chmod(0o711)
        self._servers = [self._postgres.start(), self._nats.start()]
        create_workspace(self._postgres.url, self._workspace)
        self._issuer = Issuer()
        self.emulator.start()

    def stop_servers(self) -> None:
        self.emulator.stop()
        if self._issuer is not None:
            self._issuer.stop()
        for server in reversed(self._servers):
            server.stop()
        self._servers = []

    def package(self) -> None:
        """Zips of every function for this Python, which the emulator also uses. RuntimeError if one cannot be built."""
        architecture = ("--architecture", self._architecture)
        done = subprocess.run(
            [sys.executable, "-m", "noetl_serverless.packaging", "aws", "--python", self.python, *architecture],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    # ---- the deployment

    def init(self) -> None:
        module = terraform.workspace(self.home / "terraform")
        self.terraform = terraform.Terraform(module, self.provider)
        self._given = self._variables()
        self._write_variables()
        self.terraform("init", "-no-color")

    def use_packages(self, folder: Path) -> None:
        self._given["package"] = {"directory": str(folder)}
        self._write_variables()

    def _write_variables(self) -> None:
        assert self.terraform is not None
        path = self.terraform.module / "emulator.auto.tfvars.json"
        path.write_text(json.dumps(self._given, indent=1))

    def _variables(self) -> dict[str, Any]:
        assert self._issuer is not None
        manager = self.emulator.client("secretsmanager")
        database = manager.create_secret(Name="servers/database", SecretString=self._postgres.password)
        nats = manager.create_secret(Name="servers/nats", SecretString=self._nats.url)
        return {
            "endpoint_url": self.emulator.url,
            "region": REGION,
            "package": {"directory": str(self.packages)},
            "functions": SMALL,
            # calls over HTTP run no users' code, so that their workers may commit by themselves
            "pools": {"calls": {"kinds": ["http", "postgres"], "max_instances": 2}},
            "orchestrator": {"worker_calls": "direct"},
            "database": {
                "existing": {
                    "url": f"postgresql://noetl@127.0.0.1:{self._postgres.port}/noetl",
                    "secret_arn": database["ARN"],
                    "port": self._postgres.port,
                    "cidr": "127.0.0.1/32",
                }
            },
            "nats": {"existing": {"secret_arn": nats["ARN"], "port": self._nats.port, "cidr": "127.0.0.1/32"}},
            "results": {"force_destroy": True},
            "secrets": {"recovery_days": 0},
            "settings": {"oidc_issuer": self._issuer.url, "oidc_audience": AUDIENCE},
        }

    def apply(self, *, check: bool = True) -> terraform.Done:
        return self.noetls("apply", "--yes", "--package", self._given["package"]["directory"], check=check)

    def changes(self) -> list[tuple[str, list[str]]]:
        """What an apply would change: addresses and actions."""
        assert self.terraform is not None
        plan = self.home / "plan"
        self.terraform("plan", "-no-color", f"-out={plan}")
        shown = json.loads(self.terraform("show", "-json", str(plan)).out)
        return [
            (change["address"], change["change"]["actions"])
            for change in shown.get("resource_changes", [])
            if change["change"]["actions"] not in (["no-op"], ["read"])
        ]

    def destroy(self) -> terraform.Done:
        return self.noetls("destroy", "--yes", "--package", self._given["package"]["directory"])

    def outputs(self) -> dict[str, Any]:
        assert self.terraform is not None
        return self.terraform.outputs()

    def smoke(self) -> str:
        """The output of `noetls deploy aws smoke`, in one line. AssertionError if it fails."""
        return self.noetls("smoke", "--items", "20").out.strip().splitlines()[-1]

    def noetls(self, command: str, *words: str, check: bool = True) -> terraform.Done:
        """`noetls deploy aws COMMAND`. AssertionError with its output if it fails, unless `check` is off."""
        assert self.terraform is not None
        where = ("--directory", str(self.terraform.module))
        done = subprocess.run(
            [sys.executable, "-m", "noetl_serverless.cli", "deploy", "aws", command, *words, *where],
            env={
                **os.environ,
                **terraform.environment(),
                **self.provider,
                "TF_CLI_ARGS": "-no-color",
                "HOME": str(self.home),
                "XDG_CONFIG_HOME": str(self.home / "config"),
            },
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        answer = terraform.Done(done.returncode, done.stdout, done.stderr)
        assert not check or answer.status == 0, answer.text
        return answer

    def database_users(self) -> set[str]:
        """Who has a connection to the engine's database."""
        with closing(connect(self._postgres.url)) as database:
            return {name for (name,) in database.run(USERS)}

    # ---- clients of the deployment

    def gateway(self) -> Gateway:
        assert self._issuer is not None
        gateway = Gateway(self.outputs()["gateway_url"])
        gateway.sign_in(self._issuer.token(roles=["admin"]))
        return gateway

    def offer_workspace(self, gateway: Gateway) -> None:
        """A database for the playbooks' own data, under the name that the examples use."""
        gateway.ask("POST", "credentials", workspace_credential(self._postgres.url, self._workspace))


class Gateway:
    """The deployed gateway, over its HTTP API."""

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
