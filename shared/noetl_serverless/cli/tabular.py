"""Results as CSV, Parquet, Arrow or JSON, converted a batch at a time."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from ..tables.media_types import MEDIA_TYPES, Form, form_named, form_of_file
from .failure import Failure

# the type of a file by its ending
_TYPES: Final = {".txt": "text/plain", ".xml": "application/xml", ".pdf": "application/pdf"}
ROWS_AT_ONCE: Final = 10_000


def type_of_file(file: Path) -> str:
    """The media type of a file by the end of its name."""
    form = form_of_file(file.suffix)
    return _TYPES.get(file.suffix.lower(), "application/octet-stream") if form is None else MEDIA_TYPES[form]


def convert(
    source: Path,
    content_type: str,
    target: IO[bytes],
    wanted: Form,
    table: str | None = None,
    accumulated: Sequence[str] = (),
) -> None:
    """Write the content of the file `source` to `target` in another form. `accumulated`: as of `Described`. Raises
    Failure: it is no table, or a value of it has no form there."""
    _check_pyarrow()
    given = form_named(content_type)
    if given is None:
        raise Failure(
            f"a result of type {content_type or 'unknown'} cannot be converted to {wanted}; it is written as it is "
            "stored without --as, and to a file without such an ending"
        )
    write(lambda: _read(source, given), target, wanted, table, accumulated)


def write(
    value: Callable[[], Any],
    target: IO[bytes],
    wanted: Form,
    table: str | None = None,
    accumulated: Sequence[str] = (),
) -> None:
    """Write a value, with tables in it, to `target`. Raises Failure."""
    _check_pyarrow()
    from ..tables.export import NoTable, pieces

    try:
        with as_failures(wanted):
            for piece in pieces(value(), wanted, table, accumulated):
                target.write(piece)
    except NoTable as error:
        choose = " --table NAME chooses one, --as json writes all of it" if error.tables and table is None else ""
        raise Failure(f"{error}.{choose}" if choose else str(error)) from error


@contextmanager
def as_failures(wanted: Form) -> Iterator[None]:
    """Of tables that are converted: what has no such form, and what there is not enough of to open them."""
    import pyarrow

    from ..tables.export import NoTable

    try:
        yield
    except NoTable:
        raise
    except (pyarrow.ArrowException, ValueError) as error:
        raise Failure(f"the result cannot be converted to {wanted}: {error}") from error
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise Failure(
            f"the result has more tables than files may be open at once ({error.strerror}; ulimit -n says how many): "
            "--as json reads one after another, and --item N that of one item"
        ) from error


def value_in(source: Path, content_type: str) -> Any:
    """What a file has, of JSON or of tables, which keep it open. Raises Failure."""
    given = form_named(content_type)
    if given not in ("json", "arrow"):
        raise Failure(f"it is of type {content_type or 'unknown'}, and neither JSON nor a table")
    if given == "arrow":
        _check_pyarrow()
    try:
        return _read(source, given)
    except ValueError as error:
        raise Failure(f"what was read is not what its type, {content_type}, says: {error}") from error


def _check_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise Failure(
            "tables need pyarrow, which is not installed; run: pip install 'noetl-serverless[tools]'. Without --as a "
            "result is written as it is stored"
        )


def _read(source: Path, given: Form) -> Any:
    from ..tables.export import Batches

    match given:
        case "arrow":
            from ..tables.mapped import MappedFile
            from ..tables.value import read_value

            return read_value(MappedFile(os.open(source, os.O_RDONLY), source.stat().st_size))
        case "csv":
            from pyarrow import csv

            reader = csv.open_csv(source)
            return Batches(reader.schema, iter(reader))
        case "parquet":
            from pyarrow import parquet

            file = parquet.ParquetFile(source)
            return Batches(file.schema_arrow, file.iter_batches(ROWS_AT_ONCE))
        case "ndjson":
            with source.open("rb") as lines:
                return [json.loads(line) for line in lines if not line.isspace()]
        case "json":
            return json.loads(source.read_bytes())
