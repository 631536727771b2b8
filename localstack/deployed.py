"""A deployment on an emulated cloud: its servers, its packages and Terraform below one folder."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from localstack.gateway import Gateway
from localstack.servers import Servers
from localstack.terraform import Done, Terraform, workspace
from localstack.terraform import environment as terraform_environment
from localstack.toolbox import ROOT

# seconds for one command, cold starts and all
COMMAND_SECONDS = 600


class Deployed:
    """Start the servers, package, init, apply; then ask `gateway`."""

    host: ClassVar[str]

    def __init__(self, home: Path, provider: Mapping[str, str] | None = None) -> None:
        """`provider`: environment variables by which Terraform finds its provider. Without them it goes by the user's
        configuration, or asks the registry."""
        self.home = home
        self.python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self._architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
        self.packages = ROOT / "dist" / self.host / f"python{self.python}-{self._architecture}"
        self.servers = Servers(home / "servers")
        self.provider = dict(provider or {})
        self._terraform: Terraform | None = None
        self._given: dict[str, Any] = {}

    # ---- what each cloud says

    @abstractmethod
    def start_servers(self) -> None: ...

    @abstractmethod
    def stop_servers(self) -> None: ...

    @abstractmethod
    def credentials(self) -> dict[str, str]:
        """Environment variables by which Terraform and the command line sign in."""

    @abstractmethod
    def variables(self) -> dict[str, Any]:
        """Terraform's variables, without the package."""

    @abstractmethod
    def logs(self) -> str:
        """The ends of the logs of what stands in for the cloud."""

    # ---- the deployment

    def package(self) -> str:
        """Zips of every function for this Python, which the emulator also uses. RuntimeError if one cannot be built."""
        architecture = ("--architecture", self._architecture)
        done = subprocess.run(
            [sys.executable, "-m", "noetl_serverless.packaging", self.host, "--python", self.python, *architecture],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout.strip()

    @property
    def terraform(self) -> Terraform:
        assert self._terraform is not None, "the deployment has not been initialised"
        return self._terraform

    def init(self) -> None:
        module = workspace(self.home / "terraform").with_name(self.host)
        self._terraform = Terraform(module, {**self.provider, **self.credentials()})
        self._given = {**self.variables(), "package": {"directory": str(self.packages)}}
        self._write_variables()
        self.terraform("init", "-no-color")

    def give(self, **variables: Any) -> None:
        """Change some of Terraform's variables, for the next apply."""
        self._given |= variables
        self._write_variables()

    def use_packages(self, folder: Path) -> None:
        self.give(package={"directory": str(folder)})

    def _write_variables(self) -> None:
        path = self.terraform.module / "emulator.auto.tfvars.json"
        path.write_text(json.dumps(self._given, indent=1))

    def apply(self, *, check: bool = True) -> Done:
        return self.deploy("apply", "--yes", "--package", self._given["package"]["directory"], check=check)

    def changes(self) -> list[tuple[str, list[str]]]:
        """What an apply would change: addresses and actions."""
        plan = self.home / "plan"
        self.terraform("plan", "-no-color", f"-out={plan}")
        shown = json.loads(self.terraform("show", "-json", str(plan)).out)
        return [
            (change["address"], change["change"]["actions"])
            for change in shown.get("resource_changes", [])
            if change["change"]["actions"] not in (["no-op"], ["read"])
        ]

    def destroy(self) -> Done:
        return self.deploy("destroy", "--yes", "--package", self._given["package"]["directory"])

    def outputs(self) -> dict[str, Any]:
        return self.terraform.outputs()

    def smoke(self) -> str:
        """The output of `noetls deploy HOST smoke`, in one line. AssertionError if it fails."""
        return self.deploy("smoke", "--items", "20").out.strip().splitlines()[-1]

    def deploy(self, command: str, *words: str, check: bool = True) -> Done:
        """`noetls deploy HOST COMMAND`. AssertionError with its output if it fails, unless `check` is off."""
        where = ("--directory", str(self.terraform.module))
        return self.noetls("deploy", self.host, command, *words, *where, check=check)

    def digest(self, execution_id: str) -> str:
        """What `noetls digest` prints of it."""
        return self.noetls("--context", self.outputs()["prefix"], "digest", execution_id).out.strip()

    def noetls(self, *words: str, check: bool = True, environment: Mapping[str, str] | None = None) -> Done:
        """AssertionError with its output if it fails, unless `check` is off. `environment`: variables beside the usual,
        or in their place."""
        done = subprocess.run(
            [sys.executable, "-m", "noetl_serverless.cli", *words],
            env={
                **os.environ,
                **terraform_environment(),
                **self.provider,
                **self.credentials(),
                "TF_CLI_ARGS": "-no-color",
                "HOME": str(self.home),
                "XDG_CONFIG_HOME": str(self.home / "config"),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        answer = Done(done.returncode, done.stdout, done.stderr)
        assert not check or answer.status == 0, answer.text
        return answer

    def command(self) -> str:
        """A command line that runs a playbook on the deployment."""
        variables = {**self.credentials(), "XDG_CONFIG_HOME": str(self.home / "config")}
        given = " ".join(f"{name}={value}" for name, value in variables.items())
        return f"{given} noetls --context {self.outputs()['prefix']} run {ROOT / 'playbooks' / 'hello.yaml'}"

    def gateway(self) -> Gateway:
        """Signed in as an administrator."""
        gateway = Gateway(self.outputs()["gateway_url"])
        gateway.sign_in(self.servers.issuer.token(roles=["admin"]))
        return gateway
