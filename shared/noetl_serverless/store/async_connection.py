"""Runs one statement after another over a connection, without blocking the event loop and without a thread."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any

from pg8000.core import READY_FOR_QUERY, Context
from pg8000.exceptions import InterfaceError

from .connection import Connection
from .prepared import Prepared, Value

# most bytes read in one turn of the event loop, so that a long answer does not hold up others; more than a record of
# TLS, so that nothing stays in the TLS socket, for which the event loop would not call again
READ_BYTES = 256 * 1024
MESSAGE_HEADER = Struct("!ci")
# seconds without a byte after which an answer counts as lost: a proxy or firewall may have dropped the connection
READ_TIMEOUT_SECONDS = 30.0
WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class AsyncConnection:
    """A connection whose caller stops waiting for an answer stays in use until the whole answer has arrived."""

    def __init__(
        self, connection: Connection, loop: asyncio.AbstractEventLoop, ended: Callable[[AsyncConnection], None]
    ) -> None:
        """`ended` is called when the answer to a statement has arrived, or never will."""
        self.connection = connection
        self.broken = False
        self._loop = loop
        self._ended = ended
        self._socket = connection.socket
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self._received = bytearray()
        # the statement under way, and the future that waits for it
        self._context: Context | None = None
        self._answer: asyncio.Future[Context] | None = None
        self._received_at = 0.0
        self._timeout: asyncio.TimerHandle | None = None
        self.attach()

    def execute(self, sql: str, params: dict[str, Any]) -> asyncio.Future[Context]:
        """The future raises DatabaseError if the server refuses, InterfaceError if the connection breaks, ValueError
        for a value that cannot be read.

        If the call itself raises, nothing has been sent.
        """
        return self._start(*self.connection.request(sql, params))

    def call(self, statement: Prepared, values: Sequence[Value]) -> asyncio.Future[Context]:
        """As `execute`."""
        return self._start(*self.connection.call(statement, values))

    def _start(self, request: bytes, context: Context) -> asyncio.Future[Context]:
        self._context = context
        answer = self._answer = self._loop.create_future()
        self._received_at = self._loop.time()
        self._timeout = self._loop.call_later(READ_TIMEOUT_SECONDS, self._check_timeout)
        self._send(memoryview(request))
        return answer

    def has_unsolicited_data(self) -> bool:
        """Whether the server has sent data without a request, as it does when it closes an idle connection: a function
        may have been frozen for minutes. Checked before a statement is sent, so that none is lost."""
        return bool(self._poll.poll(0))

    def detach(self) -> None:
        """Leave the socket to a caller that blocks."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.settimeout(READ_TIMEOUT_SECONDS)

    def attach(self) -> None:
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        self.broken = True
        if not self._loop.is_closed() and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        self.connection.abort()

    def _send(self, data: memoryview) -> None:
        try:
            sent = self._socket.send(data)
        except WOULD_BLOCK:
            sent = 0
        except OSError as error:
            self._fail(error)
            return
        if unsent := data[sent:]:
            self._loop.add_writer(self._socket.fileno(), self._writable, unsent)

    def _writable(self, unsent: memoryview) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._send(unsent)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except WOULD_BLOCK:
            return
        except OSError as error:
            self._fail(error)
            return
        if not data or self._context is None:
            self._fail(InterfaceError("the server closed the connection"))
            return
        self._received += data
        self._received_at = self._loop.time()
        try:
            self._read_messages(self._context)
        except Exception as error:
            # after an answer that cannot be parsed it is unknown where the next one begins
            self._fail(error)

    def _check_timeout(self) -> None:
        idle_seconds = self._loop.time() - self._received_at
        if idle_seconds < READ_TIMEOUT_SECONDS:
            self._timeout = self._loop.call_later(READ_TIMEOUT_SECONDS - idle_seconds, self._check_timeout)
        else:
            self._fail(InterfaceError(f"no answer for {READ_TIMEOUT_SECONDS:g} s"))

    def _read_messages(self, context: Context) -> None:
        """Handle the messages that have arrived completely."""
        received, kinds, start, ready = self._received, self.connection.message_types, 0, False
        while not ready and len(received) - start >= MESSAGE_HEADER.size:
            code, length = MESSAGE_HEADER.unpack_from(received, start)
            end = start + 1 + length
            if end > len(received):
                break
            kinds[code](bytes(received[start + MESSAGE_HEADER.size : end]), context)
            start = end
            ready = code == READY_FOR_QUERY
        del received[:start]
        if ready:
            self._finish(context)

    def _finish(self, context: Context) -> None:
        self.broken = self.broken or self.connection.is_lost_after(context.error)
        self._resolve(context, context.error)

    def _fail(self, error: Exception) -> None:
        if self.broken:
            return
        self.broken = True
        error_of_portal = self._context.error if self._context is not None else None
        if self._answer is None:
            # it was idle; the next to acquire it sees that it is broken
            self.close()
            return
        # a value that cannot be read is no fault of the connection: the same statement would find it again
        is_own = isinstance(error, (InterfaceError, ValueError)) and not isinstance(error, OSError)
        reason = error if is_own else InterfaceError(str(error))
        self._resolve(None, error_of_portal or reason)

    def _resolve(self, context: Context | None, error: BaseException | None) -> None:
        answer, self._answer, self._context = self._answer, None, None
        if self._timeout is not None:
            self._timeout.cancel()
        self._ended(self)
        if answer is None or answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(context)
