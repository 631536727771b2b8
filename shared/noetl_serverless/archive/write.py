"""Write the files of one batch, put them into the result store, and read them back."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from ..ports import ResultStore
from ..scratch import ScratchFolder
from .layout import EVENTS, EXECUTIONS, LOG, RESULTS, keys_of
from .log_file import EPOCH, Block, LogWriter
from .messages import Batch, EventRow, File, Found
from .parquet import TableWriter, columns, digest_of

# columns that are JSON in the database
_JSON = ("parent", "workload", "state", "result", "error")
_INSTANTS = ("created_at", "ended_at", "expires_at")


class Damaged(Exception):
    """The content that was read back is not what was written, or the batch is not complete."""


class Source(Protocol):
    """Where the rows of a batch come from: pages in order, an empty one at the end."""

    async def executions(self, archive_id: str, after: str) -> Sequence[tuple[str, str]]: ...

    async def events(self, archive_id: str, after: str, seq: int) -> Sequence[EventRow]: ...


@dataclass(slots=True)
class WrittenBatch:
    files: dict[str, File] = field(default_factory=dict)
    executions: list[Found] = field(default_factory=list)


async def write_batch(batch: Batch, source: Source, store: ResultStore, scratch: Path) -> WrittenBatch:
    """Needs pyarrow. Raises Damaged, and the errors of the source and the store."""
    with ScratchFolder(scratch, "archive") as folder:
        draft = await asyncio.to_thread(_BatchFiles, folder)
        try:
            await _fill(draft, batch, source)
        finally:
            await asyncio.to_thread(draft.close)
        written = WrittenBatch(executions=draft.found)
        for table, key in keys_of(batch.month, int(batch.first_id), int(batch.last_id), batch.executions).items():
            content = await asyncio.to_thread(draft.path(table).read_bytes)
            back = await _place(store, key, content)
            await asyncio.to_thread(draft.check, table, back)
            sha256 = (await asyncio.to_thread(hashlib.sha256, back)).hexdigest()
            written.files[table] = File(key=key, bytes=len(back), sha256=sha256, rows=draft.rows(table))
        return written


async def _fill(draft: _BatchFiles, batch: Batch, source: Source) -> None:
    rows: Sequence[EventRow] = ()
    at = 0
    async for id, text in _heads(batch, source):
        await asyncio.to_thread(draft.open, id, text)
        seq = 0
        while True:
            if at == len(rows):
                # after the last event of this execution, or of the previous one if this has none yet
                rows, at = await source.events(batch.archive_id, id, seq), 0
            end = next((place for place in range(at, len(rows)) if rows[place][0] != id), len(rows))
            if end > at:
                await asyncio.to_thread(draft.add, rows[at:end])
                seq = rows[end - 1][1]
                at = end
            # the next row is another execution's, or there is none
            if end < len(rows) or not rows:
                break
    missing = batch.executions - len(draft.found)
    if missing or draft.rows(EVENTS) != batch.events:
        raise Damaged(
            f"the batch has {batch.executions} executions and {batch.events} events, "
            f"{len(draft.found)} and {draft.rows(EVENTS)} were given"
        )


async def _heads(batch: Batch, source: Source) -> AsyncIterator[tuple[str, str]]:
    after = "0"
    while page := await source.executions(batch.archive_id, after):
        for id, text in page:
            yield id, text
        after = page[-1][0]


async def _place(store: ResultStore, key: str, content: bytes) -> bytes:
    """Put the content into the store and read it back. Different content of an earlier attempt is replaced."""
    # put without a check for existence: without the right to list, a missing key looks like a forbidden one
    await store.put(key, content)
    back = await _back(store, key)
    if back != content:
        await store.delete(key)
        await store.put(key, content)
        back = await _back(store, key)
    if back != content:
        raise Damaged(f"{key} has other bytes than were put there")
    return back


async def _back(store: ResultStore, key: str) -> bytes:
    try:
        return await store.get(key)
    except KeyError:
        raise Damaged(f"{key} is not in the store after it was put there") from None


class _BatchFiles:
    """The files of a batch while they are written, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables = {table: TableWriter(table, self.path(table)) for table in (EVENTS, EXECUTIONS, RESULTS)}
        self._log_file = self.path(LOG).open("wb")
        self._log = LogWriter(self._log_file)
        self._blocks: list[list[Block]] = []
        self.found: list[Found] = []

    def path(self, table: str) -> Path:
        return self._folder / table

    def rows(self, table: str) -> int:
        if table == LOG:
            return len(self.found) + self._tables[EVENTS].rows
        return self._tables[table].rows

    def open(self, id: str, text: str) -> None:
        head = orjson.loads(text)
        self._tables[EXECUTIONS].add(_row(EXECUTIONS, head["execution"]))
        for row in head["results"]:
            self._tables[RESULTS].add(_row(RESULTS, row))
        self._blocks.append(self._log.open(text))
        self.found.append(Found(execution_id=id, events=0, blocks=[]))

    def add(self, rows: Sequence[EventRow]) -> None:
        for row in rows:
            self._log.add(row)
            self._tables[EVENTS].add((int(row[0]), *row[1:]))
        self.found[-1].events += len(rows)

    def close(self) -> None:
        self._log.close()
        self._log_file.close()
        for table in self._tables.values():
            table.close()
        for found, blocks in zip(self.found, self._blocks, strict=True):
            found.blocks = blocks

    def check(self, table: str, content: bytes) -> None:
        """Raises Damaged unless the content contains every row."""
        if table == LOG:
            self._check_log(content)
            return
        copy = self._folder / f"{table}.back"
        copy.write_bytes(content)
        rows, digest = digest_of(table, copy, self._tables[table].rows)
        if (rows, digest) != (self._tables[table].rows, self._tables[table].digest):
            raise Damaged(f"{table}: {rows} rows come back, or with other values, of {self._tables[table].rows}")

    def _check_log(self, content: bytes) -> None:
        for found in self.found:
            part = b"".join(content[offset : offset + length] for _, offset, length in found.blocks)
            lines = gzip.decompress(part).count(b"\n")
            if lines != found.events + 1:
                raise Damaged(f"log: {lines} lines of execution {found.execution_id}, not {found.events + 1}")


def _row(table: str, row: dict[str, Any]) -> list[Any]:
    return [_value(name, row[name]) for name in columns(table)]


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _JSON:
        return orjson.dumps(value).decode()
    if name in _INSTANTS:
        return (datetime.fromisoformat(value) - EPOCH) // datetime.resolution
    return value
