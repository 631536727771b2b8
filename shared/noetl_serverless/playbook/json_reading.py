"""Reads JSON, of which some is one long text and little else."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import orjson

from ..limits import MIB
from .values import GREATEST, LEAST, as_read, has_nul, is_deeper

LARGE_BYTES: Final = 1 * MIB
# that a document may have for them to be looked at one by one
FEW_VALUES: Final = 10_000
# by which it is guessed whether a document has more
_BEGINNING: Final = 65_536
_FEW_AT_THE_BEGINNING: Final = 1_000
_OTHER: Final[Any] = object()


def loads(content: bytes) -> Any:
    """The value, as orjson reads it. Raises orjson.JSONDecodeError."""
    value = _of_few_values(content)
    return orjson.loads(content) if value is _OTHER else value


def read_json(content: bytes, levels: int) -> tuple[Any, bool]:
    """The value, and whether it is as `as_read` says with this many levels. Raises orjson.JSONDecodeError."""
    value = _of_few_values(content)
    if value is not _OTHER:
        return value, not has_nul(content) and not is_deeper(value, levels)
    value = orjson.loads(content)
    return value, as_read(value, content, levels)


def _of_few_values(content: bytes) -> Any:
    """_OTHER if it is small, has many values, or is not valid."""
    if len(content) < LARGE_BYTES or content.count(b",", 0, _BEGINNING) > _FEW_AT_THE_BEGINNING:
        return _OTHER
    # it reads a long text in a third of the time, but numbers of any size
    from pydantic_core import from_json

    try:
        value = from_json(content, allow_inf_nan=False, cache_strings=False)
    except ValueError:
        return _OTHER
    return value if _has_few_usual_values(value) else _OTHER


def _has_few_usual_values(value: Any) -> bool:
    left = [value]
    for _ in range(FEW_VALUES):
        if not left:
            return True
        item = left.pop()
        if type(item) is dict or type(item) is list:
            if len(item) > FEW_VALUES:
                return False
            left += item.values() if type(item) is dict else item
        elif (type(item) is int and not LEAST <= item <= GREATEST) or (type(item) is float and not isfinite(item)):
            return False
    return not left
