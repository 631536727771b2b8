"""The NATS cluster of infra/modules/aws/nats on this machine: each node is started as its task definition says, by the
same shell command with the same variables. Only folders and addresses are other ones: all nodes share one address."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localstack.terraform import ROOT, Terraform
from tests.infra.fake_provider.configuration import provider

from noetl_serverless.hosts.cloud.nats_server import make_server_secret
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program

NAMES = ("nats-1", "nats-2", "nats-3")
DOMAIN = "noetl.internal"
PASSWORD_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:noetl/nats_password-AbCdEf"
SERVER_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:noetl/nats_server-AbCdEf"
# nothing is read while a plan is made of things that are all new
MODULE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region                      = "eu-central-1"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  endpoints { ecs = "http://127.0.0.1:1" }
}

module "nats" {
  source  = "%s"
  name    = "noetl-nats"
  region  = "eu-central-1"
  hosts   = %s
  domain  = "%s"
  network = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_security_group_id = "sg-1" }
  secrets = { password_arn = "%s", server_arn = "%s" }
  nodes   = { image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/nats:2.12.1-alpine" }
}
"""


def container_definitions(folder: Path) -> dict[str, Any]:
    """By name of the node, what the module's plan says of its container."""
    # by a relative path: Terraform copies what an absolute one names, and leaves behind what lies above it
    module = os.path.relpath(ROOT / "infra" / "modules" / "aws" / "nats", folder.resolve())
    (folder / "main.tf").write_text(MODULE % (module, json.dumps(NAMES), DOMAIN, PASSWORD_ARN, SERVER_ARN))
    terraform = Terraform(folder, provider())
    terraform("init", "-no-color")
    terraform("plan", "-no-color", "-out=plan")
    planned = json.loads(terraform("show", "-json", "plan").out)["planned_values"]["root_module"]["child_modules"][0]
    tasks = [one for one in planned["resources"] if one["type"] == "aws_ecs_task_definition"]
    return {one["index"]: json.loads(one["values"]["container_definitions"])[0] for one in tasks}


class Node:
    """One task: it can be started, killed, and asked what ECS asks it."""

    def __init__(self, name: str, home: Path, definition: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self.name = name
        self.port, self.route, self.monitor = free_port(), free_port(), free_port()
        self.others: dict[str, int] = {}
        self._home = home
        self._definition = definition
        self._secrets = secrets
        self._process: Process | None = None
        # the volume "data" outlives a task, the volume "run" does not
        (home / "data").mkdir(parents=True)

    def start(self) -> None:
        shutil.rmtree(self._home / "run", ignore_errors=True)
        (self._home / "run").mkdir()
        self._process = Process(
            Program(
                name=self.name,
                argv=[*self._definition["entryPoint"], *map(self._here, self._definition["command"])],
                log=self._home / "nats.log",
                environment={"PATH": f"{sysconfig.get_path('scripts')}:/usr/bin:/bin", **self._variables()},
                directory=self._home,
            )
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def healthy(self) -> bool:
        """What ECS asks; it replaces a task that says no."""
        kind, command = self._definition["healthCheck"]["command"]
        assert kind == "CMD-SHELL"
        done = subprocess.run(["sh", "-c", self._here(command)], capture_output=True, check=False)
        return done.returncode == 0

    def state(self, of: str) -> dict[str, Any]:
        """What its monitor tells below /`of`; empty while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/{of}", timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            return {}

    def streams(self) -> dict[str, dict[str, Any]]:
        """By name, what this node knows of the streams that it has."""
        accounts = self.state("jsz?streams=true").get("account_details", ())
        return {stream["name"]: stream for account in accounts for stream in account.get("stream_detail", ())}

    def messages(self, stream: str) -> int:
        """-1 if this node does not have the stream."""
        return int(self.streams().get(stream, {}).get("state", {}).get("messages", -1))

    def _variables(self) -> dict[str, str]:
        given = {one["name"]: self._here(one["value"]) for one in self._definition["environment"]}
        return given | {one["name"]: self._secret(one["valueFrom"]) for one in self._definition["secrets"]}

    def _secret(self, source: str) -> str:
        """`source`: an ARN, with `:key::` after it for one value of a secret that is JSON."""
        arn = next(arn for arn in self._secrets if source.startswith(arn))
        key = source.removeprefix(arn).strip(":")
        return str(json.loads(self._secrets[arn])[key]) if key else self._secrets[arn]

    def _here(self, text: str) -> str:
        """With this machine's folders and this node's ports."""
        there = {
            "/run/nats": f"{self._home}/run",
            'store_dir: "/data"': f'store_dir: "{self._home}/data"',
            "port: 4222": f"listen: 127.0.0.1:{self.port}",
            "port: 6222": f"listen: 127.0.0.1:{self.route}",
            "127.0.0.1:8222": f"127.0.0.1:{self.monitor}",
            **{f"tls://{name}.{DOMAIN}:6222": f"tls://localhost:{port}" for name, port in self.others.items()},
        }
        for ours, here in there.items():
            text = text.replace(ours, here)
        return text


class Cluster:
    """All three nodes, with the secrets that the control plane makes for them."""

    def __init__(self, home: Path, definitions: Mapping[str, Mapping[str, Any]]) -> None:
        self._password = "password"
        server = make_server_secret([*(f"{name}.{DOMAIN}" for name in NAMES), "localhost"])
        self.ca = str(json.loads(server)["ca"])
        secrets = {PASSWORD_ARN: self._password, SERVER_ARN: server}
        self.nodes = [Node(name, home / name, definitions[name], secrets) for name in NAMES]
        for node in self.nodes:
            node.others = {other.name: other.route for other in self.nodes}

    @property
    def url(self) -> str:
        return ",".join(f"tls://noetl:{self._password}@localhost:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def leader(self, stream: str) -> Node:
        """The node that decides for the stream. LookupError while there is none."""
        for node in self.nodes:
            if node.streams().get(stream, {}).get("cluster", {}).get("leader") == node.name:
                return node
        raise LookupError(stream)
