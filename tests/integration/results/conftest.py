"""Object stores from packages, one process of each, and an empty place in one for each test."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.object_servers import ADMIN, REGION, FakeGcs, MiniStack, SeaweedFS

from noetl_serverless.hosts.local.objects import object_store
from noetl_serverless.ports import ResultStore
from noetl_serverless.results.store import FsspecResultStore

BUCKET = SeaweedFS.BUCKET
S3_SERVERS = ("ministack", "seaweedfs")
STORES = ("disk", "memory", *S3_SERVERS, "gcs")


class Servers:
    """Each is started when it is first asked for."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._started: dict[str, Any] = {}

    @property
    def ministack(self) -> MiniStack:
        server: MiniStack = self._get("ministack", MiniStack)
        return server

    @property
    def seaweedfs(self) -> SeaweedFS:
        server: SeaweedFS = self._get("seaweedfs", SeaweedFS)
        return server

    @property
    def gcs(self) -> FakeGcs:
        server: FakeGcs = self._get("gcs", FakeGcs)
        return server

    def s3(self, name: str) -> MiniStack | SeaweedFS:
        return self.ministack if name == "ministack" else self.seaweedfs

    def stop(self) -> None:
        for server in self._started.values():
            server.stop()

    def _get(self, name: str, kind: Any) -> Any:
        if name not in self._started:
            server = kind(self._home)
            server.start()
            self._started[name] = server
            if name == "ministack":
                server.client().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
            elif name == "gcs":
                server.create_bucket(BUCKET)
        return self._started[name]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="noetl-objects-") as home:
        servers = Servers(Path(home))
        yield servers
        servers.stop()


@pytest.fixture
def unique() -> str:
    return secrets.token_hex(6)


def s3_environment(url: str, keys: tuple[str, str] = ADMIN) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_S3": url,
    }


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, servers: Servers, unique: str, tmp_path: Path) -> ResultStore:
    return store_named(request.param, servers, unique, tmp_path)


def store_named(name: str, servers: Servers, unique: str, folder: Path) -> ResultStore:
    if name == "disk":
        return FsspecResultStore(f"file://{folder}/results")
    if name == "memory":
        return FsspecResultStore(f"memory://{unique}")
    if name == "gcs":
        return object_store(f"gs://{BUCKET}/{unique}", {"STORAGE_EMULATOR_HOST": servers.gcs.url})
    return object_store(f"s3://{BUCKET}/{unique}", s3_environment(servers.s3(name).url))
