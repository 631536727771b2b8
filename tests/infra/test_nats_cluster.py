"""The NATS cluster of the AWS deployment, started from Terraform's own plan: TLS, a majority, the loss of a node."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import nats
import pytest
from tests.eventually import PATIENCE_SECONDS
from tests.infra.nats_cluster import Cluster, Node, container_definitions

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats import NatsNotifier
from noetl_serverless.bus.nats_key_value import NatsKeyValue
from noetl_serverless.errors import Unavailable
from noetl_serverless.protocol import CommandKey

T = TypeVar("T")

STREAM = "NOETL_COMMANDS"


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return container_definitions(tmp_path_factory.mktemp("nats-module"))


@pytest.fixture
def nodes(definitions: dict[str, Any], tmp_path: Path) -> Iterator[Cluster]:
    """None of them is up."""
    cluster = Cluster(tmp_path, definitions)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(nodes: Cluster) -> Cluster:
    nodes.start()
    return nodes


@pytest.fixture
async def connection(cluster: Cluster) -> AsyncIterator[NatsConnection]:
    connection = NatsConnection(cluster.url, ca=cluster.ca, retry_after=0.0)
    yield connection
    await connection.close()


async def until(do: Callable[[], Awaitable[T]]) -> T:
    """As a function that is called again and again, until there is an answer."""
    last: Exception | None = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    return await do()
                except (Unavailable, LookupError, AssertionError) as error:
                    last = error
                    await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: {last!r}") from last


def key(number: int) -> CommandKey:
    return CommandKey(execution_id="7", command_id=f"step/{number}/1")


async def hear(notifier: NatsNotifier, wanted: CommandKey) -> None:
    """A hint may come twice: one that was sent again because its confirmation was lost."""
    pointers = await notifier.pull("shared", 10, 1)
    await notifier.ack(pointers)
    assert wanted in [pointer.key for pointer in pointers]


async def test_hints_and_sessions_outlive_the_node_that_decides_for_them(
    cluster: Cluster, connection: NatsConnection
) -> None:
    notifier = NatsNotifier(connection, replicas=3)
    sessions = NatsKeyValue(connection, replicas=3)
    await until(lambda: notifier.publish("shared", [key(1)]))
    await until(lambda: sessions.put("session", b"mine"))

    async def leader() -> Node:
        return cluster.leader(STREAM)

    lost = await until(leader)
    lost.kill()

    await until(lambda: hear(notifier, key(1)))
    await until(lambda: notifier.publish("shared", [key(2)]))
    await until(lambda: hear(notifier, key(2)))
    assert await until(lambda: sessions.get("session")) == b"mine"
    await until(lambda: sessions.delete("session"))
    assert await until(lambda: sessions.get("session")) is None

    await until(lambda: notifier.publish("shared", [key(3)]))
    lost.start()

    async def has_caught_up() -> None:
        assert lost.messages(STREAM) == cluster.leader(STREAM).messages(STREAM) > 0

    await until(has_caught_up)


async def test_a_node_that_waits_for_the_others_is_not_killed_for_it(nodes: Cluster) -> None:
    first = nodes.nodes[0]
    first.start()

    async def is_healthy() -> None:
        assert first.healthy()

    await until(is_healthy)
    # though it can do nothing yet
    assert first.state("healthz") == {}
    first.kill()
    assert not first.healthy()


async def test_nobody_gets_in_without_tls_the_authority_and_the_password(
    cluster: Cluster, connection: NatsConnection
) -> None:
    await until(connection.client)
    port = cluster.nodes[0].port
    trusting = ssl.create_default_context(cadata=cluster.ca)
    for url, context in (
        (f"nats://noetl:password@localhost:{port}", ssl.create_default_context()),
        (f"nats://noetl:wrong@localhost:{port}", trusting),
        (f"nats://localhost:{port}", trusting),
    ):
        with pytest.raises((nats.errors.Error, ssl.SSLError, OSError)):
            await nats.connect(url, tls=context, allow_reconnect=False, max_reconnect_attempts=1)
    reader, writer = await asyncio.open_connection("localhost", port)
    assert b'"tls_required":true' in await reader.readline()
    writer.close()
