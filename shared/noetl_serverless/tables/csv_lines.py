"""Rows as lines of CSV: each cell has the text that JSON has for the value, and a null has none.

Texts are quoted, and so is whatever has a comma or a quote in it. A null that is all of its line is `""`: readers leave
out lines that are empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from .forms import form_of
from .json_lines import content_of, fast_texts, json_text
from .rows import check_sizes, column_values

if TYPE_CHECKING:
    import pyarrow

_QUOTED: Final = re.compile('[",\r\n]')
_ALONE: Final = '""'


def header(names: Sequence[str]) -> bytes:
    return b",".join(_text_cell(name, quote=True) for name in names) + b"\n"


def csv_of_objects(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    """Of objects of JSON, whatever their values are: in the order of `names`, null where a row lacks one."""
    nothing = _ALONE.encode() if len(names) == 1 else b""
    return b"".join(b",".join([_cell(row.get(name)) or nothing for name in names]) + b"\n" for row in rows if names)


def csv_lines(batch: pyarrow.RecordBatch, first: int = 0) -> bytes:
    """`batch`: validated, and with so few rows that there is room; `first`: the number of its first row, for messages.
    Raises InvalidTable."""
    import pyarrow
    import pyarrow.compute as compute

    if not batch.num_rows or not batch.num_columns:
        return b""
    check_sizes(batch, 0, batch.num_rows, first)
    texts = pyarrow.large_string()
    comma, end = pyarrow.scalar(",", texts), pyarrow.scalar("\n", texts)
    parts: list[Any] = []
    for column, field in zip(batch.columns, batch.schema, strict=True):
        parts += [_cells(column, field, first).cast(texts), comma]
    if batch.num_columns == 1:
        parts[0] = parts[0].fill_null(_ALONE)
    parts[-1] = end
    empty = pyarrow.scalar("", texts)
    lines = compute.binary_join_element_wise(*parts, empty, null_handling="replace", null_replacement="")
    return bytes(content_of(lines))


def _cells(column: pyarrow.Array, field: pyarrow.Field, first: int) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as t

    kind, form = column.type, form_of(field)
    if t.is_dictionary(kind) and (t.is_string(kind.value_type) or t.is_large_string(kind.value_type)):
        column, form = column.dictionary_decode(), None
        kind = column.type
    if t.is_string(kind) or t.is_large_string(kind):
        if form not in ("json", "decimal"):
            return _quoted_texts(column)
    elif (found := fast_texts(column, form)) is not None:
        if t.is_floating(kind):
            # what is no number is null there
            found = found.cast(pyarrow.string())
            return compute.if_else(compute.equal(found, "null"), pyarrow.scalar(None, found.type), found)
        return compute.utf8_slice_codeunits(found, 1, -1) if t.is_temporal(kind) else found
    quote = not t.is_temporal(kind)
    cells = [_cell(value, quote) for value in column_values(column, field, first)]
    return pyarrow.array(cells, pyarrow.binary()).cast(pyarrow.large_string())


def _quoted_texts(column: pyarrow.Array) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as compute

    if b'"' in bytes(content_of(column)):
        column = compute.replace_substring(column, '"', '""')
    quote, nothing = pyarrow.scalar('"', column.type), pyarrow.scalar("", column.type)
    return compute.binary_join_element_wise(quote, column, quote, nothing)


def _cell(value: Any, quote: bool = True) -> bytes | None:
    """`quote`: a text in any case."""
    if value is None:
        return None
    if isinstance(value, str):
        return _text_cell(value, quote)
    text = json_text(value).decode()
    # a number that is none is null there
    return None if text == "null" else _text_cell(text, quote=False)


def _text_cell(text: str, quote: bool) -> bytes:
    cell = _quoted(text) if quote or _QUOTED.search(text) else text
    try:
        return cell.encode()
    except UnicodeEncodeError:
        # a text that is no Unicode, out of a document, has escapes in JSON
        return _quoted(json_text(text).decode()).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
