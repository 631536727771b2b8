"""Masks the secrets in tables, of which most have none: those stay the same files.

What is stored of a table is more than its rows show: Arrow keeps the bytes under a null, and those next to a slice. A
table is therefore searched as the bytes that it is (`secret_bytes`), and its rows only for what these show in another
form: numbers, and binary values, which are base64 in a row. One in which there is something is written anew, with
nothing but what its rows show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from ...tables.compacted import can_be_compacted, compacted
from ...tables.rows import rows_of
from ...tables.sealed import NewFiles, sealed_file
from ...tables.stream import readable, write_batches
from ...tables.table import Table
from ...tables.value import without_tables
from ...telemetry.secret_texts import SecretTexts
from .secret_bytes import SecretBytes

if TYPE_CHECKING:
    import pyarrow

# that are looked through at once
SLICE_ROWS = 10_000


def masked_tables(value: Any, texts: SecretTexts, files: NewFiles) -> Any:
    """The value with every secret in its tables replaced; all else in it stays. Takes time in proportion to their
    bytes."""
    done: dict[int, Table] = {}
    in_bytes = SecretBytes(texts.forms)

    def masked(table: Table) -> Table:
        if id(table) not in done:
            search = _Search(texts, in_bytes, table)
            columns = search.columns()
            done[id(table)] = _rewritten(table, columns, texts, files) if search.is_anywhere else table
        return done[id(table)]

    return without_tables(value, masked) if texts else value


class _Search:
    """For secrets in a table. `is_anywhere`: known once its columns have been looked through."""

    def __init__(self, texts: SecretTexts, in_bytes: SecretBytes, table: Table) -> None:
        self._texts = texts
        self._bytes = in_bytes
        self._table = table
        self._is_in_bytes = in_bytes.is_in(table.file.view[table.offset : table.end])
        self.is_anywhere = self._is_in_bytes

    def columns(self) -> set[int]:
        """Those that cannot stay as they are: whose rows or names show a secret, or from which it cannot be removed
        otherwise."""
        found = {number for number, name in enumerate(self._table.schema.names) if self._is_in(name)}
        for batch in self._table.batches():
            for number, column in enumerate(batch.columns):
                has_number = self._has_number(column)
                self.is_anywhere |= has_number
                if number in found or not (self._is_in_bytes or has_number or _is_encoded(column.type)):
                    continue
                if any(map(self._finds, _parts(column))) or (
                    (has_number or self._is_in_bytes) and self._cannot_leave(column)
                ):
                    found.add(number)
        self.is_anywhere |= bool(found)
        return found

    def _is_in(self, text: str) -> bool:
        """What looks like one is not one everywhere."""
        return self._is_in_bytes and self._texts.text(text) != text

    def _cannot_leave(self, column: pyarrow.Array) -> bool:
        """Whether there is one in it, hidden or not, that would still be there afterwards."""
        if can_be_compacted(readable(column.type)):
            return False
        return self._has_number(column) or any(self._bytes.is_in(it) for it in column.buffers() if it is not None)

    def _has_number(self, column: pyarrow.Array) -> bool:
        """Whether a secret that is a number is in it, in a row or hidden."""
        return bool(self._texts.numbers) and any(_is_any_in(whole, self._texts.numbers) for whole in _numbers(column))

    def _finds(self, column: pyarrow.Array) -> bool:
        """In the values of rows, and in the names within their types."""
        import pyarrow.types as t

        kind, texts = column.type, self._texts
        if t.is_string(kind) or t.is_large_string(kind):
            return (
                self._is_in_bytes
                and texts.is_in(_joined(column))
                and any(map(self._is_in, filter(None, column.to_pylist())))
            )
        if t.is_integer(kind) or t.is_floating(kind):
            return _is_any_in(column, texts.numbers)
        if t.is_primitive(kind):
            return False
        if t.is_dictionary(kind):
            return self._finds(column.dictionary.take(column.indices.unique().drop_null()))
        if t.is_nested(kind) and any(self._is_in(kind.field(at).name) for at in range(kind.num_fields)):
            return True
        if t.is_struct(kind):
            return any(map(self._finds, column.flatten()))
        if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
            return self._finds(column.flatten())
        values = _json(column)
        return bool(texts.tree(values) != values)


def _joined(column: pyarrow.Array) -> str:
    """All texts in it."""
    return "\0".join(filter(None, column.to_pylist()))


def _is_encoded(kind: pyarrow.DataType) -> bool:
    """Whether rows show its values, or a part of them, as texts that do not stand in its bytes."""
    import pyarrow.types as t

    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return _is_encoded(kind.value_type)
    if t.is_nested(kind):
        return any(_is_encoded(kind.field(at).type) for at in range(kind.num_fields))
    is_text = t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)
    return not (is_text or t.is_primitive(kind) or t.is_null(kind))


def _numbers(column: pyarrow.Array) -> Iterator[pyarrow.Array]:
    """All numbers in its buffers: also those under nulls, and those that belong to no row."""
    import pyarrow
    import pyarrow.types as t

    kind = column.type
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind):
        buffer = column.buffers()[1]
        if buffer is not None:
            yield pyarrow.Array.from_buffers(kind, buffer.size // (kind.bit_width // 8), [None, buffer])
    else:
        for part in _parts_of(column):
            yield from _numbers(part)


def _parts_of(column: pyarrow.Array) -> Iterable[pyarrow.Array]:
    """The arrays that it consists of, in full."""
    import pyarrow.types as t

    kind = column.type
    if t.is_dictionary(kind):
        return [column.dictionary]
    if t.is_map(kind):
        return [column.keys, column.items]
    if t.is_struct(kind) or t.is_union(kind):
        return [column.field(at) for at in range(kind.num_fields)]
    if hasattr(kind, "storage_type"):
        return [column.storage]
    return [column.values] if t.is_nested(kind) or t.is_run_end_encoded(kind) else []


def _is_any_in(column: pyarrow.Array, numbers: Iterable[int | float]) -> bool:
    import pyarrow
    import pyarrow.compute as compute

    kind = column.type
    if pyarrow.types.is_floating(kind):
        # as rows have them
        column, kind = column.cast(pyarrow.float64()), pyarrow.float64()
    wanted = [found for number in numbers if (found := _as(number, kind)) is not None]
    return bool(wanted) and bool(compute.any(compute.is_in(column, pyarrow.array(wanted, kind))).as_py())


def _as(number: int | float, kind: pyarrow.DataType) -> int | float | Decimal | None:
    """The number in this type; None if that has no such number."""
    import pyarrow

    try:
        if pyarrow.types.is_decimal(kind):
            found: int | float | Decimal = Decimal(number)
        else:
            found = float(number) if pyarrow.types.is_floating(kind) else int(number)
        pyarrow.scalar(found, kind)
    except (ArithmeticError, ValueError):
        return None
    return found if found == number else None


def _rewritten(table: Table, columns: set[int], texts: SecretTexts, files: NewFiles) -> Table:
    """These columns become texts: where they were none, their values as JSON. Of the others nothing is written but what
    rows show."""
    import pyarrow

    names = _names(table.schema.names, columns, texts)
    dictionaries = _Dictionaries(texts)

    def rewritten(number: int, column: pyarrow.Array) -> pyarrow.Array:
        if number in columns:
            if pyarrow.types.is_dictionary(column.type):
                return dictionaries.masked(column)
            is_clean = pyarrow.types.is_string(column.type) and not texts.is_in(_joined(column))
            return compacted(column) if is_clean else pyarrow.array(_masked(column, texts), pyarrow.string())
        kind = readable(column.type)
        read = column if kind == column.type else column.cast(kind)
        return compacted(read) if can_be_compacted(kind) else read

    def field(number: int, old: pyarrow.Field) -> pyarrow.Field:
        if number not in columns:
            return old.with_type(readable(old.type))
        is_encoded = pyarrow.types.is_dictionary(old.type)
        return pyarrow.field(names[number], _encoded_texts() if is_encoded else pyarrow.string())

    schema = pyarrow.schema([field(number, old) for number, old in enumerate(table.schema)])

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for batch in table.batches():
            for part in _parts(batch):
                arrays = [rewritten(number, column) for number, column in enumerate(part.columns)]
                yield pyarrow.record_batch(arrays, schema=schema)

    def write(descriptor: int) -> int:
        return write_batches(descriptor, schema, batches(), extend=partial(files.extend, descriptor)).bytes

    return Table(sealed_file(table.file.size, write, files.open))


def _encoded_texts() -> pyarrow.DataType:
    import pyarrow

    return pyarrow.dictionary(pyarrow.int32(), pyarrow.string())


class _Dictionaries:
    """Masks columns by their dictionaries, each once."""

    def __init__(self, texts: SecretTexts) -> None:
        self._texts = texts
        self._last: tuple[tuple[int, int], pyarrow.Array] | None = None

    def masked(self, column: pyarrow.Array) -> pyarrow.Array:
        import pyarrow

        entries = column.dictionary
        place = next((it.address for it in reversed(entries.buffers()) if it is not None), 0), len(entries)
        if self._last is None or self._last[0] != place:
            # two that held secrets are one now
            encoded = pyarrow.array(_masked(entries, self._texts), pyarrow.string()).dictionary_encode()
            self._last = place, encoded
        encoded = self._last[1]
        return pyarrow.DictionaryArray.from_arrays(encoded.indices.take(column.indices), encoded.dictionary)


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


def _masked(column: pyarrow.Array, texts: SecretTexts) -> list[str | None]:
    return [
        value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
        for value in texts.tree(_json(column))
    ]


def _json(column: pyarrow.Array) -> list[Any]:
    import pyarrow

    return [row["v"] for row in rows_of(pyarrow.record_batch([column], names=["v"]))]


def _parts(rows: Any) -> Iterator[Any]:
    """Of a batch, or of one of its columns."""
    for start in range(0, len(rows), SLICE_ROWS):
        yield rows.slice(start, SLICE_ROWS)
