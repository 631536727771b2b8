"""One child process of the Python pool, as the engine sees it: the socket to it and its output."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Sequence
from time import monotonic

from .compiled_code import framed

# the limits in bytes of one answer and of its output
_ANSWER = 1 << 30
_MAX_STDOUT_BYTES = 8192
_CHUNK = 1 << 18


class ChildLost(Exception):
    """The child ended, or sent something that is no answer, during a call."""


class NotReady(ChildLost):
    """The child could not clean up after an earlier call, or had ended, so this one was not begun: another child may
    run it."""


class PythonProcess:
    def __init__(self, pid: int, channel: socket.socket, printed: int, memory_mb: int) -> None:
        """`printed`: the descriptor of its output. Both do not block, and are closed by `release`."""
        self.pid = pid
        self.usable = True
        # the only execution that it may serve, once it has served one
        self.execution: str | None = None
        # its exit status, or minus the signal that ended it, once it has ended
        self.status: int | None = None
        self._channel = channel
        self._printed = printed
        self._memory_mb = memory_mb
        # whether it has answered before
        self._used = False
        # of the time of the call that it runs
        self._end: float | None = None
        self._output = bytearray()
        self._dropped = 0
        # the event loop that watches both ends, also between two calls: taking them off and on again costs as much as
        # the rest of a call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading: _Reading | None = None
        self._waiting: list[asyncio.Future[int]] = []

    @property
    def alive(self) -> bool:
        """As far as it is known without asking."""
        return self.usable

    async def call(self, request: Sequence[bytes], timeout: float | None) -> bytearray:
        """Send a request, given in parts, and wait for its answer, or for what it asks for: see `give`. Raises
        TimeoutError or ChildLost, after which the child is not usable."""
        self._output.clear()
        self._dropped = 0
        self._end = None if timeout is None else monotonic() + timeout
        try:
            frame = await self._exchange(request, timeout)
            if not frame:
                # a child that has not run anything has nothing to clean up
                raise NotReady("it is not in order") if self._used else ChildLost("the process did not run the code")
            self._used = True
            return frame
        except BaseException:
            self.usable = False
            raise

    async def give(self, opened: Awaitable[tuple[int, Sequence[int]]]) -> bytearray:
        """Send what the child has asked for, the number of an error or zero and descriptors, which are closed; then it
        goes on as in `call`."""
        try:
            async with asyncio.timeout(self._left()):
                error, descriptors = await opened
            try:
                frame = await self._exchange(None, self._left(), (error, descriptors))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            if not frame:
                raise ChildLost("the process sent no answer")
            return frame
        except BaseException:
            self.usable = False
            raise

    def _left(self) -> float | None:
        return None if self._end is None else self._end - monotonic()

    def output(self) -> str:
        """What the last call printed; only the beginning if it was too much."""
        text = self._output.decode("utf-8", "replace")
        return f"{text}\n[... {self._dropped} more bytes]" if self._dropped else text

    # -- its end

    def has_ended(self, status: int) -> None:
        """It has ended with this status, and what it had started in its group as well."""
        self.status = status
        self.usable = False
        if self._reading is not None:
            # an answer that it sent before is there by now
            self._reading.on_readable()
            self._reading.fail(EOFError())
        for waiter in self._waiting:
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(status)
        self._waiting.clear()

    def end(self) -> asyncio.Future[int]:
        """Its status, once it has ended."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.status is not None:
            waiter.set_result(self.status)
        else:
            self._waiting.append(waiter)
        return waiter

    def set_aside(self) -> None:
        """Take no notice of it any more."""
        self.usable = False
        self._unwatch()

    def release(self) -> None:
        """Close the socket and the output."""
        self.set_aside()
        self._channel.close()
        if self._printed >= 0:
            os.close(self._printed)
            self._printed = -1

    async def _reason_of_death(self) -> str:
        """Why the child ended: its exit status is available a moment after its socket has closed."""
        status = await self._status_after_end()
        if status is None:
            return "the process closed its channel to the pool"
        if status >= 0:
            return f"the process ended with exit status {status} while it ran the code"
        name = signal.Signals(-status).name
        hint = f"; it may have reached its memory limit of {self._memory_mb} MB" if name in _OUT_OF_MEMORY else ""
        return f"the process was ended by {name} while it ran the code{hint}"

    async def _status_after_end(self) -> int | None:
        try:
            async with asyncio.timeout(0.5):
                return await self.end()
        except TimeoutError:
            return None

    # -- the exchange of frames

    async def _exchange(
        self,
        request: Sequence[bytes] | None,
        timeout: float | None,
        given: tuple[int, Sequence[int]] | None = None,
    ) -> bytearray:
        """`given`: the number of an error, or zero, and descriptors."""
        loop = asyncio.get_running_loop()
        self._watch(loop)
        answer: asyncio.Future[bytearray] = loop.create_future()
        self._reading = _Reading(self._channel, answer)
        timer = loop.call_later(timeout, _expire, answer) if timeout is not None else None
        try:
            if request is not None:
                await self._send(loop, request, answer)
            if given is not None:
                self._send_files(*given)
            return await answer
        except (ConnectionError, EOFError):
            self._drain()
            raise ChildLost(await self._reason_of_death()) from None
        finally:
            self._reading = None
            if answer.done() and not answer.cancelled():
                # sending may have failed as well, and the caller is told once
                answer.exception()
            if timer is not None:
                timer.cancel()
            self._drain()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            return
        self._unwatch()
        self._loop = loop
        loop.add_reader(self._channel.fileno(), self._on_readable)
        loop.add_reader(self._printed, self._drain)

    def _unwatch(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._channel.fileno())
            loop.remove_reader(self._printed)

    def _on_readable(self) -> None:
        if self._reading is not None:
            self._reading.on_readable()
        else:
            # it has ended, or sends what nobody has asked for
            self.usable = False
            self._unwatch()

    async def _send(
        self, loop: asyncio.AbstractEventLoop, request: Sequence[bytes], answer: asyncio.Future[bytearray]
    ) -> None:
        first, *rest = framed(*request)
        try:
            sent = self._channel.send(first)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise NotReady("it has ended") from None
        if sent == len(first) and not rest:
            return
        sending = asyncio.ensure_future(self._send_all(loop, (memoryview(first)[sent:], *rest)))
        try:
            # a timeout or the child's end completes `answer`
            await asyncio.wait((sending, answer), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()

    def _send_files(self, error: int, descriptors: Sequence[int]) -> None:
        try:
            socket.send_fds(self._channel, [bytes((error,))], descriptors)
        except OSError as failure:
            # it does not read, or has ended
            raise ConnectionError(str(failure)) from None

    async def _send_all(self, loop: asyncio.AbstractEventLoop, parts: Sequence[bytes | memoryview]) -> None:
        for part in parts:
            await loop.sock_sendall(self._channel, part)

    def _drain(self) -> None:
        """Read what was printed, so that the child never waits for the pipe; keep the beginning."""
        if self._printed < 0:
            return
        for _ in range(16):
            try:
                chunk = os.read(self._printed, 65536)
            except BlockingIOError:
                return
            if not chunk:
                # code has closed its standard output: there is no more to be read, ever
                if self._loop is not None:
                    self._loop.remove_reader(self._printed)
                return
            kept = chunk[: max(0, _MAX_STDOUT_BYTES - len(self._output))]
            self._output += kept
            self._dropped += len(chunk) - len(kept)


_OUT_OF_MEMORY = ("SIGKILL", "SIGABRT", "SIGSEGV", "SIGBUS")


class _Reading:
    """Collects one frame into the future `answer`."""

    def __init__(self, channel: socket.socket, answer: asyncio.Future[bytearray]) -> None:
        self._channel = channel
        self._answer = answer
        self._frame: bytearray | None = None
        self._head = b""
        self._at = 0

    def fail(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)

    def on_readable(self) -> None:
        if self._answer.done():
            return
        try:
            # a few chunks at a time, so that a large answer does not hold up the loop
            for _ in range(16):
                if self._step():
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(ConnectionError(str(error)))

    def _step(self) -> bool:
        if self._frame is None:
            chunk = self._channel.recv(65536)
            self._head += chunk
            if chunk and len(self._head) < 4:
                return False
            if chunk:
                self._begin()
        else:
            with memoryview(self._frame) as view:
                count = self._channel.recv_into(view[self._at : self._at + _CHUNK])
            self._at += count
            chunk = b"x" * min(1, count)
        if not chunk:
            self._answer.set_exception(EOFError())
        elif self._frame is not None and self._at == len(self._frame):
            self._answer.set_result(self._frame)
        return self._answer.done()

    def _begin(self) -> None:
        (length,) = struct.unpack_from(">I", self._head)
        if length > _ANSWER or len(self._head) - 4 > length:
            self._answer.set_exception(ConnectionError("not an answer"))
            return
        self._frame = bytearray(length)
        self._at = len(self._head) - 4
        self._frame[: self._at] = self._head[4:]


def _expire(answer: asyncio.Future[bytearray]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
