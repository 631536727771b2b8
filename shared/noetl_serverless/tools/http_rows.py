"""The rows of a response that is kept in a file: CSV, lines of JSON, Parquet or Arrow, read a batch at a time."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, Literal, Protocol

import orjson
import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pyarrow.types as t

from ..limits import MIB
from ..tables.stream import size_of
from .csv_numbers import may_be_inexact, number_type
from .sql import unique

Format = Literal["csv", "ndjson", "parquet", "arrow"]
Batches = Iterator[pyarrow.RecordBatch]

MAX_TABLE_BYTES: Final = 10 * 1024 * MIB
# the types of columns are those of the values in the first block
_BLOCK_BYTES: Final = 8 * MIB
_BATCH_ROWS: Final = 16_384
_CSV_COLUMN = re.compile(r"In CSV column #(\d+):.* conversion error", re.DOTALL)


class Malformed(ValueError):
    """The content is not what it should be; says where, if that is known."""


class _FromBeginning(io.RawIOBase):
    """The same file with a position of its own: readers of pyarrow read ahead in a thread, which goes on for a while
    when another one is made."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._descriptor = os.dup(file.fileno())
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


class Source(Protocol):
    """Reads a file from its beginning each time."""

    def open(self) -> tuple[pyarrow.Schema, Batches]:
        """Raises pyarrow's errors and _Inexact, also while the batches are read."""

    def reconsider(self, error: Exception) -> None:
        """Choose other types, if those that were chosen by the first rows do not fit later ones; raises Malformed and
        pyarrow's errors."""


class _Inexact(ValueError):
    """Numbers in a column of CSV may have lost digits."""

    def __init__(self, name: str) -> None:
        super().__init__(f"column {name!r:.200}: numbers may have lost digits")
        self.name = name


def read(format: Format, file: IO[bytes], charset: str, collect: Callable[[pyarrow.Schema, Batches], Any]) -> Any:
    """What `collect` makes of the rows; it is called again where types have to be chosen anew. Raises Malformed, and
    OSError if there is no room."""
    source = _SOURCES[format](file, charset)
    while True:
        try:
            schema, batches = source.open()
            plain = pyarrow.schema([_plain_field(field) for field in schema])
            names = unique(plain.names)
            plain = pyarrow.schema([field.with_name(name) for field, name in zip(plain, names, strict=True)])
            return collect(plain, _checked(batches, plain))
        except _ReadError as error:
            _reconsider(source, error.cause)
        except (pyarrow.ArrowException, LookupError, UnicodeError) as error:
            _reconsider(source, error)


def _reconsider(source: Source, error: Exception) -> None:
    """Raises Malformed, also for what is found on the way."""
    try:
        source.reconsider(error)
    except (pyarrow.ArrowException, UnicodeError) as found:
        raise Malformed(str(found)) from None


