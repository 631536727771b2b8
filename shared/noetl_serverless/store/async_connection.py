"""One statement after another over a connection, without blocking the event loop and without a thread."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from pg8000.core import READY_FOR_QUERY, Context
from pg8000.exceptions import InterfaceError

if TYPE_CHECKING:
    from .connection import Connection

# what one turn of the event loop reads at most: a long answer lets others have theirs
CHUNK = 256 * 1024
HEAD = Struct("!ci")
# seconds without a byte of an answer after which none will come: what stands between may have forgotten the connection
PATIENCE = 30.0
NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Conversation:
    """Whoever stops waiting for an answer leaves the connection in use until the answer has come in whole."""

    def __init__(
        self, connection: Connection, loop: asyncio.AbstractEventLoop, ended: Callable[[Conversation], None]
    ) -> None:
        """`ended` is told when the answer to what was asked is in, or will never be."""
        self.connection = connection
        self.broken = False
        self._loop = loop
        self._ended = ended
        self._socket = connection.wire
        self._unsent = memoryview(b"")
        self._received = bytearray()
        # what is under way, and who waits for it
        self._context: Context | None = None
        self._answer: asyncio.Future[Context] | None = None
        self._heard = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self.resume()

    def ask(self, sql: str, params: dict[str, Any]) -> asyncio.Future[Context]:
        """What is awaited raises DatabaseError if the server refuses, InterfaceError if the connection breaks.

        Whatever is raised at once has sent nothing.
        """
        request, self._context = self.connection.request(sql, params)
        answer = self._answer = self._loop.create_future()
        self._heard = self._loop.time()
        self._alarm = self._loop.call_later(PATIENCE, self._overdue)
        self._send(memoryview(request))
        return answer

    def spoken_to(self) -> bool:
        """Whether the server has spoken unasked, as it does when it closes what lay idle: a function may have stood
        still for minutes, and nothing of a statement is lost that is not sent."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def pause(self) -> None:
        """Leave the socket to somebody who blocks."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.settimeout(PATIENCE)

    def resume(self) -> None:
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        self.broken = True
        if not self._loop.is_closed() and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        self.connection.hang_up()

    def _send(self, data: memoryview) -> None:
        try:
            sent = self._socket.send(data)
        except NOT_NOW:
            sent = 0
        except OSError as error:
            self._break(error)
            return
        self._unsent = data[sent:]
        if self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._send(self._unsent)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except NOT_NOW:
            return
        except OSError as error:
            self._break(error)
            return
        if not data or self._context is None:
            self._break(InterfaceError("the server has closed it"))
            return
        self._received += data
        self._heard = self._loop.time()
        try:
            self._take(self._context)
        except Exception as error:
            # an answer that cannot be read leaves nobody knowing where the next one begins
            self._break(error)
            return
        if isinstance(self._socket, ssl.SSLSocket) and not self.broken and self._socket.pending():
            self._loop.call_soon(self._readable)

    def _overdue(self) -> None:
        quiet = self._loop.time() - self._heard
        if quiet < PATIENCE:
            self._alarm = self._loop.call_later(PATIENCE - quiet, self._overdue)
        else:
            self._break(InterfaceError(f"no answer for {PATIENCE:g} s"))

    def _take(self, context: Context) -> None:
        """The messages that are in whole."""
        received, kinds, start, ready = self._received, self.connection.message_types, 0, False
        while not ready and len(received) - start >= HEAD.size:
            code, length = HEAD.unpack_from(received, start)
            end = start + 1 + length
            if end > len(received):
                break
            kinds[code](bytes(received[start + HEAD.size : end]), context)
            start = end
            ready = code == READY_FOR_QUERY
        del received[:start]
        if ready:
            self._finish(context)

    def _finish(self, context: Context) -> None:
        self.broken = self.broken or self.connection.lost_by(context.error)
        self._settle(context, context.error)

    def _break(self, error: Exception) -> None:
        if self.broken:
            return
        self.broken = True
        said = self._context.error if self._context is not None else None
        if self._answer is None:
            # it lay idle; whoever takes it next sees that it is broken
            self.close()
            return
        reason = error if isinstance(error, InterfaceError) else InterfaceError(str(error))
        self._settle(None, said or reason)

    def _settle(self, context: Context | None, error: BaseException | None) -> None:
        answer, self._answer, self._context = self._answer, None, None
        if self._alarm is not None:
            self._alarm.cancel()
        self._ended(self)
        if answer is None or answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(context)
