"""Joins the parts of what was accumulated to one value. Of their tables one at a time is open: a process may have few
files, and there are parts without number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

from ..tables.mapped import MappedFile
from ..tables.sealed import NewFiles
from ..tables.stream import StreamWriter
from ..tables.table import Table


async def joined(
    parts: AsyncIterator[Sequence[Any]], files: NewFiles, check_rows: Callable[[Table], None] | None = None
) -> Any:
    """One table, in a file of `files`, if all parts are tables with the same columns; else one list of all their items,
    of tables the rows. A single table is given as it is. `check_rows`: called before the rows of a table become items;
    it raises if these are too many.

    Raises what `parts` and `check_rows` raise, InvalidTable, and OSError if there is no room.
    """
    with _Joined(files, check_rows) as whole:
        async for part in parts:
            await asyncio.to_thread(whole.add, part)
        return await asyncio.to_thread(whole.value)


class _Joined:
    """What has been joined until now: `_first` alone, a table that grows, or a list."""

    def __init__(self, files: NewFiles, check_rows: Callable[[Table], None] | None) -> None:
        self._files = files
        self._check_rows = check_rows
        self._first: Table | None = None
        self._schema_digest: str | None = None
        self._file: MappedFile | None = None
        self._writer: StreamWriter | None = None
        self._items: list[Any] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, part: Sequence[Any]) -> None:
        if self._items is None and isinstance(part, Table) and self._schema_digest in (None, part.schema_digest):
            self._add_table(part)
            return
        if self._items is None:
            # what is no table, or one with other columns: from now on a list, of which no part stays open
            before = self.value()
            self._items = []
            self._add_items(before)
        self._add_items(part)

    def value(self) -> Any:
        if self._items is not None:
            return self._items
        found: Any = [] if self._first is None else self._first
        if self._writer is not None and self._file is not None:
            self._file.size = self._writer.finish().bytes
            found = Table(self._file)
        # so that it is open no longer than whoever is given it has it
        self._first = self._file = self._writer = None
        return found

    def _add_table(self, part: Table) -> None:
        if self._schema_digest is None:
            self._first, self._schema_digest = part, part.schema_digest
            return
        if self._writer is None:
            assert self._first is not None
            self._begin(self._first)
        self._write(part)

    def _begin(self, first: Table) -> None:
        self._file = MappedFile(self._files.open(first.file.size), 0)
        extend = partial(self._files.extend, self._file.fileno())
        self._writer = self._open.enter_context(StreamWriter(self._file.fileno(), first.schema, extend))
        self._write(first)
        self._first = None

    def _write(self, part: Table) -> None:
        assert self._writer is not None
        for batch in part.batches():
            self._writer.write(batch)

    def _add_items(self, part: Sequence[Any]) -> None:
        assert self._items is not None
        if isinstance(part, Table) and self._check_rows is not None:
            self._check_rows(part)
        self._items += part
