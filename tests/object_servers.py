"""Real object stores from packages, each a process of its own on free ports of 127.0.0.1."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from localstack import emulator
from localstack.emulator import Emulator
from tests.infra.google_cloud.fake_gcs import binary

from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program, wait_until

START_SECONDS = 60.0
REGION = emulator.REGION
# who may do everything
ADMIN = ("test", "test")


class MiniStack:
    """S3 of an emulator of AWS, which checks signatures and what the policies of a user allow."""

    def __init__(self, home: Path) -> None:
        self._emulator = Emulator(home / "ministack", free_port())

    @property
    def url(self) -> str:
        return self._emulator.url

    def start(self) -> None:
        self._emulator.start()

    def stop(self) -> None:
        self._emulator.stop()

    def client(self, service: str = "s3", keys: tuple[str, str] = ADMIN) -> Any:
        return _client(service, self.url, keys)

    def user(self, name: str, *statements: dict[str, Any]) -> tuple[str, str]:
        """The keys of a new user with this policy."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **one} for one in statements]}
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]


class SeaweedFS:
    """S3 of a store that people run themselves. It knows an administrator, and one who may read and write in a bucket
    but not list it."""

    READER = ("reader", "reader-secret")
    BUCKET = "objects"

    def __init__(self, home: Path) -> None:
        self._home = home / "seaweedfs"
        self._port = free_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._home.mkdir(parents=True)
        identities = [
            {"name": "admin", "credentials": [_keys(ADMIN)], "actions": ["Admin", "Read", "List", "Tagging", "Write"]},
            {
                "name": "reader",
                "credentials": [_keys(self.READER)],
                "actions": [f"Read:{self.BUCKET}", f"Write:{self.BUCKET}"],
            },
        ]
        config = self._home / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        ports = {name: free_port() for name in _PORTS}
        options: dict[str, object] = {
            "dir": self._home,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.port": self._port,
            **ports,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": config,
            "s3.localSocket": self._home / "s3.sock",
            "filer.localSocket": self._home / "filer.sock",
            "master.telemetry": "false",
            "webdav": "false",
            "admin.ui": "false",
        }
        argv = [str(Path(sys.executable).with_name("weed")), "-logtostderr", "mini"]
        argv += [f"-{name}={value}" for name, value in options.items()]
        log = self._home / "weed.log"
        environment = {"HOME": str(self._home), "TMPDIR": str(self._home), "PATH": "/usr/bin:/bin"}
        self._process = Process(Program("weed", argv, log, environment=environment, directory=self._home))
        wait_until(self._answers, self._process, START_SECONDS)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()

    def client(self, service: str = "s3", keys: tuple[str, str] = ADMIN) -> Any:
        return _client(service, self.url, keys)

    def _answers(self) -> bool:
        try:
            # it can write once a volume has come up
            self.client().put_object(Bucket=self.BUCKET, Key="started", Body=b"")
        except Exception:
            return False
        return True


_PORTS = (
    *("s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"),
)


class FakeGcs:
    """Google Cloud Storage without accounts: everybody may do everything."""

    def __init__(self, home: Path) -> None:
        self._home = home / "fake-gcs"
        self._port = free_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        options = {
            "scheme": "http",
            "backend": "memory",
            "host": "127.0.0.1",
            "port": str(self._port),
            "public-host": f"127.0.0.1:{self._port}",
            "external-url": self.url,
            "log-level": "warn",
        }
        argv = [str(binary()), *(part for name, value in options.items() for part in (f"-{name}", value))]
        self._process = Process(Program("fake-gcs-server", argv, self._home / "server.log"))
        wait_until(self._answers, self._process, START_SECONDS)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()

    def create_bucket(self, name: str) -> None:
        body = json.dumps({"name": name}).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/storage/v1/b", body, headers)).close()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/_internal/healthcheck", timeout=1).close()
        except OSError:
            return False
        return True


def _client(service: str, url: str, keys: tuple[str, str]) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


def _keys(keys: tuple[str, str]) -> dict[str, str]:
    return {"accessKey": keys[0], "secretKey": keys[1]}
