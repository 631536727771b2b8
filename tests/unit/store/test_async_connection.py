"""One statement after another over a socket, whose other end is held here."""

from __future__ import annotations

import asyncio
import socket
from struct import pack
from typing import Any

import pytest
from pg8000.core import READY_FOR_QUERY
from pg8000.exceptions import InterfaceError

from noetl_serverless.store import async_connection
from noetl_serverless.store.async_connection import READ_BYTES, AsyncConnection

DATA = b"D"


def message(code: bytes, body: bytes = b"") -> bytes:
    return code + pack("!i", len(body) + 4) + body


READY = message(READY_FOR_QUERY, b"I")


class Context:
    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.error: Exception | None = None


class Connection:
    """Asks for `text` as it is; each data message of the answer is a row, one that says "wrong" an error, and one that
    says "odd" cannot be read."""

    def __init__(self, wire: socket.socket) -> None:
        self.socket = wire
        self.hung_up = 0
        self.lost = False
        self.message_types: dict[bytes, Any] = {DATA: self._row, READY_FOR_QUERY: lambda data, context: None}

    def request(self, sql: str, params: dict[str, Any]) -> tuple[bytes, Context]:
        return sql.encode(), Context()

    def is_lost_after(self, error: Exception | None) -> bool:
        return self.lost

    def abort(self) -> None:
        self.hung_up += 1

    def _row(self, data: bytes, context: Context) -> None:
        if data == b"wrong":
            context.error = ValueError("the server refuses")
        elif data == b"odd":
            raise ValueError("no such instant")
        else:
            context.rows.append(data)


class Ends:
    """Both ends, and how often an end was told."""

    def __init__(self) -> None:
        ours, self.server = socket.socketpair()
        self.server.setblocking(False)
        self.connection = Connection(ours)
        self.ended: list[AsyncConnection] = []
        anything: Any = self.connection
        self.talk = AsyncConnection(anything, asyncio.get_running_loop(), self.ended.append)

    async def said(self, size: int) -> bytes:
        """So many bytes of what was sent."""
        loop, found = asyncio.get_running_loop(), b""
        async with asyncio.timeout(5):
            while len(found) < size:
                found += await loop.sock_recv(self.server, 1 << 20)
        return found

    async def answer(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.server, data)


@pytest.fixture
async def ends() -> Any:
    ends = Ends()
    yield ends
    ends.talk.close()
    ends.connection.socket.close()
    ends.server.close()


async def within(answer: Any) -> Any:
    return await asyncio.wait_for(answer, 5)


async def test_an_answer_is_in_when_the_server_is_ready(ends: Ends) -> None:
    answer = ends.talk.execute("select", {})
    assert await ends.said(6) == b"select"
    whole = message(DATA, b"one") + message(DATA, b"two") + READY
    for at in range(len(whole) - 1):
        await ends.answer(whole[at : at + 1])
    await asyncio.sleep(0.01)
    assert not answer.done() and ends.ended == []
    await ends.answer(whole[-1:])
    assert (await within(answer)).rows == [b"one", b"two"]
    assert (ends.ended, ends.talk.broken) == ([ends.talk], False)
    again = ends.talk.execute("again", {})
    await ends.answer(message(DATA, b"three") + READY)
    assert (await within(again)).rows == [b"three"]


async def test_what_is_larger_than_a_socket_takes_at_once_is_sent_whole(ends: Ends) -> None:
    text = "x" * 5_000_000
    answer = ends.talk.execute(text, {})
    assert await ends.said(len(text)) == text.encode()
    long = b"y" * (3 * READ_BYTES)
    await ends.answer(message(DATA, long) + READY)
    assert (await within(answer)).rows == [long]


