"""Tables in a Python child: what code is given for those in its input, and those that it returns. Loaded only by a call
that has some, and pyarrow with it."""

from __future__ import annotations

import errno
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import chain
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Union, get_origin

import orjson

from ..limits import CHILD_FILE_BYTES, RESULT_DEPTH
from ..playbook.values import InvalidValue, stored
from ..tables.collect import few_rows
from ..tables.mapped import MappedFile
from ..tables.sealed import NewFiles
from ..tables.sizes import hidden_in
from ..tables.stream import Written, in_field, is_table, size_of, write_batches
from ..tables.table import InvalidTable, Table, check_hidden
from .child_files import NoFile
from .encoding import convert, encode_result

if TYPE_CHECKING:
    import pyarrow

_FUNCTION = 1
# what a parameter of `main` may be declared as: of which library, and what it is there
_KINDS = {
    ("pyarrow", "Table"): "arrow",
    ("pyarrow", "RecordBatchReader"): "reader",
    ("pandas", "DataFrame"): "pandas",
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "lazy",
}
_NAMES = {"arrow": "pyarrow.Table", "reader": "pyarrow.RecordBatchReader", "lazy": "polars.LazyFrame"}
# as they are imported by custom, for what code imports only where types are checked
_CUSTOM = {"pa": "pyarrow", "pd": "pandas", "pl": "polars"}
_OPTIONAL = re.compile(r"^(?:typing\.)?Optional\[(.*)\]$")
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class WrongInput(ValueError):
    """What code is to be given is not as it declares it."""


class NoRoom(OSError):
    """A table that is returned cannot be written."""


class Given:
    """The tables of one call, as its code finds them."""

    def __init__(self, mark: str = "", tables: Sequence[Table] = (), default: str = "rows") -> None:
        """`mark`: by which their places are known; `default`: what those are whose kind is not declared."""
        self._mark = mark
        self._tables = tables
        self._default = default
        self._converted: dict[int, Any] = {}

    def place(self, fields: dict[str, Any], code: CodeType) -> None:
        """Put them where they belong in the fields of a request. What `main` is called with is left as a table until
        it is known how `main` declares it."""
        later = () if code.co_flags & _FUNCTION else _parameters_of_main(code)
        fields["input"] = {name: self._put(value, name in later) for name, value in fields["input"].items()}
        if self._tables and "context" in fields:
            fields["context"] = self._placed(fields["context"])

    def for_main(self, main: FunctionType, arguments: Mapping[str, Any]) -> dict[str, Any]:
        declared = {name: kind_of(kind, main.__globals__) for name, kind in main.__annotations__.items()}
        for name, annotation in main.__annotations__.items():
            if declared[name] is None and name in arguments:
                _check_known(name, annotation, arguments[name])
        return {name: self._argument(name, value, declared.get(name)) for name, value in arguments.items()}

    def _put(self, value: Any, is_later: bool) -> Any:
        if is_later and self._is_mark(value):
            return self._tables[value[self._mark]]
        if self._default != "rows" and _may_be_rows(value):
            return value if is_later else _as(value, self._default)
        return self._placed(value) if self._tables else value

    def _is_mark(self, value: Any) -> bool:
        return type(value) is dict and len(value) == 1 and self._mark in value

    def _placed(self, value: Any) -> Any:
        if type(value) is dict:
            if self._is_mark(value):
                return self._usual(value[self._mark])
            for name, item in value.items():
                if type(item) is dict or type(item) is list:
                    value[name] = self._placed(item)
        elif type(value) is list:
            for index, item in enumerate(value):
                if type(item) is dict or type(item) is list:
                    value[index] = self._placed(item)
        return value

    def _usual(self, number: int) -> Any:
        """The same object wherever it is."""
        if number not in self._converted:
            self._converted[number] = _as(self._tables[number], self._default)
        return self._converted[number]

    def _argument(self, name: str, value: Any, kind: str | None) -> Any:
        if kind is None:
            if isinstance(value, Table):
                return self._usual(next(n for n, table in enumerate(self._tables) if table is value))
            return _as(value, self._default) if self._default != "rows" and _may_be_rows(value) else value
        if value is None:
            return None
        if isinstance(value, list) and not all(isinstance(row, dict) for row in value):
            raise WrongInput(f"{_declared(name, kind)}, and a list is given that holds other things than objects")
        if isinstance(value, dict):
            found = next((field for field, item in value.items() if isinstance(item, list) or is_table(item)), None)
            hint = f"; give it {found!r} of that: {{{{ step.{found} }}}}" if found else ""
            raise WrongInput(f"{_declared(name, kind)}, and an object is given{hint}")
        if not isinstance(value, list) and not is_table(value):
            raise WrongInput(f"{_declared(name, kind)}, and a value of type {type(value).__name__} is given")
        try:
            return _as(value, kind)
        except WrongInput as error:
            raise WrongInput(f"{_declared(name, kind)}: {error}") from None


