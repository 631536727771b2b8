"""MiniStack, an emulator of AWS, as a process of its own in an environment of its own."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path
from typing import Any

from localstack import toolbox
from localstack_client.session import Session

from noetl_serverless.hosts.local.ports import is_free
from noetl_serverless.hosts.local.process import Process, Program, wait_until

REGION = "eu-central-1"
ACCOUNT = "000000000000"
# LocalStack's port, which its clients expect
PORT = 4566
START = 60.0
MAIN = Path(__file__).with_name("emulator_main.py")


class Emulator:
    """All of AWS at one URL. Functions run as processes of its interpreter, which has only MiniStack's packages: what a
    function's zip lacks is missing there too."""

    def __init__(self, home: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._home = home
        self._port = port
        self._process: Process | None = None

    def start(self) -> None:
        """RuntimeError, with the end of its log, if it does not answer in time or something else has the port."""
        if not is_free(self._port):
            raise RuntimeError(f"something listens on 127.0.0.1:{self._port} already")
        scratch = self._home / "tmp"
        scratch.mkdir(parents=True)
        self._process = Process(
            Program(
                name="emulator",
                argv=[toolbox.python("emulator"), str(MAIN)],
                log=self._home / "emulator.log",
                environment=self._environment(scratch),
                directory=self._home,
            )
        )
        wait_until(self._answers, self._process, START)

    def _environment(self, scratch: Path) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._home),
            "TMPDIR": str(scratch),
            "LANG": "C.UTF-8",
            "GATEWAY_PORT": str(self._port),
            "BIND_HOST": "127.0.0.1",
            # signatures are checked, and a function may do only what the policies of its role allow
            "AUTH": "true",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            # nothing is throttled beyond the functions' own concurrency limits
            "LAMBDA_ACCOUNT_CONCURRENCY": "100",
            "STATE_DIR": str(self._home / "state"),
            "S3_DATA_DIR": str(self._home / "s3"),
        }

    def stop(self) -> None:
        """Ends it and the functions that it started."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        shutil.rmtree(self._home / "tmp", ignore_errors=True)

    def log(self) -> str:
        path = self._home / "emulator.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def client(self, service: str) -> Any:
        """A boto3 client that may do everything."""
        session = Session(
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name=REGION,
            localstack_host=f"127.0.0.1:{self._port}",
        )
        return session.client(service)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
