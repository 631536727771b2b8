"""The whole AWS deployment, applied by Terraform to an emulator, with a real PostgreSQL and a real NATS beside it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from localstack import terraform, toolbox
from localstack.emulator import REGION, Emulator
from localstack.gateway import Gateway
from localstack.issuer import AUDIENCE
from localstack.servers import Servers

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
        self.servers = Servers(home / "servers")
        self.terraform: terraform.Terraform | None = None
        self.provider = dict(provider or {})

    # ---- servers beside the deployment

    def start_servers(self) -> None:
        self.servers.start()
        self.emulator.start()

    def stop_servers(self) -> None:
        self.emulator.stop()
        self.servers.stop()

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
        manager = self.emulator.client("secretsmanager")
        database = manager.create_secret(Name="servers/database", SecretString=self.servers.postgres.password)
        nats = manager.create_secret(Name="servers/nats", SecretString=self.servers.nats.url)
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
                    "url": f"postgresql://noetl@127.0.0.1:{self.servers.postgres.port}/noetl",
                    "secret_arn": database["ARN"],
                    "port": self.servers.postgres.port,
                    "cidr": "127.0.0.1/32",
                }
            },
            "nats": {"existing": {"secret_arn": nats["ARN"], "port": self.servers.nats.port, "cidr": "127.0.0.1/32"}},
            "results": {"force_destroy": True},
            "secrets": {"recovery_days": 0},
            "settings": {"oidc_issuer": self.servers.issuer.url, "oidc_audience": AUDIENCE},
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
        with closing(connect(self.servers.postgres.url)) as database:
            return {name for (name,) in database.run(USERS)}

    # ---- clients of the deployment

    def gateway(self) -> Gateway:
        gateway = Gateway(self.outputs()["gateway_url"])
        gateway.sign_in(self.servers.issuer.token(roles=["admin"]))
        return gateway
