"""What the settings say reaches the parts that a function is made of."""

from __future__ import annotations

import base64
from importlib import import_module
from typing import Any

import pytest

from noetl_serverless.hosts.local.platform import local_platform
from noetl_serverless.testing.bus import MemoryKeyValue, MemoryNotifier

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
