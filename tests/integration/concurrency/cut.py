"""A wire that brings the server what it is sent, and may be cut before the answer is back."""

from __future__ import annotations

import asyncio
import contextlib

BUFFER = 1 << 16


class CutWire:
    """Listens on 127.0.0.1:`port`. After `cut`, the next bytes that come back are thrown away, and with them the
    connection: what was asked has been carried out, and nobody hears of it."""

    def __init__(self, host: str, target: int) -> None:
        self.port = 0
        self.cuts = 0
        self._host = host
        self._target = target
        self._armed = False
        self._server: asyncio.Server | None = None
        self._pairs: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._armed = True

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._pairs:
            task.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._target)
        pair: asyncio.Future[tuple[None, None]] = asyncio.gather(self._forth(reader, back), self._back(there, writer))
        task = asyncio.ensure_future(self._pair(pair, writer, back))
        self._pairs.add(task)
        task.add_done_callback(self._pairs.discard)

    async def _pair(self, pair: asyncio.Future[tuple[None, None]], *ends: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                await pair
        finally:
            for end in ends:
                end.close()

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BUFFER):
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BUFFER):
            if self._armed:
                self._armed = False
                self.cuts += 1
                break
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
