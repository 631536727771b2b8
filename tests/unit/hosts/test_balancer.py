from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from noetl_serverless.hosts.local.balancer import Balancer
from noetl_serverless.hosts.local.ports import free_port

# one of them is a little more than the kernel keeps for a reader who does not read
LENGTHS = range(2**18, 7 * 2**20, 3 * 2**14)


@contextlib.asynccontextmanager
async def echoes(*names: str) -> AsyncIterator[list[int]]:
    """Servers that say their name and then what they hear."""
    servers = []
    for name in names:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name) -> None:
            writer.write(f"{name} ".encode() + await reader.readline())
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
    try:
        yield [server.sockets[0].getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()


async def said(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"hello\n")
        return (await reader.read()).decode()
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def balanced(targets: list[int]) -> AsyncIterator[int]:
    port = free_port()
    balancer = Balancer(port, targets)
    await balancer.start()
    try:
        yield port
    finally:
        await balancer.stop()


async def test_each_connection_goes_to_the_next_in_turn() -> None:
    async with echoes("a", "b") as targets, balanced(targets) as port:
        assert [await said(port) for _ in range(4)] == ["a hello\n", "b hello\n", "a hello\n", "b hello\n"]


async def test_who_does_not_listen_is_passed_over() -> None:
    async with echoes("a") as targets, balanced([free_port(), *targets]) as port:
        assert [await said(port) for _ in range(2)] == ["a hello\n", "a hello\n"]


async def test_of_many_at_once_nobody_misses_the_one_who_listens() -> None:
    async with echoes("a") as targets, balanced([free_port(), *targets]) as port:
        assert set(await asyncio.gather(*(said(port) for _ in range(20)))) == {"a hello\n"}


async def test_who_reads_late_gets_the_answer_to_its_end() -> None:
    lengths = iter(LENGTHS)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * next(lengths))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, balanced([server.sockets[0].getsockname()[1]]) as port:
        for length in LENGTHS:
            with socket.create_connection(("127.0.0.1", port)) as client:
                await asyncio.sleep(0.03)
                assert len(await asyncio.to_thread(_all, client)) == length


def _all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(2**20), b""))


async def test_who_has_asked_all_and_closes_its_side_gets_the_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        await asyncio.sleep(0.05)
        writer.write(b"answer to " + request)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, balanced([server.sockets[0].getsockname()[1]]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        writer.write_eof()
        answer = asyncio.create_task(reader.read())
        await asyncio.wait([answer], timeout=2)
        assert answer.done(), "it waits for what has come to its end"
        assert answer.result() == b"answer to hello"
        writer.close()


async def test_whoever_is_gone_lets_go_of_the_one_who_answers() -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x" * 2**16)
                await writer.drain()
        left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, balanced([server.sockets[0].getsockname()[1]]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readexactly(1)
        writer.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(left.wait(), 2)
        assert left.is_set()


async def test_a_caller_whom_nobody_takes_is_turned_away() -> None:
    async with balanced([free_port()]) as port:
        with contextlib.suppress(ConnectionError):
            assert await said(port) == ""


async def test_what_is_under_way_is_cut_off_at_the_end() -> None:
    async with echoes("a") as targets:
        async with balanced(targets) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"half")
            await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        with pytest.raises(OSError, match="Connect"):
            await said(port)
