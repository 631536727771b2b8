"""Results in PostgreSQL, in chunks: see migrations/0023_result_objects.sql."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

from ..errors import AccessDenied
from ..ports import ResultStore
from ..results.chunked import CHUNK_BYTES, ChunkedObjects, Part
from ..results.stores import POSTGRES
from .database import Database
from .prepared import Prepared, Value, text
from .queries import load

# keys of one page of a listing
PAGE = 1000
# comes after every character of a key
LAST = "\U0010ffff"


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value[2:])


_SQL = load("result_objects")
_STATUS: dict[str, tuple[Callable[[str], Any], ...]] = {
    **dict.fromkeys(("put", "begin", "finish"), (str,)),
    **dict.fromkeys(("worker_put", "worker_begin", "worker_put_chunk", "worker_finish"), (str,)),
    "put_chunk": (),
    "read": (UUID, int, _bytes),
    "read_chunk": (_bytes,),
}
_STATEMENTS = {name: Prepared(_SQL[name], columns) for name, columns in _STATUS.items()}


class PostgresResultStore(ChunkedObjects, ResultStore):
    """Each call is a transaction of one statement. An object is there once the last of them has committed; what a
    writer has left that died before is listed, and can be deleted."""

    name = POSTGRES

    def __init__(self, database: Database, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(chunk_bytes)
        self._database = database

    async def delete(self, key: str) -> None:
        await self._database.run(_SQL["delete"], key=key)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        while True:
            page = await self._database.run(_SQL["keys"], first=prefix, after=after, last=f"{prefix}{LAST}", limit=PAGE)
            for row in page:
                yield row[0]
            if len(page) < PAGE:
                return
            after = page[-1][0]

    async def put_whole(self, key: str, upload: UUID, data: bytes, digest: bytes) -> str:
        return await self._status("put", text(key), upload.bytes, data, digest, self._size_of_chunks)

    async def begin(self, key: str, upload: UUID) -> str:
        return await self._status("begin", upload.bytes, text(key), self._size_of_chunks)

    async def put_chunk(self, upload: UUID, number: int, data: bytes) -> str:
        # whether it was there is seen at the end
        return await self._status("put_chunk", upload.bytes, _int4(number), data)

    async def finish(self, key: str, upload: UUID, size: int, digest: bytes) -> str:
        return await self._status("finish", text(key), upload.bytes, _int8(size), digest)

    async def read_part(self, key: str, offset: int, length: int) -> Part | None:
        rows = await self._database.call(_STATEMENTS["read"], [text(key), _int8(offset), _int4(length)])
        return Part(rows[0][0], rows[0][1], rows[0][2] or b"") if rows else None

    async def read_more(self, upload: UUID, offset: int, length: int) -> bytes | None:
        rows = await self._database.call(_STATEMENTS["read_chunk"], [upload.bytes, _int8(offset), _int4(length)])
        return rows[0][0] if rows else None

    @property
    def _size_of_chunks(self) -> Value:
        return _int4(self._chunk_bytes)

    async def _status(self, statement: str, *values: Value) -> str:
        rows = await self._database.call(_STATEMENTS[statement], values)
        return str(rows[0][0]) if rows else ""


class WorkerResultStore(PostgresResultStore):
    """For a worker, which may write below executions of which it holds a lease, read, and nothing else: it calls
    functions that see to that."""

    def __init__(self, database: Database, worker: str, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(database, chunk_bytes=chunk_bytes)
        self._worker = text(worker)

    async def delete(self, key: str) -> None:
        raise AccessDenied(f"a worker deletes no results: {key}")

    def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        raise AccessDenied(f"a worker lists no results: {prefix}")

    async def put_whole(self, key: str, upload: UUID, data: bytes, digest: bytes) -> str:
        values = (text(key), upload.bytes, data, digest, self._size_of_chunks, self._worker)
        return await self._status("worker_put", *values)

    async def begin(self, key: str, upload: UUID) -> str:
        return await self._status("worker_begin", text(key), upload.bytes, self._size_of_chunks, self._worker)

    async def put_chunk(self, upload: UUID, number: int, data: bytes) -> str:
        return await self._status("worker_put_chunk", upload.bytes, _int4(number), data, self._worker)

    async def finish(self, key: str, upload: UUID, size: int, digest: bytes) -> str:
        return await self._status("worker_finish", text(key), upload.bytes, _int8(size), digest, self._worker)


def _int4(value: int) -> Value:
    return value.to_bytes(4, "big", signed=True)


def _int8(value: int) -> Value:
    return value.to_bytes(8, "big", signed=True)
