"""The value of a stored result, with its tables, from a file without a name: little of it is in memory."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ..errors import AnswerTooLarge, NotAcceptable, Unavailable
from ..limits import MIB
from ..playbook.views import COLLECTED
from ..results.accumulated import MERGE
from ..results.content import temporary_file
from ..results.joined import joined
from ..results.stores import ResultStores
from ..store.results import StoredResult
from ..tables.mapped import MappedFile
from ..tables.media_types import MEDIA_TYPES, form_named
from ..tables.sizes import OBJECTS, least_of_rows
from ..tables.table import Table
from ..tables.value import TooMuchJson, read_value
from .accumulated import Parts, as_json, files_in
from .content import checked, store_of
from .converted import MAX_JSON_BYTES

# of Python objects, at least, of tables that cannot be one
LISTED_BYTES: Final = 256 * MIB
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE)


async def value_of(stores: ResultStores, result: StoredResult, scratch: str) -> Any:
    """Of JSON, or of Arrow. `scratch`: the folder of the file, or empty for that of the system.

    Raises NotAcceptable for bytes that are not of its type, and for too much JSON beside tables, ReferenceNotAvailable,
    ResultStoreUnavailable, and Unavailable if there is no room.
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
        return await asyncio.to_thread(read_value, mapped, MAX_JSON_BYTES)
    except TooMuchJson as error:
        raise NotAcceptable(
            f"{result.ref} cannot be converted: beside its tables {error}. It can be had as {result.content_type}",
            available=[result.content_type],
        ) from error
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
    try:
        with as_json(f"the field {name!r:.200}"):
            return await joined(parts.values(), files_in(scratch), _ListedRows(name).check)
    except OSError as error:
        raise _no_room(error) from error


class _ListedRows:
    """Of tables that have to be a list, up to a limit."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._size = 0

    def check(self, table: Table) -> None:
        """Raises AnswerTooLarge and InvalidTable."""
        self._size += sum(least_of_rows(batch, 0, batch.num_rows, OBJECTS) for batch in table.batches())
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
