"""A line to a server of any protocol, on which bytes are held up, cut, and lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

SLOW_SECONDS = 0.02
PIECE_BYTES = 64 * 1024


class Relay:
    """To the server of a URL. At most one of its faults is on at a time; `mend` ends it."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_away = self._is_slow = self._loses = self._stays_away = False
        self._cut_after: int | None = None

    async def start(self) -> str:
        """The URL of the server through this line."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        host = f"{self._target.hostname}:{self._target.port}"
        return self._target.geturl().replace(host, f"127.0.0.1:{port}")

    async def end(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what goes wrong

    def be_away(self) -> None:
        self._is_away = True
        self._cut()

    def be_slow(self) -> None:
        self._is_slow = True

    def cut_after(self, count: int, *, stay_away: bool) -> None:
        """After so many bytes to the server, of which it gets the last ones, too."""
        self._cut_after, self._stays_away = count, stay_away

    def lose_answer(self) -> None:
        """The next thing that the server says is not heard any more."""
        self._loses = True

    def mend(self) -> None:
        self._is_away = self._is_slow = self._loses = self._stays_away = False
        self._cut_after = None

    # -- bytes

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._is_away:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        both = {writer, server_writer}
        self._writers |= both
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(
                    self._pass_on(reader, server_writer, to_server=True),
                    self._pass_on(server_reader, writer, to_server=False),
                )
        finally:
            self._writers -= both
            for one in both:
                one.close()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, to_server: bool) -> None:
        while data := await source.read(PIECE_BYTES):
            if self._is_slow:
                await asyncio.sleep(SLOW_SECONDS)
            if not to_server and self._loses:
                self._loses = False
                raise ConnectionAbortedError
            if to_server and self._cut_after is not None:
                self._cut_after -= len(data)
                if self._cut_after < 0:
                    target.write(data[: self._cut_after])
                    await target.drain()
                    self._cut_after, self._is_away = None, self._stays_away
                    raise ConnectionAbortedError
            target.write(data)
            await target.drain()
        raise ConnectionAbortedError
