"""TLS, by a relay that speaks it in front of a server that does not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pg8000.exceptions import InterfaceError
from tests.certificate import certificate

from noetl_serverless.errors import Unavailable
from noetl_serverless.store.connection import connect
from noetl_serverless.store.database import Database
from noetl_serverless.tools import postgres_connection

Dial = Callable[[str], Awaitable[list[Any]]]
ASK_FOR_TLS = struct.pack("!ii", 8, 80877103)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Relay:
    """In front of the server; speaks TLS if `has_tls`."""

    url: str
    pem: Path
    has_tls: bool = True
    asked: int = 0
    secured: int = 0

    def with_mode(self, mode: str) -> str:
        return f"{self.url}?sslmode={mode}"


@pytest.fixture
async def relay(postgres_url: str, tmp_path: Path) -> AsyncIterator[Relay]:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = urlsplit(postgres_url)
    made = Relay("", pem)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            if first == ASK_FOR_TLS:
                made.asked += 1
                writer.write(b"S" if made.has_tls else b"N")
                if made.has_tls:
                    await writer.start_tls(context)
                    made.secured += 1
                first = b""
            behind = await asyncio.open_connection(server.hostname, server.port)
            behind[1].write(first)
            await asyncio.gather(pump(reader, behind[1]), pump(behind[0], writer))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as relaying:
        port = relaying.sockets[0].getsockname()[1]
        made.url = f"postgresql://{server.username}:{server.password}@localhost:{port}{server.path}"
        yield made


@pytest.fixture
def tls_url(relay: Relay) -> str:
    return f"{relay.with_mode('verify-full')}&sslrootcert={relay.pem}"


def tool_connect(url: str) -> Any:
    return postgres_connection.connect({"url": url})


@pytest.fixture(params=[connect, tool_connect], ids=["engine", "task"])
def dial(request: pytest.FixtureRequest) -> Dial:
    """Both make a connection in the same way."""

    async def dial(url: str) -> list[Any]:
        def ask() -> list[Any]:
            with contextlib.closing(request.param(url)) as connection:
                rows: list[Any] = connection.run("SELECT 1")
                return rows

        return await asyncio.to_thread(ask)

    return dial


@pytest.mark.parametrize(
    ("mode", "has_tls", "asked", "secured"),
    [
        ("disable", True, 0, 0),
        ("allow", True, 1, 1),
        ("prefer", True, 1, 1),
        ("prefer", False, 1, 0),
        ("require", True, 1, 1),
    ],
)
async def test_tls_is_asked_for_and_used_as_sslmode_says(
    relay: Relay, dial: Dial, mode: str, has_tls: bool, asked: int, secured: int
) -> None:
    relay.has_tls = has_tls
    assert await dial(relay.with_mode(mode)) == [[1]]
    assert (relay.asked, relay.secured) == (asked, secured)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_without_tls_no_connection_is_made_where_it_is_required(relay: Relay, dial: Dial, mode: str) -> None:
    relay.has_tls = False
    with pytest.raises((Unavailable, InterfaceError), match="refuses SSL"):
        await dial(relay.with_mode(mode))


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_a_server_of_an_unknown_authority_is_refused_where_it_is_verified(
    relay: Relay, dial: Dial, mode: str
) -> None:
    with pytest.raises((Unavailable, ssl.SSLError), match="CERTIFICATE_VERIFY_FAILED"):
        await dial(relay.with_mode(mode))


async def test_only_verify_full_looks_at_the_servers_name(relay: Relay, dial: Dial) -> None:
    relay.url = relay.url.replace("localhost", "127.0.0.1")
    assert await dial(f"{relay.with_mode('verify-ca')}&sslrootcert={relay.pem}") == [[1]]
    with pytest.raises((Unavailable, ssl.SSLError), match="IP address mismatch"):
        await dial(f"{relay.with_mode('verify-full')}&sslrootcert={relay.pem}")


async def test_a_tasks_credential_may_hold_the_authority_itself(relay: Relay) -> None:
    data = {"url": relay.with_mode("verify-full"), "sslrootcert": relay.pem.read_text()}
    connection = await asyncio.to_thread(postgres_connection.connect, data)
    connection.drop()
    assert relay.secured == 1


async def test_statements_and_transactions_pass_over_tls(tls_url: str) -> None:
    database = Database(tls_url, 2)
    text = "0123456789abcdef" * 100_000
    assert await database.run("SELECT CAST(:text AS text)", text=text) == [[text]]
    assert await database.transaction(lambda connection: connection.run("SELECT 7")) == [[7]]
    rows = await asyncio.gather(
        *(database.run("SELECT n FROM generate_series(1, CAST(:last AS integer)) n", last=20_000) for _ in range(2))
    )
    assert [len(answer) for answer in rows] == [20_000, 20_000]
    await database.close()


async def test_a_broken_connection_is_reported_over_tls(tls_url: str) -> None:
    database = Database(tls_url, 1)
    with pytest.raises(Unavailable):
        await database.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await database.run("SELECT 1") == [[1]]
    await database.close()
