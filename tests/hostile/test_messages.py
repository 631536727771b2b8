"""Whoever can publish on the bus can at most waste a moment: what is no pointer is dropped, and work goes on."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import nats
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client as Bus

from noetl_serverless.bus.key import encoded_key
from noetl_serverless.bus.nats import NatsNotifier
from noetl_serverless.bus.nats_key_value import NatsKeyValue
from noetl_serverless.errors import Unauthenticated
from noetl_serverless.gateway.sessions import Sessions, User
from noetl_serverless.protocol import CommandKey

from .conftest import FUZZ, Client

GARBAGE = [
    b"",
    b"\x00",
    b"not a pointer",
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    b'{"execution_id": 7, "command_id": "a"}',
    b'{"execution_id": "x", "command_id": "a"}',
    b'{"execution_id": "9999999999999999999", "command_id": "a"}',
    b'{"execution_id": "-1", "command_id": "a"}',
    b'{"execution_id": "7", "command_id": ""}',
    b'{"execution_id": "7", "command_id": "\\u0000"}',
    b'{"execution_id": "7", "command_id": "\\ud800"}',
    b'{"execution_id": "7", "command_id": "a", "more": 1}',
    b'{"execution_id": "7", "command_id": "' + b"a" * 10_000 + b'"}',
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
]


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
async def notifier(nats_url: str) -> AsyncIterator[NatsNotifier]:
    notifier = NatsNotifier(nats_url, prefix=f"h{secrets.token_hex(6)}")
    yield notifier
    await notifier.close()


async def publish(bus: Bus, notifier: NatsNotifier, data: bytes, headers: dict[str, str] | None = None) -> None:
    await bus.jetstream().publish(f"{notifier._subjects}.shared", data, headers=headers)


async def left(bus: Bus, notifier: NatsNotifier) -> int:
    """Messages that are still in the stream; an acknowledgement takes a moment to be carried out."""
    found = -1
    for _ in range(100):
        found = (await bus.jetstream().stream_info(notifier._stream)).state.messages
        if not found:
            break
        await asyncio.sleep(0.02)
    return found


async def test_garbage_is_dropped_for_good_and_the_work_behind_it_is_done(
    worker: Client, started: str, bus: Bus, notifier: NatsNotifier
) -> None:
    key = CommandKey(execution_id=started, command_id="first#1")
    await notifier.publish("shared", [CommandKey(execution_id="7", command_id="gone#1")])
    for garbage in GARBAGE:
        await publish(bus, notifier, garbage)
    for status in ("404", "408", "503", "409"):
        await publish(bus, notifier, b"", {"Status": status, "Description": "not the server"})
    await notifier.publish("shared", [key])
    pointers: list[Any] = []
    # a few at a time: a pull that garbage fills up must come back too
    for _ in range(len(GARBAGE) + 8):
        pointers += await notifier.pull("shared", 3, 0)
    assert [pointer.key.command_id for pointer in pointers] == ["gone#1", "first#1"]
    named = [pointer.key.model_dump() for pointer in pointers]
    claimed = await worker.post("/api/commands/claim", {"worker_id": "w-1", "commands": named})
    assert [command["execution_id"] for command in claimed.json["commands"]] == [started]
    await notifier.ack(pointers)
    assert await left(bus, notifier) == 0


async def test_a_pull_that_gets_nothing_but_garbage_ends_as_it_should(bus: Bus, notifier: NatsNotifier) -> None:
    await notifier.publish("shared", [CommandKey(execution_id="7", command_id="a")])
    await notifier.ack(await notifier.pull("shared", 1, 1))
    made = notifier._connection.connection_number
    await publish(bus, notifier, b"garbage")
    assert await notifier.pull("shared", 1, 0.1) == []
    assert await notifier.pull("shared", 1, 0) == []
    assert notifier._connection.connection_number == made, "no connection was given up for it"


@FUZZ
@given(
    data=st.one_of(
        st.binary(max_size=40),
        st.dictionaries(
            st.sampled_from(["execution_id", "command_id"]),
            st.one_of(st.text(max_size=6), st.integers(), st.none()),
            max_size=2,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
async def test_any_bytes_are_a_pointer_or_dropped(bus: Bus, notifier: NatsNotifier, data: bytes) -> None:
    if not notifier._connection.connection_number:
        await notifier.publish("shared", [CommandKey(execution_id="7", command_id="a")])
        await notifier.ack(await notifier.pull("shared", 1, 1))
    await publish(bus, notifier, data)
    for pointer in await notifier.pull("shared", 10, 0):
        assert pointer.key.execution_id.isdecimal() and pointer.key.command_id
        await notifier.ack([pointer])


VALUES = st.one_of(
    st.binary(max_size=30),
    st.fixed_dictionaries(
        {},
        optional={
            "session_id": st.one_of(st.text(max_size=4), st.none()),
            "user_id": st.one_of(st.text(max_size=4), st.integers()),
            "email": st.one_of(st.text(max_size=4), st.none()),
            "display_name": st.one_of(st.text(max_size=4), st.lists(st.none())),
            "roles": st.one_of(st.lists(st.sampled_from(["viewer", "admin", ["admin"], 1])), st.just("admin")),
            "expires_at": st.sampled_from([0, 4e9, 1e300, -1e300, "4000000000", None, [1]]),
        },
    ).map(orjson.dumps),
)


@FUZZ
@given(value=VALUES)
async def test_any_value_in_the_bucket_is_a_session_or_none(bus: Bus, nats_url: str, value: bytes) -> None:
    values = NatsKeyValue(nats_url, "hostile", 60.0)
    try:
        sessions = Sessions(values, 60.0)
        token, _ = await sessions.open(User("ada", roles=("viewer",)))
        await bus.jetstream().publish(f"$KV.hostile.{encoded_key(token)}", value)
        session = await sessions.find(token)
        orjson.dumps(session.user.to_dict())
        assert session.expires
        assert all(isinstance(role, str) for role in session.user.roles)
    except Unauthenticated:
        return
    finally:
        await values.close()
