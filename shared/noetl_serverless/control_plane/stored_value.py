"""The value of a stored result, with its tables, from a file without a name: little of it is in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import orjson

from ..errors import NotAcceptable, Unavailable
from ..results.content import temporary_file
from ..results.stores import ResultStores
from ..store.results import StoredResult
from ..tables.mapped import MappedFile
from ..tables.media_types import form_named
from ..tables.value import read_value
from .accumulated import pieces_of
from .content import checked, store_of


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
            raise Unavailable(f"there is no room for the result: {error.strerror or error}") from error
        mapped = MappedFile(os.dup(file.fileno()), result.bytes)
    try:
        return await asyncio.to_thread(read_value, mapped)
    except ValueError as error:
        raise NotAcceptable(f"{result.ref} is not what its type says: {error}", available=[]) from error


async def accumulated_value(stores: ResultStores, document: Mapping[str, Any]) -> Any:
    """Of what is made of parts: as JSON has it, with lists of rows in place of tables. Raises what `pieces_of` does."""
    content = b"".join([piece async for piece in pieces_of(document, stores)])
    return await asyncio.to_thread(orjson.loads, content)
