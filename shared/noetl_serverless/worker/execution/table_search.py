"""Finds secrets in a table, in what its rows show and in what no row does.

What rows show as it is stored is searched as bytes (`secret_bytes`). Of all else (numbers, dates, binary values, which
are base64 in a row) the values are made, and only where a secret could be among them.
"""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

from ...limits import MIB
from ...tables.compacted import can_be_compacted
from ...tables.forms import form_of
from ...tables.leaves import Leaf, leaves
from ...tables.rows import values_of
from ...tables.stream import readable
from ...tables.table import CHUNK_ROWS, Table, parts_of
from ...telemetry.secret_forms import spellings
from ...telemetry.secret_texts import SecretTexts
from .secret_bytes import SecretBytes

if TYPE_CHECKING:
    import pyarrow

# the characters of dates, instants and times, and of decimals, in a row
_OF_TIMES: Final = frozenset(string.digits + "+-:.,T ()BC" + "infinity" + "days")
_OF_DECIMALS: Final = frozenset(string.digits + "+-.E")
# of a binary value, at once: in base64 three bytes are four characters
_BINARY_BYTES: Final = 6 * MIB


class ShownSecrets:
    """What is looked for."""

    def __init__(self, texts: SecretTexts) -> None:
        self.texts = texts
        self.numbers = texts.numbers
        self.in_bytes = SecretBytes(texts.forms)
        self._in_json = SecretBytes({*texts.forms, *spellings(self.numbers)})
        # of bytes whose base64 has the longest form, and a multiple of three
        self._overlap = 3 * max(map(len, texts.forms), default=0) + 3
        of_times = filter(_OF_TIMES.issuperset, texts.forms)
        self._min_digits = min(map(_max_digits, of_times), default=None)
        self._is_any_decimal = bool(self.numbers) or any(_OF_DECIMALS.issuperset(form) for form in texts.forms)

    def may_be_in(self, kind: pyarrow.DataType) -> bool:
        """Whether rows could show one in values of this type, which has no nesting, that does not stand in their
        bytes."""
        import pyarrow.types as t

        if t.is_decimal(kind):
            return self._is_any_decimal
        if _is_time(kind):
            return self._min_digits is not None and self._min_digits <= _digits_in(kind)
        is_as_stored = _is_text(kind) or t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind)
        return not (is_as_stored or t.is_null(kind))

    def may_be_in_form(self, form: str | None) -> bool:
        """The same of texts of such a form."""
        return form == "json" or (form == "decimal" and self._is_any_decimal)

    def is_in_text(self, text: str) -> bool:
        """What looks like one is not one everywhere."""
        return self.texts.is_in(text) and self.texts.text(text) != text

    def is_in_values(self, values: list[Any]) -> bool:
        """Of rows."""
        try:
            if not self._in_json.is_in(orjson.dumps(values)):
                return False
        except TypeError:
            # such as a number that JSON has no room for
            pass
        return bool(self.texts.tree(values) != values)

    def is_in_base64(self, content: memoryview) -> bool:
        """Of a value of any size."""
        for start in range(0, len(content), _BINARY_BYTES):
            encoded = base64.b64encode(content[start : start + _BINARY_BYTES + self._overlap])
            if self.in_bytes.is_in(encoded) and self.is_in_text(encoded.decode()):
                return True
        return False


def _max_digits(text: str) -> int:
    """In a row."""
    return max(map(len, re.findall("[0-9]+", text)), default=0)


def _digits_in(kind: pyarrow.DataType) -> int:
    """In a row at most, in any text of such a time: of a fraction six, of a year or of days more where they are far."""
    import pyarrow.types as t

    is_near = t.is_time(kind) or (t.is_timestamp(kind) and kind.unit in ("us", "ns"))
    return 6 if is_near else 7 if t.is_date32(kind) else 20


