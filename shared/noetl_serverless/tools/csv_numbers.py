"""The type of a column of CSV with numbers that are not all integers of 64 bits: none by which digits are lost."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import pyarrow
import pyarrow.compute as compute
import pyarrow.types as t

# as many digits as a decimal of Arrow has
WIDE: Final = pyarrow.decimal128(38, 0)
# from here on not every integer is a float of 64 bits
_WIDE_FROM: Final = 2.0**53
_INTEGER: Final = "^[+-]?[0-9]+$"
_OF_38_DIGITS: Final = "^[+-]?0*[0-9]{1,38}$"
# around a number, for pyarrow's reader of CSV as well
_SPACE: Final = " \t"


def may_be_inexact(column: pyarrow.Array) -> bool:
    """Whether numbers of the texts that became this column may have lost digits; `number_type` tells."""
    return t.is_float64(column.type) and _any(compute.greater_equal(compute.abs(column), _WIDE_FROM))


def number_type(columns: Iterable[pyarrow.Array]) -> pyarrow.DataType:
    """`columns`: all values of one, as texts. A decimal for integers alone of which some are wide, a float where all
    integers are exact as one, else text. Digits of a fraction are those of a float."""
    are_integers = are_exact = fit = True
    is_wide = False
    for column in columns:
        texts = compute.ascii_trim(column.drop_null(), _SPACE)
        try:
            numbers = texts.cast(pyarrow.float64())
        except pyarrow.ArrowInvalid:
            return pyarrow.string()
        # of one that is said to be infinite nothing is lost
        if _any(compute.and_(compute.is_inf(numbers), compute.match_substring_regex(texts, "[0-9]"))):
            return pyarrow.string()
        is_integer = compute.match_substring_regex(texts, _INTEGER)
        are_integers = are_integers and _all(is_integer)
        places = compute.and_(is_integer, compute.greater_equal(compute.abs(numbers), _WIDE_FROM))
        if not _any(places):
            continue
        is_wide = True
        wide = texts.filter(places)
        fit = fit and _all(compute.match_substring_regex(wide, _OF_38_DIGITS))
        pairs = zip(wide.to_pylist(), numbers.filter(places).to_pylist(), strict=True)
        are_exact = are_exact and all(Decimal(text) == number for text, number in pairs)
        if not are_exact and not (are_integers and fit):
            return pyarrow.string()
    if not (is_wide and are_integers):
        return pyarrow.float64() if are_exact else pyarrow.string()
    return WIDE if fit else pyarrow.string()


def _any(values: pyarrow.Array) -> bool:
    return bool(compute.any(values, min_count=0).as_py())


def _all(values: pyarrow.Array) -> bool:
    return bool(compute.all(values, min_count=0).as_py())
