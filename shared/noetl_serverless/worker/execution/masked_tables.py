"""Masks the secrets in tables, of which most have none: those stay the same files.

What is stored of a table is more than its rows show: Arrow keeps the bytes under a null, and those next to a slice. A
table in which there is a secret (`table_search`) is written anew, with nothing but what its rows show.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from ...tables.compacted import can_be_compacted, compacted
from ...tables.forms import field_of, form_of, with_type
from ...tables.invalid import InvalidTable, RowTooLarge
from ...tables.rows import rows_of
from ...tables.sealed import NewFiles, sealed_file
from ...tables.stream import readable, write_batches
from ...tables.table import Table, parts_of
from ...tables.value import without_tables
from ...telemetry.secret_texts import SecretTexts
from .table_search import ShownSecrets, TableSearch, parts, shows_texts

if TYPE_CHECKING:
    import pyarrow


def masked_tables(value: Any, texts: SecretTexts, files: NewFiles) -> Any:
    """The value with every secret in its tables replaced; all else in it stays. Takes time in proportion to their
    bytes."""
    done: dict[int, Table] = {}
    secrets = ShownSecrets(texts)

    def masked(table: Table) -> Table:
        if id(table) not in done:
            search = TableSearch(secrets, table)
            columns = search.columns()
            done[id(table)] = _rewritten(table, columns, texts, files) if search.is_anywhere else table
        return done[id(table)]

    return without_tables(value, masked) if texts else value


def _rewritten(table: Table, columns: set[int], texts: SecretTexts, files: NewFiles) -> Table:
    """These columns become texts, or documents of which rows show the values that they had. Of the others nothing is
    written but what rows show."""
    import pyarrow

    names = _names(table.schema.names, columns, texts)
    masks = {number: _mask_of(table.schema.field(number), texts) for number in columns}

    def rewritten(number: int, column: pyarrow.Array) -> pyarrow.Array:
        if number in masks:
            return masks[number].masked(column)
        kind = readable(column.type)
        read = column if kind == column.type else column.cast(kind)
        # of what cannot be compacted pyarrow writes what the rows of a slice have (of a dense union, all values with
        # the first slice alone); a copy of each slice would have all values of a dense union
        return compacted(read) if can_be_compacted(kind) else read

    def field(number: int, old: pyarrow.Field) -> pyarrow.Field:
        return masks[number].field(names[number]) if number in masks else with_type(old, readable(old.type))

    schema = pyarrow.schema([field(number, old) for number, old in enumerate(table.schema)])

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for batch in table.batches():
            for part in parts_of(batch):
                arrays = [rewritten(number, column) for number, column in enumerate(part.columns)]
                yield pyarrow.record_batch(arrays, schema=schema)

    def write(descriptor: int) -> int:
        return write_batches(descriptor, schema, batches(), extend=partial(files.extend, descriptor)).bytes

    return Table(sealed_file(table.file.size, write, files.open))


def _mask_of(field: pyarrow.Field, texts: SecretTexts) -> _Texts | _Entries | _Documents:
    import pyarrow.types as t

    kind = field.type
    if (t.is_dictionary(kind) or t.is_run_end_encoded(kind)) and shows_texts(kind.value_type):
        return _Entries(texts)
    is_read = (t.is_string(kind) or t.is_large_string(kind)) and form_of(field) in ("json", "decimal")
    return _Texts(field, texts) if shows_texts(kind) and not is_read else _Documents(field, texts)


class _Texts:
    """Of a column whose values are texts in rows."""

    def __init__(self, field: pyarrow.Field, texts: SecretTexts) -> None:
        self._field = field
        self._texts = texts

    def field(self, name: str) -> pyarrow.Field:
        import pyarrow

        return pyarrow.field(name, pyarrow.string())

    def masked(self, column: pyarrow.Array) -> pyarrow.Array:
        import pyarrow
        import pyarrow.types as t

        if t.is_string(column.type) and not self._texts.is_in("\0".join(filter(None, column.to_pylist()))):
            return compacted(column)
        values = _values(column, self._field)
        masked = [None if value is None else self._texts.text(value) for value in values]
        return pyarrow.array(masked, pyarrow.string())


class _Entries:
    """Of a column with texts of which each stands for many rows: each is masked once, and they become a dictionary."""

    def __init__(self, texts: SecretTexts) -> None:
        self._texts = texts
        self._last: tuple[tuple[int, ...], pyarrow.Array] | None = None

    def field(self, name: str) -> pyarrow.Field:
        import pyarrow

        return pyarrow.field(name, pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))

    def masked(self, column: pyarrow.Array) -> pyarrow.Array:
        import pyarrow
        import pyarrow.types as t

        is_dictionary = t.is_dictionary(column.type)
        entries = self._encoded(column.dictionary if is_dictionary else column.values)
        places = column.indices if is_dictionary else _runs(column)
        return pyarrow.DictionaryArray.from_arrays(entries.indices.take(places), entries.dictionary)

    def _encoded(self, entries: pyarrow.Array) -> pyarrow.DictionaryArray:
        """Two that held secrets are one now."""
        import pyarrow

        addresses = (buffer.address for buffer in entries.buffers() if buffer is not None)
        place = entries.offset, len(entries), *addresses
        if self._last is None or self._last[0] != place:
            mask = _Texts(pyarrow.field("v", entries.type), self._texts)
            masked = [text for part in parts(entries) for text in mask.masked(part).to_pylist()]
            self._last = place, pyarrow.array(masked, pyarrow.string()).dictionary_encode()
        return self._last[1]


def _runs(column: pyarrow.RunEndEncodedArray) -> pyarrow.Array:
    """The number of the run that each row is in."""
    import pyarrow
    import pyarrow.compute as compute

    # of a slice, of which there are many, those that it has alone
    first, count = column.find_physical_offset(), column.find_physical_length()
    ends = compute.subtract(column.run_ends[first : first + count].cast(pyarrow.int64()), column.offset)
    ends = compute.min_element_wise(ends, len(column))
    numbers = pyarrow.array(range(first, first + count), pyarrow.int32())
    return compute.run_end_decode(pyarrow.RunEndEncodedArray.from_arrays(ends, numbers))


class _Documents:
    """Of a column with any other values, which are read out of JSON from now on: only those with secrets change."""

    def __init__(self, field: pyarrow.Field, texts: SecretTexts) -> None:
        self._field = field
        self._texts = texts

    def field(self, name: str) -> pyarrow.Field:
        import pyarrow

        return field_of(name, pyarrow.string(), "json")

    def masked(self, column: pyarrow.Array) -> pyarrow.Array:
        import pyarrow

        is_json = form_of(self._field) == "json" and shows_texts(column.type)
        written = column.to_pylist() if is_json else [None] * len(column)
        documents = [
            None if value is None else self._document(value, text)
            for value, text in zip(_values(column, self._field), written, strict=True)
        ]
        return pyarrow.array(documents, pyarrow.string())

    def _document(self, value: Any, written: str | None) -> str:
        """`written`: the document that the value was read from."""
        if isinstance(value, _Unreadable):
            return self._texts.text(value.text)
        masked = self._texts.tree(value)
        if written is not None and masked == value and "\\" not in written and not self._texts.is_in(written):
            # also numbers that Python has other digits for
            return written
        try:
            return orjson.dumps(masked).decode()
        except TypeError:
            return json.dumps(masked)


class _Unreadable:
    """The text of a document that is none: no row can be shown that has it."""

    def __init__(self, text: str) -> None:
        self.text = text


def _values(column: pyarrow.Array, field: pyarrow.Field) -> list[Any]:
    import pyarrow

    schema = pyarrow.schema([field.with_name("v")])
    try:
        return [row["v"] for row in rows_of(pyarrow.record_batch([column], schema=schema))]
    except RowTooLarge:
        raise
    except InvalidTable:
        if len(column) == 1:
            return [_Unreadable(column[0].as_py())]
        middle = len(column) // 2
        return _values(column[:middle], field) + _values(column[middle:], field)


def _names(names: list[str], columns: set[int], texts: SecretTexts) -> list[str]:
    """Masked where they are of these columns. Two that held secrets stay two."""
    found = list(names)
    taken = {name for number, name in enumerate(names) if number not in columns or texts.text(name) == name}
    for number in sorted(columns):
        name = texts.text(names[number])
        if name != names[number]:
            count, found[number] = 2, name
            while found[number] in taken:
                count, found[number] = count + 1, f"{name}{count}"
            taken.add(found[number])
    return found