class TableSearch:
    """`is_anywhere`: known once its columns have been looked through."""

    def __init__(self, secrets: ShownSecrets, table: Table) -> None:
        self._secrets = secrets
        self._table = table
        self._is_in_bytes = secrets.in_bytes.is_in(table.file.view[table.offset : table.end])
        self.is_anywhere = self._is_in_bytes

    def columns(self) -> set[int]:
        """Those that cannot stay as they are: whose rows or names show a secret, or from which it cannot be removed
        otherwise."""
        fields = list(self._table.schema)
        found = {number for number, field in enumerate(fields) if any(map(self._is_in, _names(field)))}
        is_encoded = [self._is_encoded(field) for field in fields]
        for batch in self._table.batches():
            for number, column in enumerate(batch.columns):
                has_number = self._has_number(column)
                self.is_anywhere |= has_number
                if number in found or not (self._is_in_bytes or has_number or is_encoded[number]):
                    continue
                if self._is_shown(column, _text_form(fields[number])) or (
                    (has_number or self._is_in_bytes) and self._cannot_leave(column)
                ):
                    found.add(number)
        self.is_anywhere |= bool(found)
        return found

    def _is_in(self, text: str) -> bool:
        return self._is_in_bytes and self._secrets.is_in_text(text)

    def _is_encoded(self, field: pyarrow.Field) -> bool:
        """Whether rows may show a secret in the column that does not stand in its bytes."""
        return any(map(self._secrets.may_be_in, _kinds(field.type))) or self._secrets.may_be_in_form(_text_form(field))

    def _cannot_leave(self, column: pyarrow.Array) -> bool:
        """Whether there is one in it, hidden or not, that would still be there afterwards."""
        if can_be_compacted(readable(column.type)):
            return False
        return self._has_number(column) or any(map(self._secrets.in_bytes.is_in, _buffers(column)))

    def _has_number(self, column: pyarrow.Array) -> bool:
        """Whether a secret that is a number is in it, in a row or hidden."""
        numbers = self._secrets.numbers
        return bool(numbers) and any(_is_any_in(whole, numbers) for whole in _numbers(column))

    def _is_shown(self, column: pyarrow.Array, form: str | None) -> bool:
        if form == "json" and self._is_escaped(column):
            return True
        return any(
            self._is_in_leaf(leaf, part, form)
            for rows in _few_rows(column)
            for leaf in leaves(rows)
            for part in parts(leaf.values)
        )

    def _is_escaped(self, column: pyarrow.Array) -> bool:
        """In documents, also in those that no row shows: these are written anew as well."""
        content = column.buffers()[2]
        return content is not None and self._secrets.in_bytes.is_in_documents(content)

    def _is_in_leaf(self, leaf: Leaf, part: pyarrow.Array, form: str | None) -> bool:
        import pyarrow.types as t

        secrets, kind = self._secrets, part.type
        if _is_text(kind):
            if self._is_in_bytes and secrets.is_in_text("\0".join(filter(None, part.to_pylist()))):
                return True
            return secrets.may_be_in_form(form) and bool(secrets.numbers) and self._is_read(part, form)
        if leaf.are_keys:
            return self._is_key(part)
        if t.is_integer(kind) or t.is_floating(kind):
            return _is_any_in(part, secrets.numbers)
        if not secrets.may_be_in(kind):
            return False
        if is_binary(kind):
            whole = (memoryview(value.as_buffer()) for value in part if value.is_valid)
            return any(map(secrets.is_in_base64, whole)) if len(part) == 1 else secrets.is_in_values(values_of(part))
        return self._is_read(part)

    def _is_read(self, part: pyarrow.Array, form: str | None = None) -> bool:
        """Whether there is one in the values as rows have them."""
        try:
            values = values_of(part, form)
        except (OverflowError, ValueError):
            # what cannot be read no row shows
            middle = len(part) // 2
            return bool(middle) and (self._is_read(part[:middle], form) or self._is_read(part[middle:], form))
        return self._secrets.is_in_values(values)

    def _is_key(self, part: pyarrow.Array) -> bool:
        shown = list(map(str, values_of(part)))
        # beyond the calendar of Python there is only what is here already
        with suppress(OverflowError, ValueError):
            shown += map(str, part.to_pylist())
        return self._secrets.is_in_values(shown)


def _few_rows(column: pyarrow.Array) -> Iterable[pyarrow.Array]:
    """Of types that are taken apart by a slice for each value, so that there are not too many at once."""
    if can_be_compacted(column.type):
        return [column]
    return (column.slice(start, CHUNK_ROWS) for start in range(0, len(column), CHUNK_ROWS))


def parts(column: pyarrow.Array) -> Iterator[pyarrow.Array]:
    """So few values at once that they may be converted, unless it is one."""
    import pyarrow

    batch = pyarrow.record_batch([column], names=["v"])
    return (part.column(0) for part in parts_of(batch))


def _text_form(field: pyarrow.Field) -> str | None:
    """The form that its texts are read by."""
    import pyarrow.types as t

    return form_of(field) if t.is_string(field.type) or t.is_large_string(field.type) else None


def _is_text(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def is_binary(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    is_of_any_length = t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind)
    return bool(is_of_any_length or t.is_fixed_size_binary(kind))


def _is_time(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_temporal(kind) or t.is_interval(kind))


def shows_texts(kind: pyarrow.DataType) -> bool:
    """Whether rows show each of its values as a text, or as none."""
    import pyarrow

    return _is_text(kind) or is_binary(kind) or _is_time(kind) or kind == pyarrow.uuid()


def _members(kind: pyarrow.DataType) -> list[pyarrow.Field]:
    import pyarrow
    import pyarrow.types as t

    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return [pyarrow.field("", kind.value_type)]
    return [kind.field(at) for at in range(kind.num_fields)]


def _kinds(kind: pyarrow.DataType) -> Iterator[pyarrow.DataType]:
    """Of the arrays without nesting in it. Names of maps that are no texts are shown as if they were."""
    import pyarrow
    import pyarrow.types as t

    members = _members(kind)
    if t.is_map(kind) and not _is_text(kind.key_type):
        yield pyarrow.binary()
    if not members:
        yield kind
    for member in members:
        yield from _kinds(member.type)


def _names(field: pyarrow.Field) -> Iterator[str]:
    if field.name:
        yield field.name
    for member in _members(field.type):
        yield from _names(member)


def _buffers(column: pyarrow.Array) -> Iterator[pyarrow.Buffer]:
    """All, also those of dictionaries within it, which pyarrow leaves out."""
    found = _parts_of(column)
    yield from (it for it in column.buffers() if it is not None and not found)
    for part in found:
        yield from _buffers(part)


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


def _parts_of(column: pyarrow.Array) -> list[pyarrow.Array]:
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
    import pyarrow.types as t

    kind = column.type
    if t.is_floating(kind):
        # as rows have them
        column, kind = column.cast(pyarrow.float64()), pyarrow.float64()
    wanted: list[Any] = [found for number in numbers if (found := _as(number, kind)) is not None]
    if t.is_decimal(kind) and kind.bit_width < 128:
        # which pyarrow does not compare: they are integers of that width
        wanted = [int(found.scaleb(kind.scale)) for found in wanted]
        kind = pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64()
        column = pyarrow.Array.from_buffers(kind, len(column), column.buffers(), offset=column.offset)
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
