"""Results with tables in them: a JSON value, and at some of its places a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from .mapped import MappedFile
from .sealed import NewFiles, sealed_file
from .stream import write_batches
from .table import InvalidTable, Table

Place = tuple[str | int, ...]


def tables_in(value: Any, place: Place = ()) -> Iterator[tuple[Place, Table]]:
    """The tables in a value, and where they are."""
    if isinstance(value, Table):
        yield place, value
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from tables_in(member, (*place, key))
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield from tables_in(member, (*place, index))


def without_tables(value: Any, instead: Callable[[Table], Any] = lambda table: None) -> Any:
    """The value with something else in the place of each table; what has none is the same object."""
    if isinstance(value, Table):
        return instead(value)
    if isinstance(value, Mapping):
        members = {key: without_tables(member, instead) for key, member in value.items()}
        return members if any(members[key] is not value[key] for key in members) else value
    if isinstance(value, list | tuple):
        items = [without_tables(member, instead) for member in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def described(value: Any) -> Any:
    """The value with the digest of each table in its place."""
    return without_tables(
        value, lambda table: {"rows": len(table), "schema": table.schema_digest, "sha256": table.sha256}
    )


class TooMuchJson(InvalidTable):
    """A value has more JSON beside its tables than may be read at once."""


def read_value(file: MappedFile, max_json_bytes: int | None = None) -> Any:
    """The value that a file holds. Raises InvalidTable, and TooMuchJson before any of it is read."""
    tables = [Table(file)]
    while tables[-1].end < file.size:
        tables.append(Table(file, tables[-1].end))
    if max_json_bytes is not None and tables[-1].whole_bytes > max_json_bytes:
        raise TooMuchJson(f"it has {tables[-1].whole_bytes} bytes of JSON, and up to {max_json_bytes} are read")
    whole = tables[-1].whole
    if whole is None:
        return tables[0]
    try:
        value = whole["rest"]
        for place, index in whole["tables"]:
            value = _with(value, place, tables[index])
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidTable(f"its last message does not say where its tables belong: {error!r}") from error
    return value


def file_of(value: Any, files: NewFiles) -> MappedFile:
    """A file that holds the value, which has tables: that of its table where it holds just this, else a new one, from
    `files`. Raises OSError if there is no room."""
    found = list(tables_in(value))
    first = found[0][1]
    if _is_whole(first, value):
        return first.file
    distinct = list({id(table): table for _, table in found}.values())
    number = {id(table): index for index, table in enumerate(distinct)}
    places = [[place, number[id(table)]] for place, table in found]
    whole = {"rest": without_tables(value), "tables": places}

    def write(descriptor: int) -> int:
        size, extend = 0, partial(files.extend, descriptor)
        for table in distinct:
            whole_if_last = whole if table is distinct[-1] and value is not table else None
            size += write_batches(descriptor, table.schema, table.batches(), whole_if_last, extend).bytes
        return size

    return sealed_file(sum(table.file.size for table in distinct), write, files.open)


def _is_whole(table: Table, value: Any) -> bool:
    """Whether the table's file holds this value, and nothing else."""
    if table.offset or table.end < table.file.size:
        return False
    whole = table.whole
    if value is table:
        return whole is None
    found = [[list(place), 0] for place, one in tables_in(value) if one is table]
    return whole is not None and whole["tables"] == found and _is_same(whole["rest"], without_tables(value))


def _is_same(one: Any, other: Any) -> bool:
    """As JSON: true is not 1, nor 1 the same as 1.0."""
    try:
        return orjson.dumps(one) == orjson.dumps(other)
    except TypeError:
        return False


def _with(value: Any, place: Sequence[str | int], table: Table) -> Any:
    if not place:
        return table
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = table
    return value
