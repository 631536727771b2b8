"""One port for several processes of a function: each connection goes to one of them, in turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

BUFFER = 1 << 16


class Balancer:
    """Listens on 127.0.0.1:`port`. Skips a target that refuses, and resets a connection that all of them refuse."""

    def __init__(self, port: int, targets: Sequence[int]) -> None:
        self._port = port
        self._targets = list(targets)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=BUFFER)

    async def stop(self) -> None:
        """Connections that are under way are cut off."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams = await self._connect()
        if streams is None:
            return
        target_reader, target_writer = streams
        try:
            requests, responses = tasks = [
                asyncio.create_task(_copy(reader, target_writer)),
                asyncio.create_task(_copy(target_reader, writer)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                # a client that has closed its sending side may still read
                if not responses.done() and requests.result():
                    with contextlib.suppress(OSError):
                        target_writer.write_eof()
                    await responses
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            target_writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        first = self._targets.pop(0)
        others = list(self._targets)
        self._targets.append(first)
        # try all targets, even if other connections rotate the list meanwhile
        for target in (first, *others):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", target, limit=BUFFER)
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Copy until one side closes; what was read by then is sent. False if a connection broke."""
    # buffer nothing: data in the buffer would be discarded at the end
    writer.transport.set_write_buffer_limits(high=0)
    with contextlib.suppress(OSError):
        while data := await reader.read(BUFFER):
            writer.write(data)
            await writer.drain()
        return True
    return False
