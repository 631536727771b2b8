"""What the settings say reaches the parts that a function is made of."""

from __future__ import annotations

import base64
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.hosts.assembly.stores import stores_of
from noetl_serverless.hosts.assembly.worker import worker
from noetl_serverless.hosts.local.platform import local_platform
from noetl_serverless.store.database import Database
from noetl_serverless.store.result_objects import PostgresResultStore, WorkerResultStore
from noetl_serverless.testing.bus import MemoryKeyValue, MemoryNotifier
from noetl_serverless.worker.remote_results import RemoteResultStore

ENVIRON = {
    "NOETL_HOST": "local",
    "NOETL_NATS_URL": "tls://one:4222,tls://two:4222,tls://three:4222",
    "NOETL_NATS_REPLICAS": "3",
    "NOETL_DATABASE_URL": "postgresql://noetl@127.0.0.1:1/noetl",
    "NOETL_CONTROL_PLANE_URL": "http://127.0.0.1:1",
    "NOETL_RESULT_URL": "file:///tmp/nowhere",
    "NOETL_SERVICE_TOKEN": "token",
    "NOETL_TOKEN_KEY": "k" * 32,
    "NOETL_ENCRYPTION_KEYS": f"one:{base64.b64encode(b'k' * 32).decode()}",
}


@pytest.mark.parametrize(
    ("function", "part", "fake"),
    [
        ("control_plane", "NatsNotifier", MemoryNotifier),
        ("reconciler", "NatsNotifier", MemoryNotifier),
        ("worker", "NatsNotifier", MemoryNotifier),
        ("gateway", "NatsKeyValue", MemoryKeyValue),
    ],
)
def test_streams_are_on_as_many_nodes_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, function: str, part: str, fake: Any
) -> None:
    made: list[int] = []

    def make(connection: object, *, replicas: int, **others: object) -> Any:
        made.append(replicas)
        return fake()

    module = import_module(f"noetl_serverless.hosts.assembly.{function}")
    monkeypatch.setattr(module, part, make)
    getattr(module, function)(local_platform(ENVIRON))
    assert made == [3]


@pytest.mark.parametrize("function", ["control_plane", "reconciler", "worker"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"NOETL_RESULT_AUTO": "kv", "NOETL_NATS_URL": ""}, "names kv: set NOETL_NATS_URL"),
        ({"NOETL_ARCHIVE_AFTER_DAYS": "1", "NOETL_RESULT_URL": ""}, "needs an object store: set NOETL_RESULT_URL"),
        ({"NOETL_RESULT_AUTO": "kv,s3"}, "NOETL_RESULT_AUTO='kv,s3': expected names out of kv, postgres"),
    ],
)
def test_a_function_does_not_start_with_a_store_that_there_is_not(
    function: str, settings: dict[str, str], message: str
) -> None:
    module = import_module(f"noetl_serverless.hosts.assembly.{function}")
    with pytest.raises(ValueError, match=message):
        getattr(module, function)(local_platform({**ENVIRON, **settings}))


@pytest.mark.parametrize(
    ("settings", "names", "chosen", "large"),
    [
        ({}, ["disk", "kv", "postgres"], "disk", "disk"),
        ({"NOETL_RESULT_URL": ""}, ["kv", "postgres"], "postgres", "postgres"),
        ({"NOETL_RESULT_AUTO": "kv,postgres"}, ["disk", "kv", "postgres"], "kv", "postgres"),
        ({"NOETL_RESULT_AUTO": "kv"}, ["disk", "kv", "postgres"], "kv", "disk"),
        ({"NOETL_NATS_URL": ""}, ["disk", "postgres"], "disk", "disk"),
    ],
)
def test_results_go_where_the_settings_say(settings: dict[str, str], names: list[str], chosen: str, large: str) -> None:
    stores = stores_of(local_platform({**ENVIRON, **settings}), NatsConnection("nats://127.0.0.1:1"), Unreached())
    assert [store.name for store in stores] == names
    assert (stores.choose("auto", 100).name, stores.choose("auto", 10_000_000).name) == (chosen, large)


def test_a_worker_writes_into_the_database_as_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named: dict[str, Any] = {}

    def stores(platform: Any, nats: Any, postgres: Any) -> Any:
        named["store"] = postgres
        return stores_of(platform, nats, postgres)

    monkeypatch.setattr("noetl_serverless.hosts.assembly.worker.stores_of", stores)
    environ = {**ENVIRON, "NOETL_RESULT_URL": tmp_path.as_uri(), "NOETL_TOKEN_KEY": "", "NOETL_ENCRYPTION_KEYS": ""}
    remote, _ = worker(local_platform(environ))
    assert (type(named["store"]), named["store"]._worker) == (RemoteResultStore, remote.id)
    direct, _ = worker(local_platform({**environ, "NOETL_ORCHESTRATOR": "direct"}))
    assert (type(named["store"]), named["store"]._worker) == (WorkerResultStore, direct.id.encode())


class Unreached(PostgresResultStore):
    """Asked for its name alone."""

    def __init__(self) -> None:
        super().__init__(Database("postgresql://noetl@127.0.0.1:1/noetl", 1))


def test_the_keys_of_its_store_are_those_it_was_started_with() -> None:
    environ = {
        **ENVIRON,
        "NOETL_RESULT_URL": "s3://bucket/results",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    platform = local_platform(environ)
    environ.clear()
    assert platform.results().name == "s3"
