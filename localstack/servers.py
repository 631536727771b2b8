"""The servers beside an emulated cloud: PostgreSQL, NATS, and an identity provider, on this machine."""

from __future__ import annotations

import secrets
from pathlib import Path

from localstack.gateway import Gateway
from localstack.issuer import Issuer

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres
from noetl_serverless.hosts.local.process import Process
from noetl_serverless.hosts.local.workspace import create_workspace, workspace_credential


class Servers:
    """Their files are below `home`. `postgres` holds the engine's database, and one for the data of playbooks."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.postgres = Postgres(
            home / "postgres", free_port(), secrets.token_hex(12), home / "postgres.log", durable=False
        )
        self.nats = Nats(home / "nats", free_port(), secrets.token_hex(12), home / "nats.log")
        self._workspace = secrets.token_hex(12)
        self._processes: list[Process] = []
        self._issuer: Issuer | None = None

    @property
    def issuer(self) -> Issuer:
        assert self._issuer is not None, "the servers have not been started"
        return self._issuer

    def start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        # as root, PostgreSQL runs as another user, who needs access to the folder
        for folder in (self._home, self._home.parent):
            folder.chmod(0o711)
        self._processes = [self.postgres.start(), self.nats.start()]
        create_workspace(self.postgres.url, self._workspace)
        self._issuer = Issuer()

    def stop(self) -> None:
        if self._issuer is not None:
            self._issuer.stop()
        for process in reversed(self._processes):
            process.stop()
        self._processes = []

    def offer_workspace(self, gateway: Gateway) -> None:
        """The database for the playbooks' own data, under the name that the examples use."""
        gateway.ask("POST", "credentials", workspace_credential(self.postgres.url, self._workspace))
