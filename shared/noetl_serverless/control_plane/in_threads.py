"""Pieces of an answer that take a while to make, each made in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator


async def in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        making = asyncio.ensure_future(asyncio.to_thread(next, pieces, None))
        try:
            piece = await asyncio.shield(making)
        finally:
            if not making.done():
                # the reader has gone; what the thread reads is closed after it
                await asyncio.gather(making, return_exceptions=True)
        if piece is None:
            return
        if piece:
            yield piece
