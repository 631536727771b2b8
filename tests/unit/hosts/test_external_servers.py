from __future__ import annotations

import asyncio
import socket

import pytest

from noetl_serverless.hosts.local.external_servers import check_database, check_nats
from noetl_serverless.hosts.local.ports import free_port


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{free_port()}"


async def test_a_database_that_cannot_be_reached_is_reported_by_its_setting_and_address(nobody: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        await check_database(f"postgresql://ann:s3cret@{nobody}/db")
    message = str(caught.value)
    assert message.startswith(f"NOETL_DATABASE_URL: no PostgreSQL server can be reached at {nobody}: ")
    assert "refused" in message and "s3cret" not in message and "\n" not in message


async def test_a_url_of_another_kind_of_server_is_reported(nobody: str) -> None:
    with pytest.raises(RuntimeError, match=r"^NOETL_DATABASE_URL: the URL of a PostgreSQL database begins with"):
        await check_database(f"mysql://{nobody}/db")


async def test_a_nats_server_that_cannot_be_reached_is_reported_by_its_setting_and_address(nobody: str) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError) as caught:
            await check_nats(f"nats://noetl:s3cret@{nobody},nats://{nobody}")
    assert str(caught.value) == f"NOETL_NATS_URL: no NATS server can be reached at {nobody}, {nobody}"


async def test_another_server_in_the_place_of_nats_is_reported() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, family=socket.AF_INET)
    host, port = server.sockets[0].getsockname()
    async with server:
        with pytest.raises(RuntimeError, match=rf"^NOETL_NATS_URL: no NATS server can be reached at {host}:{port}"):
            await check_nats(f"nats://{host}:{port}")