def given_by(fields: dict[str, Any], descriptors: Sequence[int]) -> Given:
    """`descriptors`: of the tables, which are closed with them."""
    announced = fields.get("files") or {"mark": "", "places": []}
    # a file may have several tables, and is given for each
    tables = [
        Table(MappedFile(descriptor, size), offset)
        for descriptor, (size, offset) in zip(descriptors, announced["places"], strict=False)
    ]
    if len(tables) < len(announced["places"]):
        raise NoFile(errno.EMFILE, os.strerror(errno.EMFILE))
    return Given(announced["mark"], tables, fields.get("tables", "rows"))


def _parameters_of_main(code: CodeType) -> Sequence[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == "main":
            return constant.co_varnames[: constant.co_argcount + constant.co_kwonlyargcount]
    return ()


def _declared(name: str, kind: str) -> str:
    return f"main declares {name!r} as {_NAMES.get(kind, f'{kind}.DataFrame')}"


# -- what a parameter is declared as


def _check_known(name: str, annotation: Any, value: Any) -> None:
    """That rows are not declared as something of these libraries that they cannot be. Raises WrongInput. Any other
    annotation changes nothing."""
    if not isinstance(annotation, type) or not (isinstance(value, Table) or _is_rows(value)):
        return
    library = annotation.__module__.partition(".")[0]
    if library in {library for library, _ in _KINDS}:
        known = ", ".join(".".join(kind) for kind in _KINDS)
        declared = f"{library}.{annotation.__name__}"
        raise WrongInput(f"main declares {name!r} as {declared}, and rows are given, which can be {known}")


def _may_be_rows(value: Any) -> bool:
    """No rows are a frame as well, or code that knows frames would find a list now and then."""
    return isinstance(value, list) and (not value or _is_rows(value))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def kind_of(annotation: Any, names: Mapping[str, Any]) -> str | None:
    """`names`: the globals of the code, for annotations that are texts. These are only looked up, never run."""
    if isinstance(annotation, str):
        text = annotation.strip()
        if (optional := _OPTIONAL.match(text)) is not None:
            text = optional[1]
        return next(filter(None, (_kind_of_name(part.strip(), names) for part in text.split("|"))), None)
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is Union:
        return next(filter(None, (kind_of(part, names) for part in annotation.__args__)), None)
    if isinstance(annotation, type):
        return _KINDS.get((annotation.__module__.partition(".")[0], annotation.__name__))
    return None


def _kind_of_name(text: str, names: Mapping[str, Any]) -> str | None:
    first, *rest = text.split(".")
    found = names.get(first)
    if found is None:
        return _KINDS.get((_CUSTOM.get(first, first), ".".join(rest)))
    for part in rest:
        if not isinstance(found, ModuleType):
            return None
        found = getattr(found, part, None)
    return kind_of(found, names) if isinstance(found, type) else None


# -- what it gets


def _as(value: Any, kind: str) -> Any:
    """A table, or a list of objects, as `kind`; without a copy where the library allows that."""
    if kind == "rows":
        return list(value)
    import pyarrow

    if isinstance(value, Table):
        if kind == "reader":
            return value.reader()
        table = pyarrow.Table.from_batches(value.batches(), schema=value.schema)
    elif isinstance(value, list):
        from ..tables.from_rows import typed_table

        try:
            table = typed_table(value)
        except ValueError as error:
            raise WrongInput(f"the rows are no table: {error}") from None
    else:
        table = value if isinstance(value, pyarrow.Table) else pyarrow.table(value)
    match kind:
        case "reader":
            return table.to_reader()
        case "pandas":
            return table.to_pandas(split_blocks=True)
        case "polars" | "lazy":
            import polars

            frame = polars.DataFrame(table) if table.num_columns else polars.DataFrame()
            return frame.lazy() if kind == "lazy" else frame
    return table


# -- what it returns


def reply(value: Any, inline_bytes: int, files: NewFiles, unlimited: AbstractContextManager[None]) -> bytes | None:
    """The reply for a value that is a table, or has one in a field: with rows, up to `inline_bytes` of them, or with
    what was written to a file of `files`. None if the value has no table of Arrow.
    Raises InvalidValue, NoRoom, and what the table raises as it is read. `unlimited`: see `encoding.encode_result`."""
    field = None
    if not is_frame(value):
        field = next((name for name, item in value.items() if is_frame(item)), None)
        if not isinstance(field, str):
            return None
    try:
        found = _opened(value if field is None else value[field])
        if found is not None:
            _check_names(found.schema.names)
    except InvalidValue as error:
        error.path[:0] = ["data"] if field is None else ["data", field]
        raise
    if found is None:
        return None
    batches = _valid(found, field)
    try:
        rows, read = few_rows(batches, inline_bytes)
    except InvalidTable as error:
        raise _in_table(f"the table cannot be read: {error}", field) from None
    if rows is not None:
        return _inline(value, field, rows, unlimited)
    rest = None
    if field is not None:
        # its place among the fields is kept
        rest = _rest({name: None if name == field else item for name, item in value.items()})
    written = _write(found.schema, chain(read, batches), sum(map(size_of, read)), field, rest, files)
    with unlimited:
        return orjson.dumps({"file": {"bytes": written.bytes, "rows": written.rows}})


def _inline(value: Any, field: str | None, rows: list[Any], unlimited: AbstractContextManager[None]) -> bytes:
    return encode_result(rows if field is None else {**value, field: rows}, unlimited)


def is_frame(value: Any) -> bool:
    kind = type(value)
    if kind.__name__ == "LazyFrame" and kind.__module__.startswith("polars."):
        return True
    # a column is a list
    return is_table(value) and kind.__name__ not in ("Series", "ChunkedArray")


def _opened(table: Any) -> pyarrow.RecordBatchReader | None:
    """A reader of it; None if it cannot be a table of Arrow, and so is converted as any other value is."""
    library = type(table).__module__.partition(".")[0]
    if library == "polars" and type(table).__name__ == "LazyFrame":
        with suppress(TypeError):
            table = table.collect(engine="streaming")
    if library == "polars":
        _check_types(table)
    if library == "pandas":
        # as a list of objects one of them would be lost
        _check_names([str(name) for name in table.columns])
    try:
        import pyarrow
    except ImportError:
        return None
    if isinstance(table, pyarrow.RecordBatchReader):
        # an exception as it is read stays what it is
        return table
    try:
        if library == "pandas":
            return pyarrow.Table.from_pandas(table, preserve_index=False).to_reader()
        return pyarrow.RecordBatchReader.from_stream(table)
    except (pyarrow.ArrowException, TypeError, ValueError):
        return None


def _valid(batches: Iterable[pyarrow.RecordBatch], field: str | None) -> Iterator[pyarrow.RecordBatch]:
    """Whose columns hold what their types say: code can make others, of buffers or through another library."""
    import pyarrow

    count, size = 0, 0
    for batch in batches:
        try:
            batch.validate(full=True)
            count, size = count + hidden_in(batch), size + size_of(batch)
            check_hidden(count, size)
        except InvalidTable as error:
            raise _in_table(f"the table cannot be read: {error}", field) from None
        except pyarrow.ArrowException as error:
            raise _in_table(f"the values of the table do not fit their types: {error}", field) from None
        yield batch


def _in_table(rule: str, field: str | None) -> InvalidValue:
    error = InvalidValue(rule)
    error.path[:0] = ["data"] if field is None else ["data", field]
    return error


def _check_names(names: Sequence[str]) -> None:
    known: set[str] = set()
    for name in names:
        stored(name)
        if name in known:
            raise InvalidValue(f"two columns of the table have the name {name!r}")
        known.add(name)


def _check_types(frame: Any) -> None:
    """That no column of polars holds objects of Python, of which Arrow would get the addresses. Raises InvalidValue."""
    for name, kind in getattr(frame, "schema", {}).items():
        if "Object" in str(kind) and _has_objects(kind):
            raise InvalidValue(
                f"column {name!r:.200} has the type Object of polars, whose values have no form in a table: give it "
                "another one, such as polars.String, or return frame.to_dicts()"
            )


def _has_objects(kind: Any) -> bool:
    if type(kind).__name__ == "Struct":
        return any(_has_objects(field.dtype) for field in kind.fields)
    inner = getattr(kind, "inner", None)
    return str(kind) == "Object" or (inner is not None and _has_objects(inner))


def _rest(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(stored(fields, convert, RESULT_DEPTH))
    except InvalidValue as error:
        error.path.insert(0, "data")
        raise


def _write(
    schema: pyarrow.Schema,
    batches: Iterator[pyarrow.RecordBatch],
    size: int,
    field: str | None,
    rest: dict[str, Any] | None,
    files: NewFiles,
) -> Written:
    try:
        file = files.open(size)
        try:
            whole = None if field is None else in_field(field, rest or {})
            return write_batches(file, schema, batches, whole, partial(files.extend, file))
        finally:
            os.close(file)
    except NoFile as error:
        raise NoRoom(error.errno, f"no file can be opened: {error.strerror}") from None
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        limit = f", the limit is {CHILD_FILE_BYTES >> 30} GiB" if error.errno == errno.EFBIG else ""
        raise NoRoom(error.errno, f"{error.strerror}{limit}") from None
