"""Each contract test runs on the real bus and on its in-memory fake."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats import NatsNotifier
from noetl_serverless.bus.nats_key_value import NatsKeyValue
from noetl_serverless.ports import KeyValue, Notifier
from noetl_serverless.testing.bus import MemoryKeyValue, MemoryNotifier


class MakeNotifier(Protocol):
    def __call__(self, *, ack_wait: float = 30.0) -> Notifier: ...


MakeKeyValue = Callable[[float], KeyValue]


@pytest.fixture(params=["nats", "memory"])
async def make_notifier(request: pytest.FixtureRequest) -> AsyncIterator[MakeNotifier]:
    made: list[Notifier] = []
    url = request.getfixturevalue("nats_url") if request.param == "nats" else ""
    prefix = f"t{secrets.token_hex(6)}"

    def make(*, ack_wait: float = 30.0) -> Notifier:
        real = NatsNotifier(url, prefix=prefix, ack_wait=ack_wait, timeout=20.0)
        notifier: Notifier = real if url else MemoryNotifier(ack_wait=ack_wait)
        made.append(notifier)
        return notifier

    yield make
    for notifier in made:
        await notifier.close()


@pytest.fixture
async def notifier(make_notifier: MakeNotifier) -> Notifier:
    return make_notifier()


@pytest.fixture(params=["nats", "memory"])
async def make_key_value(request: pytest.FixtureRequest) -> AsyncIterator[MakeKeyValue]:
    connection = NatsConnection(request.getfixturevalue("nats_url")) if request.param == "nats" else None
    bucket = f"t{secrets.token_hex(6)}"

    def make(ttl: float) -> KeyValue:
        return NatsKeyValue(connection, bucket, ttl) if connection else MemoryKeyValue(ttl)

    yield make
    if connection:
        await connection.close()


@pytest.fixture
async def key_value(make_key_value: MakeKeyValue) -> KeyValue:
    return make_key_value(60.0)
