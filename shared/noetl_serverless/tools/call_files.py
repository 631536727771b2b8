"""The files of one call of a Python child, as the engine sees them: those that it is given, those that it writes."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from ..limits import RESULT_DEPTH
from ..playbook.json_reading import read_json
from ..playbook.values import is_deeper, stored
from ..tables.json_text import JsonText
from ..tables.mapped import MappedFile
from ..tables.sealed import NewFiles, for_reading, sealed
from ..tables.table import Table
from ..tables.value import read_value, tables_in, without_tables
from .encoding import NotJson, encode, plain_object
from .file_frames import GIVEN, MAX_DESCRIPTORS, ROOM, TABLE, size_of_file

# of one result that is no table
MAX_JSON_BYTES = 1 << 30


class WrongFile(ValueError):
    """A child has asked for, or announced, what it should not."""


class CallFiles:
    def __init__(self, files: NewFiles) -> None:
        self._files = files
        self._tables: list[Table] = []
        self._texts: list[JsonText] = []
        self._requested: set[bytes] = set()
        # what the child writes, or has written
        self._written = -1

    # -- what it is given

    def put_tables(self, fields: dict[str, Any]) -> bytes:
        """The JSON of a request with tables in it: each is {mark: its number}. Raises NotJson."""
        tables: dict[int, Table] = {}
        # no input can hold it by chance
        mark = secrets.token_hex(16)

        def plain(value: Any) -> Any:
            if not isinstance(value, Table):
                return plain_object(value)
            tables[id(value)] = value
            return {mark: list(tables).index(id(value))}

        content = encode(fields, plain)
        self._tables = list(tables.values())
        if len(tables) > MAX_DESCRIPTORS:
            raise NotJson(f"it has {len(tables)} tables, and a process is given at most {MAX_DESCRIPTORS}")
        announced = {"mark": mark, "places": [[table.file.size, table.offset] for table in self._tables]}
        return b'%s,"files":%s}' % (content[:-1], orjson.dumps(announced))

    def put_texts(self, texts: Mapping[str, JsonText]) -> list[tuple[str, int, int]]:
        """What a request says of inputs that are in files: their names, and where their JSON begins and ends."""
        self._texts = list(texts.values())
        return [(name, text.start, text.end) for name, text in texts.items()]

    # -- what it asks for

    async def answer(self, frame: bytes | bytearray) -> tuple[int, Sequence[int]]:
        """The number of an error, or zero, and the descriptors, which whoever calls this closes. Raises WrongFile."""
        kind = bytes(frame[:2])
        if kind == ROOM and self._written >= 0:
            size = size_of_file(frame)
            error, moved = await self._opened(partial(self._extended, os.dup(self._written), size))
            return error, self._goes_on_in(moved)
        if kind in self._requested:
            raise WrongFile("it asked twice for the same")
        self._requested.add(kind)
        if kind == GIVEN:
            return await self._opened(self._given)
        if kind != TABLE:
            raise WrongFile("it asked for something unknown")
        size = size_of_file(frame)
        error, opened = await self._opened(lambda: [self._files.open(size)])
        return error, self._goes_on_in(opened)

    def _goes_on_in(self, opened: Sequence[int]) -> Sequence[int]:
        """What the child writes from now on, if anything, of which one descriptor stays here."""
        try:
            for descriptor in opened:
                self.close()
                self._written = os.dup(descriptor)
        except OSError:
            close_all(opened)
            raise
        return opened

    def _given(self) -> list[int]:
        opened: list[int] = []
        try:
            for file in (*(table.file for table in self._tables), *(text.file for text in self._texts)):
                opened.append(for_reading(file))
        except BaseException:
            close_all(opened)
            raise
        return opened

    def _extended(self, descriptor: int, size: int) -> list[int]:
        """`descriptor`: of this thread alone, which goes on when nobody waits any more. It is given back if it stands
        for another file now, and else closed."""
        try:
            moved = self._files.extend(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        if moved:
            return [descriptor]
        os.close(descriptor)
        return []

    async def _opened(self, open_files: Callable[[], list[int]]) -> tuple[int, Sequence[int]]:
        """In a thread: a file system may be slow. If nobody waits any more, they are closed."""
        opening = asyncio.get_running_loop().run_in_executor(None, open_files)
        try:
            return 0, await asyncio.shield(opening)
        except OSError as error:
            return min(error.errno or errno.EIO, 255), ()
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

    # -- what it has written

    async def table(self, claim: Any) -> Any:
        """The result that is a table, or has one in a field. Raises ValueError if it is not as announced, OSError."""
        if not (isinstance(claim, dict) and all(type(claim.get(name)) is int for name in ("bytes", "rows"))):
            raise WrongFile("it announced no table")
        if self._written < 0:
            raise WrongFile("it announced a file that it has not asked for")
        return await asyncio.to_thread(self._table, claim["bytes"], claim["rows"])

    def _table(self, size: int, rows: int) -> Any:
        value = read_value(self._sealed(size))
        # before anything looks into it
        if is_deeper(value, RESULT_DEPTH):
            raise WrongFile(f"what it has beside its rows is nested deeper than {RESULT_DEPTH} levels")
        tables = [table for _, table in tables_in(value)]
        if (count := sum(map(len, tables))) != rows:
            raise WrongFile(f"it announced {rows} rows, and there are {count}")
        # the child may have written anything
        for table in tables:
            names = table.schema.names
            if len(set(names)) < len(names):
                raise WrongFile("two of its columns have one name")
            stored(names)
        if not isinstance(value, Table | dict):
            raise WrongFile("what it has beside its rows is not an object")
        stored(without_tables(value), levels=RESULT_DEPTH)
        return value

    async def json(self, claim: Any) -> tuple[Any, MappedFile | None]:
        """The result that was written as JSON, and its file; none if it is not in its stored form. Raises ValueError if
        it is not as announced, OSError."""
        if type(claim) is not int or not 0 < claim <= MAX_JSON_BYTES:
            raise WrongFile("it announced no JSON")
        if self._written < 0:
            raise WrongFile("it announced a file that it has not asked for")
        return await asyncio.to_thread(self._json, claim)

    def _json(self, size: int) -> tuple[Any, MappedFile | None]:
        file = self._sealed(size)
        value, is_stored = read_json(file.read(), RESULT_DEPTH)
        return value, file if is_stored else None

    def _sealed(self, size: int) -> MappedFile:
        descriptor, self._written = self._written, -1
        try:
            # it may have written more than it has asked for
            self._files.extend(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return MappedFile(sealed(descriptor, size, self._files.open), size)

    def close(self) -> None:
        """Close what the child has not finished."""
        if self._written >= 0:
            os.close(self._written)
            self._written = -1


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _close_opened(opening: asyncio.Future[list[int]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        close_all(opening.result())
