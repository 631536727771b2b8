"""The value of a stored result, with its tables, from a file without a name: little of it is in memory."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from ..errors import AnswerTooLarge, NotAcceptable, Unavailable
from ..limits import MIB
from ..playbook.views import COLLECTED
from ..results.accumulated import MERGE
from ..results.content import temporary_file
from ..results.files import ResultFiles
from ..results.stores import ResultStores
from ..store.results import StoredResult
from ..tables.mapped import MappedFile
from ..tables.media_types import MEDIA_TYPES, form_named
from ..tables.sizes import OBJECTS, least_of_rows
from ..tables.stream import StreamWriter
from ..tables.table import Table
from ..tables.value import read_value
from .accumulated import Parts, as_json, files_in
from .content import checked, store_of

# of Python objects, at least, of tables that cannot be one
LISTED_BYTES: Final = 256 * MIB
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)


async def value_of(stores: ResultStores, result: StoredResult, scratch: str) -> Any:
    """Of JSON, or of Arrow. `scratch`: the folder of the file, or empty for that of the system.

    Raises NotAcceptable for bytes that are not of its type, ReferenceNotAvailable, ResultStoreUnavailable, and
    Unavailable if there is no room.
    """
    store = store_of(stores, result)
    if form_named(result.content_type) == "json":
        content = b"".join([piece async for piece in checked(store, result)])
        try:
            return await asyncio.to_thread(orjson.loads, content)
        except orjson.JSONDecodeError as error:
            raise NotAcceptable(f"{result.ref} is not what its type says: {error}", available=[]) from error
    with temporary_file(scratch) as file:
        try:
            async for piece in checked(store, result):
                await asyncio.to_thread(file.write, piece)
            file.flush()
        except OSError as error:
            raise _no_room(error) from error
        mapped = MappedFile(os.dup(file.fileno()), result.bytes)
    try:
        return await asyncio.to_thread(read_value, mapped)
    except ValueError as error:
        raise NotAcceptable(f"{result.ref} is not what its type says: {error}", available=[]) from error


async def accumulated_value(stores: ResultStores, document: Mapping[str, Any], scratch: str) -> Any:
    """Of what is made of parts; parts that are tables of one schema are one table, in a file. Raises what `pieces_of`
    does, AnswerTooLarge for tables that have to be lists and are too large for that, and Unavailable."""
    value = dict(document["rest"])
    for name, manifest in document[COLLECTED].items():
        parts = Parts(manifest, stores, scratch)
        value[name] = await (parts.merged() if manifest["strategy"] == MERGE else _one_of(parts, name, scratch))
    return value


async def _one_of(parts: Parts, name: str, scratch: str) -> Any:
    """One table, or one list: of tables with other columns, and of what is none, beginning with the first such part, so
    that none of them stays open."""
    table: _Growing | None = None
    listed: _Listed | None = None
    async for part in parts.values():
        if listed is None and isinstance(part, Table) and (table is None or table.has_columns_of(part)):
            table = table or _Growing(part, files_in(scratch))
            await asyncio.to_thread(table.add, part)
            continue
        if listed is None:
            listed = _Listed(name)
            if table is not None:
                await asyncio.to_thread(listed.add, await asyncio.to_thread(table.table))
        await asyncio.to_thread(listed.add, part)
    if listed is not None:
        return listed.items
    return [] if table is None else await asyncio.to_thread(table.table)


class _Growing:
    """A table of the rows of others, of which one at a time is open."""

    def __init__(self, first: Table, files: ResultFiles) -> None:
        self._schema_digest = first.schema_digest
        try:
            self._file = MappedFile(files.open_on_disk(), 0)
        except OSError as error:
            raise _no_room(error) from error
        self._writer = StreamWriter(self._file.fileno(), first.schema)

    def has_columns_of(self, part: Table) -> bool:
        return self._schema_digest == part.schema_digest

    def add(self, part: Table) -> None:
        try:
            for batch in part.batches():
                self._writer.write(batch)
        except OSError as error:
            raise _no_room(error) from error

    def table(self) -> Table:
        try:
            self._file.size = self._writer.finish().bytes
        except OSError as error:
            raise _no_room(error) from error
        return Table(self._file)


class _Listed:
    """The items of lists and tables, of tables up to a limit."""

    def __init__(self, name: str) -> None:
        self.items: list[Any] = []
        self._name = name
        self._size = 0

    def add(self, part: Sequence[Any]) -> None:
        """Raises AnswerTooLarge and NotAcceptable."""
        with as_json(f"the field {self._name!r:.200}"):
            if isinstance(part, Table):
                self._size += sum(least_of_rows(batch, 0, batch.num_rows, OBJECTS) for batch in part.batches())
                self._check()
            self.items += part

    def _check(self) -> None:
        if self._size > LISTED_BYTES:
            raise AnswerTooLarge(
                f"{self._name!r:.200} has tables with other columns than its other parts, which as lists have at least "
                f"{self._size} bytes, and the limit is {LISTED_BYTES}: have all of it as {MEDIA_TYPES['json']}, or "
                "read the parts of the result, which the list of results names",
                bytes=self._size,
                max_bytes=LISTED_BYTES,
            )


def _no_room(error: OSError) -> Unavailable:
    what = "too many results are read at once" if error.errno in _OUT_OF_FILES else "there is no room for the result"
    return Unavailable(f"{what}: {error.strerror or error}")
