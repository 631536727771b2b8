"""Conversion of values to JSON, the same for every tool.

dates and times: ISO 8601; UUID, path: text; Decimal: int or float where that has the same digits, else text; set:
list; numpy scalars and arrays, Arrow tables, pandas and polars frames: numbers and lists (a frame is a list of
objects); pydantic models, data classes: objects; members of an enum: their values.

Values that JSON cannot represent, by their source:

* from a database (`plain_value`): NaN and the infinities are null, an int beyond 64 bits is text, bytes are base64,
  because a query cannot always be written otherwise.
* from Python code and third-party tools (`convert`, for `playbook.values.stored`): all of these are refused, with their
  place, because the author of the code can convert them. NaN of pandas, which means a missing value, is null.
* from HTTP: JSON is read as it is; NUL is refused, as everywhere.
* texts besides a result (of errors, printed output, headers) are never refused but changed to fit, with U+FFFD for NUL,
  so that a step does not fail because of them.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson

from ..limits import MIB, RESULT_DEPTH
from ..playbook.values import InvalidValue, Rows, has_nul, refuse, stored
from ..tables.table import Table
from ..tables.values import plain_decimal

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
# orjson differs for data classes with attributes that begin with _ or are no fields, for subclasses of dict, and for
# times with UTC offsets of seconds: these are left to `playbook.values.stored` and `convert`
NATIVE = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

_AS_IT_IS = nullcontext()
_FEW_FIELDS = 20


class NotJson(ValueError):
    """A value that JSON cannot carry; the message names it and its place."""


class HoldsTable(TypeError):
    """A value has a table in it, which is not written as JSON."""


def encode_result(
    value: Any,
    unlimited: AbstractContextManager[None] = _AS_IT_IS,
    otherwise: Callable[[Any], bytes | None] | None = None,
) -> bytes:
    """{"data": value} as JSON, in the domain of values; raises InvalidValue, with a path from `data` on.

    `unlimited`: entered around code that only writes JSON, and calls no code of the value. `otherwise`: what is
    returned for a value that is no plain JSON; None if it is to be converted.
    """
    with unlimited:
        content = _written({"data": value})
    # orjson writes null for None, but also for NaN and the infinities; a text may contain NUL
    if content is not None and not _may_hold_null(value, content) and not has_nul(content):
        return content
    if content is None and otherwise is not None and (other := otherwise(value)) is not None:
        return other
    try:
        converted = stored(value, convert, RESULT_DEPTH)
    except InvalidValue as error:
        error.path.insert(0, "data")
        raise
    with unlimited:
        return orjson.dumps({"data": converted})


def _may_hold_null(value: Any, content: bytes) -> bool:
    """A long text, or an object of a few texts, is not searched for what it does not mean."""
    if len(content) >= MIB:
        items = value.values() if type(value) is dict and len(value) <= _FEW_FIELDS else (value,)
        if all(type(item) is str for item in items):
            return False
    return b"null" in content


def _written(value: Any) -> bytes | None:
    """The value as JSON; None if `stored` may convert a part of it differently than orjson."""
    try:
        return orjson.dumps(value, option=NATIVE)
    except TypeError:
        return None


def convert(value: Any) -> Any:
    """For `playbook.values.stored`: converts a value of a type that it does not know; raises InvalidValue."""
    if isinstance(value, Rows):
        return value
    if type(value).__module__.partition(".")[0] != "pandas":
        if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
            return value.isoformat()
        if isinstance(value, uuid.UUID):
            return str(value)
        if isinstance(value, enum.Enum):
            return value.value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    try:
        return plain_object(value)
    except TypeError:
        refuse(value)


def plain_object(value: Any) -> Any:
    """orjson's hook: what to write for a value that it does not know."""
    if isinstance(value, decimal.Decimal):
        return plain_decimal(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=lambda item: (str(type(item)), str(item)))
    if isinstance(value, (pathlib.PurePath, datetime.timedelta)):
        return str(value)
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if library == "pandas":
        return _from_pandas(value)
    if library == "pyarrow" and hasattr(value, "to_pylist"):
        return value.to_pylist()
    if library == "polars":
        if kind.__name__ == "LazyFrame":
            value = value.collect()
        return value.to_dicts() if hasattr(value, "to_dicts") else value.to_list()
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Table):
        raise HoldsTable("a table is not JSON")
    raise TypeError(f"{kind.__qualname__} is not JSON")


def encode(value: Any, default: Callable[[Any], Any] = plain_object) -> bytes:
    """`value` as JSON. Keys that are not text become text. NotJson names the value at fault and its place. `default`:
    orjson's hook; with `plain_object` a table raises HoldsTable."""
    try:
        return orjson.dumps(value, default=default, option=_OPTIONS)
    except TypeError as first:
        if isinstance(first.__cause__, HoldsTable):
            # not that one itself: its context would lead to it again, and to the table, until garbage is collected
            raise HoldsTable(str(first.__cause__)) from None
        if "Dict key must be str" in str(first):
            try:
                return orjson.dumps(value, default=default, option=_OPTIONS | orjson.OPT_NON_STR_KEYS)
            except TypeError as second:
                if isinstance(second.__cause__, HoldsTable):
                    raise HoldsTable(str(second.__cause__)) from None
                first = second
        raise NotJson(_explain(value, first, default)) from None


def _from_pandas(value: Any) -> Any:
    match type(value).__name__:
        case "DataFrame":
            return [{key: _missing(item) for key, item in row.items()} for row in value.to_dict("records")]
        case "Timestamp" | "Timedelta":
            return value.isoformat()
        case "NaTType" | "NAType":
            return None
        case _:
            return [_missing(item) for item in value.tolist()]


def _missing(value: Any) -> Any:
    """Null for NaN, which pandas uses for a missing value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _explain(value: Any, error: TypeError, default: Callable[[Any], Any]) -> str:
    place, offending = _find(value, "result", 0, default) or ("result", value)
    if isinstance(offending, int) and not isinstance(offending, bool):
        return f"{place} is an int that does not fit in 64 bits; return it as text"
    if isinstance(offending, bytes | bytearray):
        return f"{place} is of type bytes, which is not JSON; return text, such as base64.b64encode(x).decode()"
    if isinstance(offending, str):
        return f"{place} is text that is not valid Unicode: it contains unpaired surrogates"
    if _encodes(offending, default):
        return f"result is not JSON: {error}"
    return f"{place} is of type {type(offending).__qualname__}, which is not JSON"


def _find(value: Any, place: str, depth: int, default: Callable[[Any], Any]) -> tuple[str, Any] | None:
    """The innermost part that does not encode."""
    if depth > 60 or _encodes(value, default):
        return None
    parts: Any = ()
    if isinstance(value, dict):
        parts = ((f"{place}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        parts = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    for name, item in parts:
        found = _find(item, name, depth + 1, default)
        if found:
            return found
    return place, value


def _encodes(value: Any, default: Callable[[Any], Any]) -> bool:
    try:
        orjson.dumps(value, default=default, option=_OPTIONS | orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError):
        return False
    return True
