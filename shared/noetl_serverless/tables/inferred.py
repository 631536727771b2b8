"""The Arrow array of JSON values: of integers beyond 64 bits with a sign, too, which pyarrow infers no type for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow

# a float has each integer up to this one, as pyarrow takes them
_MAX_OF_FLOAT: Final = 2**53
# digits of 2**64, the greatest that is converted
_DIGITS: Final = 20

# each value with the number of its row
_Numbered = Sequence[tuple[int, Any]]


class Mixture(ValueError):
    """Values that have no type in common. The message names the rows, counted from 0."""


def array_of(values: Sequence[Any]) -> pyarrow.Array:
    """Integers without floats beside them keep all of their digits. Raises Mixture."""
    import pyarrow

    try:
        return pyarrow.array(values)
    except (ValueError, TypeError, OverflowError) as error:
        kind = _type_of([(row, value) for row, value in enumerate(values) if value is not None])
        try:
            return pyarrow.array(values, kind)
        except (ValueError, TypeError, OverflowError):
            raise Mixture(str(error)) from error


def _type_of(values: _Numbered) -> pyarrow.DataType:
    """Of values without null."""
    import pyarrow

    if not values:
        return pyarrow.null()
    kind = _one_kind(values)
    if kind is dict:
        fields: dict[str, list[tuple[int, Any]]] = {}
        for row, value in values:
            for name, item in value.items():
                fields.setdefault(name, []).append((row, item))
        return pyarrow.struct([(_text(items[0][0], name), _within(items)) for name, items in fields.items()])
    if kind is list:
        return pyarrow.list_(_within([(row, item) for row, value in values for item in value]))
    if kind is str:
        for row, value in values:
            _text(row, value)
        return pyarrow.string()
    if kind is int:
        return _of_integers(values)
    if kind is float:
        _check_floats(values)
        return pyarrow.float64()
    if kind is bool:
        return pyarrow.bool_()
    raise Mixture(f"a value of the type {kind.__name__} in row {values[0][0]} (counted from 0) is not JSON")


def _within(values: _Numbered) -> pyarrow.DataType:
    return _type_of([(row, value) for row, value in values if value is not None])


def _one_kind(values: _Numbered) -> type:
    """The type that all of them have, or float for numbers of both."""
    first, before = values[0]
    kind = type(before)
    for row, value in values:
        its = type(value)
        if its is kind:
            continue
        if {its, kind} != {int, float}:
            where = (
                f"and {its.__name__} in row {row}" if row == first else f"in row {first}, {its.__name__} in row {row}"
            )
            raise Mixture(f"{type(before).__name__} {where} (counted from 0)")
        kind = float if its is float else kind
    return kind


def _of_integers(values: _Numbered) -> pyarrow.DataType:
    import pyarrow

    least, greatest = min(value for _, value in values), max(value for _, value in values)
    if least >= -(2**63) and greatest < 2**63:
        return pyarrow.int64()
    if least >= 0 and greatest < 2**64:
        return pyarrow.uint64()
    for row, value in values:
        if not -(2**63) <= value < 2**64:
            raise Mixture(f"the integer in row {row} (counted from 0) has more than 64 bits")
    return pyarrow.decimal128(_DIGITS, 0)


def _check_floats(values: _Numbered) -> None:
    fraction = next(row for row, value in values if type(value) is float)
    for row, value in values:
        if type(value) is int and abs(value) > _MAX_OF_FLOAT:
            raise Mixture(
                f"the integer {str(value)[:40]} in row {row} is beyond 2**53, and row {fraction} has a float, which "
                "cannot have its digits (counted from 0)"
            )


def _text(row: int, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Mixture(f"the text in row {row} (counted from 0) has half of a surrogate pair") from None
    return text