async def test_once_all_is_sent_nobody_waits_to_send_more(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    writers: list[int] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_writer", lambda fd, *more: writers.append(fd))
    answer = ends.talk.execute("select", {})
    await ends.answer(READY)
    await within(answer)
    assert writers == []


async def test_what_the_server_refuses_is_an_error_of_the_statement_alone(ends: Ends) -> None:
    answer = ends.talk.execute("select", {})
    await ends.answer(message(DATA, b"wrong") + READY)
    with pytest.raises(ValueError, match="refuses"):
        await within(answer)
    assert not ends.talk.broken
    ends.connection.lost = True
    answer = ends.talk.execute("select", {})
    await ends.answer(message(DATA, b"wrong") + READY)
    with pytest.raises(ValueError, match="refuses"):
        await within(answer)
    assert ends.talk.broken, "with which error the connection is lost"


@pytest.mark.parametrize(("read", "reason"), [(False, "reset by peer"), (True, "the server closed the connection")])
async def test_the_error_says_how_the_server_closed_the_connection(ends: Ends, read: bool, reason: str) -> None:
    answer = ends.talk.execute("select", {})
    if read:
        await ends.said(6)
    # a socket that is closed with bytes unread resets the connection
    ends.server.close()
    with pytest.raises(InterfaceError, match=reason):
        await within(answer)
    assert ends.talk.broken and ends.ended == [ends.talk]


async def test_what_the_server_said_before_it_went_is_the_reason(ends: Ends) -> None:
    answer = ends.talk.execute("select", {})
    await ends.answer(message(DATA, b"wrong"))
    await asyncio.sleep(0.01)
    ends.server.close()
    with pytest.raises(ValueError, match="refuses"):
        await within(answer)
    assert ends.talk.broken


async def test_an_answer_that_cannot_be_read_breaks_it(ends: Ends) -> None:
    answer = ends.talk.execute("select", {})
    await ends.answer(message(b"?", b"what"))
    with pytest.raises(InterfaceError):
        await within(answer)
    assert ends.talk.broken


async def test_a_value_that_cannot_be_read_is_not_reported_as_a_lost_connection(ends: Ends) -> None:
    answer = ends.talk.execute("select", {})
    await ends.answer(message(DATA, b"odd") + READY)
    with pytest.raises(ValueError, match="no such instant"):
        await within(answer)
    assert ends.talk.broken, "the next answer is taken for the rest of this one"


async def test_one_that_lies_idle_and_is_spoken_to_is_hung_up(ends: Ends) -> None:
    assert not ends.talk.has_unsolicited_data()
    await ends.answer(message(DATA, b"bye"))
    assert ends.talk.has_unsolicited_data()
    await asyncio.sleep(0.01)
    assert (ends.talk.broken, ends.connection.hung_up, ends.ended) == (True, 1, [])


async def test_a_server_that_is_silent_for_too_long_breaks_it(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_connection, "READ_TIMEOUT_SECONDS", 0.2)
    answer = ends.talk.execute("select", {})
    for _ in range(3):
        await asyncio.sleep(0.1)
        await ends.answer(message(DATA, b"still here"))
    assert not answer.done(), "each word counts"
    with pytest.raises(InterfaceError, match=r"no answer for 0\.2 s"):
        await within(answer)


async def test_who_stops_waiting_leaves_it_in_use_until_the_answer_is_in(ends: Ends) -> None:
    answer = ends.talk.execute("select", {})
    answer.cancel()
    await asyncio.sleep(0.01)
    assert ends.ended == []
    await ends.answer(READY)
    await asyncio.sleep(0.01)
    assert ends.ended == [ends.talk] and not ends.talk.broken


async def test_it_may_be_left_to_somebody_who_blocks(ends: Ends) -> None:
    ends.talk.detach()
    assert ends.connection.socket.gettimeout() == async_connection.READ_TIMEOUT_SECONDS
    await ends.answer(b"x")
    await asyncio.sleep(0.01)
    assert not ends.talk.broken
    assert ends.connection.socket.recv(1) == b"x"
    ends.talk.attach()
    assert ends.connection.socket.gettimeout() == 0.0
    answer = ends.talk.execute("select", {})
    await ends.answer(READY)
    await within(answer)