class _ReadError(Exception):
    """Of what is read, as opposed to an OSError of what is written."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _checked(batches: Batches, schema: pyarrow.Schema) -> Batches:
    """The batches with these names and types. What is compressed may be very large."""
    size = 0
    while True:
        try:
            batch = next(batches)
            arrays = [_plain_array(column) for column in batch.columns]
            batch = pyarrow.RecordBatch.from_arrays(arrays, schema=schema)
            batch.validate(full=True)
        except StopIteration:
            return
        except (pyarrow.ArrowException, OSError, UnicodeError, _Inexact) as error:
            raise _ReadError(error) from error
        size += size_of(batch)
        if size > MAX_TABLE_BYTES:
            raise OSError(f"they take more than {MAX_TABLE_BYTES // MIB} MiB")
        yield batch


def _plain_field(field: pyarrow.Field) -> pyarrow.Field:
    kind = field.type
    # metadata is a stranger's, and says nothing about how values become JSON
    return pyarrow.field(field.name, kind.storage_type if isinstance(kind, pyarrow.BaseExtensionType) else kind)


def _plain_array(column: pyarrow.Array) -> pyarrow.Array:
    return column.storage if isinstance(column, pyarrow.ExtensionArray) else column


class _Csv:
    def __init__(self, file: IO[bytes], charset: str) -> None:
        self._file = file
        self._charset = charset
        self._names: list[str] = []
        self._kinds: dict[str, pyarrow.DataType] = {}
        # how the header is read
        self._header: dict[str, Any] = {}
        # of which all values have been looked at
        self._settled: set[str] = set()

    def open(self) -> tuple[pyarrow.Schema, Batches]:
        self._file.seek(0)
        if not self._file.read(1):
            return pyarrow.schema([]), iter(())
        # types belong to the names below: of the header, two columns may have one
        self._header = {}
        reader = self._reader({})
        names = unique(reader.schema.names)
        # pyarrow takes a text that is not of the charset for bytes
        kinds = zip(names, reader.schema.types, strict=True)
        self._kinds = {name: pyarrow.string() for name, kind in kinds if t.is_binary(kind)} | self._kinds
        if names != reader.schema.names:
            self._header = {"column_names": names, "skip_rows": 1}
        reader = self._reader({"column_types": self._kinds})
        self._names = names
        self._kinds = {field.name: field.type for field in reader.schema}
        return reader.schema, self._exact(iter(reader))

    def _reader(self, options: dict[str, Any]) -> Any:
        return pyarrow.csv.open_csv(
            pyarrow.PythonFile(_FromBeginning(self._file), "r"),
            pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False, encoding=self._charset, **self._header),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            # by default N/A, NULL and a dozen others are null where the rest are numbers, and texts elsewhere
            pyarrow.csv.ConvertOptions(null_values=[""], **options),
        )

    def _exact(self, batches: Batches) -> Batches:
        """Raises _Inexact: to pyarrow, an integer of more than 64 bits is a float."""
        for batch in batches:
            for name, column in zip(self._names, batch.columns, strict=True):
                if name not in self._settled and may_be_inexact(column):
                    raise _Inexact(name)
            yield batch

    def reconsider(self, error: Exception) -> None:
        if isinstance(error, _Inexact):
            self._settle(error.name)
            return
        found = _CSV_COLUMN.match(str(error))
        name = self._names[int(found[1])] if found is not None and self._names else ""
        kind = self._kinds.get(name)
        if kind is None or t.is_string(kind):
            raise Malformed(str(error)) from None
        if t.is_integer(kind):
            self._settle(name)
        else:
            self._kinds[name] = pyarrow.string()

    def _settle(self, name: str) -> None:
        """Look at all values of a column of numbers."""
        texts = {"include_columns": [name], "column_types": {name: pyarrow.string()}, "strings_can_be_null": True}
        self._kinds[name] = number_type(batch.column(0) for batch in self._reader(texts))
        self._settled.add(name)


class _JsonLines:
    def __init__(self, file: IO[bytes], charset: str) -> None:
        self._file = file
        self._schema: pyarrow.Schema | None = None
        self._is_whole = False

    def open(self) -> tuple[pyarrow.Schema, Batches]:
        if self._schema is None:
            self._file.seek(0)
            first = self._file.read(_BLOCK_BYTES)
            end = first.rfind(b"\n") + 1 if len(first) == _BLOCK_BYTES else len(first)
            if not first.strip():
                return pyarrow.schema([]), iter(())
            self._schema = _schema_of(first[:end] or first + self._file.readline())
        options = pyarrow.json.ParseOptions(explicit_schema=self._schema, unexpected_field_behavior="error")
        block = pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES)
        reader = pyarrow.json.open_json(pyarrow.PythonFile(_FromBeginning(self._file), "r"), block, options)
        return self._schema, iter(reader)

    def reconsider(self, error: Exception) -> None:
        """Look at all rows."""
        self._check()
        if self._is_whole:
            raise Malformed(str(error)) from None
        self._is_whole = True
        schemas = []
        self._file.seek(0)
        try:
            while lines := self._file.readlines(_BLOCK_BYTES):
                if text := b"".join(lines).strip():
                    schemas.append(_schema_of(text))
            self._schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
        except pyarrow.ArrowException as conflict:
            raise Malformed(f"values of one field are of several types: {conflict}") from None

    def _check(self) -> None:
        """Raises Malformed, with the line that is no object."""
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            if not line.strip():
                continue
            try:
                fault = "" if isinstance(orjson.loads(line), dict) else "not an object"
            except ValueError as error:
                fault = f"not valid JSON: {error}"
            if fault:
                raise Malformed(f"line {number} is {fault}")


def _schema_of(lines: bytes) -> pyarrow.Schema:
    block = pyarrow.json.ReadOptions(block_size=len(lines) + 1)
    found = pyarrow.json.read_json(io.BytesIO(lines), block).schema
    # a text that looks like an instant is a text
    return pyarrow.schema([pyarrow.field(field.name, _without_instants(field.type)) for field in found])


def _without_instants(kind: pyarrow.DataType) -> pyarrow.DataType:
    if t.is_timestamp(kind):
        return pyarrow.string()
    if t.is_list(kind):
        return pyarrow.list_(_without_instants(kind.value_type))
    if t.is_struct(kind):
        return pyarrow.struct([(field.name, _without_instants(field.type)) for field in kind])
    return kind


class _Parquet:
    def __init__(self, file: IO[bytes], charset: str) -> None:
        self._file = file

    def open(self) -> tuple[pyarrow.Schema, Batches]:
        found = pyarrow.parquet.ParquetFile(self._file)
        return found.schema_arrow, found.iter_batches(_BATCH_ROWS)

    def reconsider(self, error: Exception) -> None:
        raise Malformed(str(error)) from None


class _Arrow(_Parquet):
    """A stream, or a file."""

    def open(self) -> tuple[pyarrow.Schema, Batches]:
        self._file.seek(0)
        is_file = self._file.read(6) == b"ARROW1"
        self._file.seek(0)
        if not is_file:
            stream = pyarrow.ipc.open_stream(self._file)
            return stream.schema, iter(stream)
        found = pyarrow.ipc.open_file(self._file)
        return found.schema, (found.get_batch(number) for number in range(found.num_record_batches))


_SOURCES: Final[dict[str, Callable[[IO[bytes], str], Source]]] = {
    "csv": _Csv,
    "ndjson": _JsonLines,
    "parquet": _Parquet,
    "arrow": _Arrow,
}
