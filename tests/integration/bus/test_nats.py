"""What only the real bus can do: be away, come back, come back empty."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats import NatsNotifier
from noetl_serverless.bus.nats_key_value import NatsKeyValue
from noetl_serverless.errors import InvalidRequest, Unavailable
from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.protocol import CommandKey

KEY = CommandKey(execution_id="7", command_id="load/1/1")


class Server:
    """A NATS of the test's own, to stop and start."""

    def __init__(self, home: Path) -> None:
        self._port = free_port()
        self._token = secrets.token_hex(24)
        self._home = home
        self._process: object = None
        self._folder = 0

    @property
    def url(self) -> str:
        return self._nats().url

    def _nats(self) -> Nats:
        return Nats(self._home / f"nats{self._folder}", self._port, self._token, self._home / "nats.log")

    def start(self, *, wiped: bool = False) -> None:
        self._folder += wiped
        self._process = self._nats().start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()  # type: ignore[attr-defined]
            self._process = None


@pytest.fixture
def server(data_dir: Path) -> Iterator[Server]:
    server = Server(data_dir)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def mute() -> AsyncIterator[int]:
    """The port of something that takes connections and never says a word."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield int(listening.sockets[0].getsockname()[1])
    listening.close()


@pytest.fixture
async def notifier(server: Server) -> AsyncIterator[NatsNotifier]:
    notifier = NatsNotifier(NatsConnection(server.url, retry_after=0.0))
    yield notifier
    await notifier.close()


async def test_pointers_survive_a_restart_of_the_server(server: Server, notifier: NatsNotifier) -> None:
    await notifier.publish("shared", [KEY])
    server.stop()
    server.start()
    assert [p.key for p in await notifier.pull("shared", 10, 5)] == [KEY]


async def test_a_wiped_server_gets_its_stream_and_consumer_again(server: Server, notifier: NatsNotifier) -> None:
    await notifier.publish("shared", [KEY])
    await notifier.pull("shared", 10, 1)
    server.stop()
    server.start(wiped=True)
    assert await notifier.pull("shared", 10, 0) == []
    await notifier.publish("shared", [KEY])
    assert [p.key for p in await notifier.pull("shared", 10, 5)] == [KEY]


async def test_without_a_server_every_call_says_unavailable(server: Server, notifier: NatsNotifier) -> None:
    await notifier.publish("shared", [KEY])
    pointers = await notifier.pull("shared", 1, 1)
    server.stop()
    with pytest.raises(Unavailable):
        await notifier.publish("shared", [KEY])
    with pytest.raises(Unavailable):
        await notifier.pull("shared", 1, 0)
    with pytest.raises(Unavailable):
        await notifier.ack(pointers)
    with pytest.raises(Unavailable):
        await notifier.check()


async def test_a_pull_that_loses_its_server_while_waiting_says_unavailable(
    server: Server, notifier: NatsNotifier
) -> None:
    await notifier.publish("shared", [KEY])
    await notifier.ack(await notifier.pull("shared", 1, 1))
    pull = asyncio.create_task(notifier.pull("shared", 1, 60))
    await asyncio.sleep(0.3)
    server.stop()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(pull, 30)


async def test_a_failed_connection_is_not_tried_again_at_once() -> None:
    connection = NatsConnection("nats://127.0.0.1:1", retry_after=3600.0)
    with pytest.raises(Unavailable) as first:
        await connection.client()
    with pytest.raises(Unavailable) as second:
        await connection.client()
    assert first.value.__cause__ is not None
    assert second.value.__cause__ is None


async def test_a_server_that_is_away_is_known_without_waiting_for_the_timeout() -> None:
    connection = NatsConnection("nats://127.0.0.1:1,nats://127.0.0.1:2", connect_timeout=3600.0)
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable):
            await connection.client()


async def test_one_server_of_several_is_enough(server: Server) -> None:
    connection = NatsConnection(f"nats://noetl:x@127.0.0.1:1,{server.url}")
    assert (await connection.client()).is_connected
    await connection.close()


async def test_a_server_that_says_nothing_does_not_keep_one_from_another(server: Server, mute: int) -> None:
    # in whatever order they are tried
    for _ in range(8):
        connection = NatsConnection(f"nats://127.0.0.1:{mute},{server.url}", connect_timeout=1.0)
        assert (await connection.client()).is_connected
        await connection.close()


async def test_a_server_that_hangs_costs_a_publish_no_more_than_its_timeout(mute: int) -> None:
    notifier = NatsNotifier(f"nats://127.0.0.1:{mute}", timeout=0.5)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(notifier.publish("shared", [KEY]), 10)
    await notifier.close()


async def test_a_deleted_consumer_is_made_again(server: Server, notifier: NatsNotifier) -> None:
    await notifier.publish("shared", [KEY])
    await notifier.pull("shared", 1, 1)
    client = await nats.connect(server.url)
    await client.jetstream().delete_consumer("NOETL_COMMANDS", "shared")
    await client.close()
    assert [p.key for p in await notifier.pull("shared", 1, 5)] == [KEY]


async def test_the_stream_is_a_durable_work_queue_of_bare_pointers(server: Server, notifier: NatsNotifier) -> None:
    await notifier.publish("shared", [KEY])
    client = await nats.connect(server.url)
    info = await client.jetstream().stream_info("NOETL_COMMANDS")
    message = await client.jetstream().get_last_msg("NOETL_COMMANDS", "noetl.commands.shared")
    await client.close()
    assert info.config.retention == "workqueue"
    assert info.config.storage == "file"
    assert info.config.max_age
    assert message.data == b'{"execution_id":"7","command_id":"load/1/1"}'


async def test_messages_of_others_are_passed_over(server: Server, notifier: NatsNotifier) -> None:
    await notifier.publish("shared", [])
    await notifier.publish("other", [KEY])
    client = await nats.connect(server.url)
    await client.jetstream().publish("noetl.commands.shared", b"not a pointer")
    await client.close()
    await notifier.publish("shared", [KEY])
    assert [p.key for p in await notifier.pull("shared", 10, 5)] == [KEY]


@pytest.mark.parametrize("pool", ["", "a.b", "a b", ">", "*", "x" * 65])
async def test_a_pool_with_an_impossible_name_is_refused(server: Server, notifier: NatsNotifier, pool: str) -> None:
    with pytest.raises(InvalidRequest):
        await notifier.publish(pool, [KEY])
    with pytest.raises(InvalidRequest):
        await notifier.pull(pool, 1, 0)


def test_another_event_loop_gets_another_connection(server: Server) -> None:
    notifier = NatsNotifier(server.url)
    asyncio.run(notifier.publish("shared", [KEY]))
    assert [p.key for p in asyncio.run(notifier.pull("shared", 1, 1))] == [KEY]


async def test_a_bucket_never_shows_its_keys(server: Server) -> None:
    key_value = NatsKeyValue(server.url, "sessions")
    await key_value.put("the-session-token", b"{}")
    client = await nats.connect(server.url)
    info = await client.jetstream().stream_info("KV_sessions", subjects_filter=">")
    await client.close()
    await key_value.close()
    assert info.state.subjects
    assert not any("the-session-token" in subject for subject in info.state.subjects)


async def test_sessions_survive_a_restart_and_a_wiped_bucket_is_made_again(server: Server) -> None:
    key_value = NatsKeyValue(NatsConnection(server.url, retry_after=0.0), "sessions")
    await key_value.put("a", b"one")
    server.stop()
    server.start()
    assert await key_value.get("a") == b"one"
    server.stop()
    server.start(wiped=True)
    assert await key_value.get("a") is None
    await key_value.put("a", b"two")
    assert await key_value.get("a") == b"two"
    server.stop()
    with pytest.raises(Unavailable):
        await key_value.get("a")
    await key_value.close()
