"""Statements with typed parameters in binary form, which are prepared once in each connection."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pg8000.core import BIND, PARSE, SYNC_MSG, Context

EXECUTE_ALL = b"E" + (9).to_bytes(4, "big") + b"\x00" + bytes(4)
_BOOL, _INT8, _INT4, _TEXT, _FLOAT8 = 16, 20, 23, 25, 701
_NULL = b"\xff\xff\xff\xff"
_LENGTH = struct.Struct("!i")
# number of dimensions, has nulls, type, length, lower bound
_ARRAY_HEAD = struct.Struct("!iiIii")

Value = bytes | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """`sql` has parameters $1, $2, ...; `columns` reads each column of the answer from its text."""

    sql: str
    columns: tuple[Callable[[str], Any], ...]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        # of the content: whoever prepares it under this name, it is the same statement
        object.__setattr__(self, "name", f"noetl_{sha256(self.sql.encode()).hexdigest()[:16]}")

    def request(self, values: Sequence[Value], *, parse: bool) -> tuple[bytes, Context]:
        """The bytes to send, and the context to read the answer into. `parse`: also prepare it."""
        name = self.name.encode() + b"\x00"
        parts = []
        if parse:
            sql = self.sql.encode() + b"\x00"
            parts += [PARSE, _LENGTH.pack(len(name) + len(sql) + 6), name, sql, b"\x00\x00"]
        # one format for all parameters: binary; and the default for all columns: text
        bind = [b"\x00", name, b"\x00\x01\x00\x01", len(values).to_bytes(2, "big")]
        for value in values:
            if value is None:
                bind.append(_NULL)
            else:
                bind += (_LENGTH.pack(len(value)), value)
        bind.append(b"\x00\x00")
        size = sum(map(len, bind)) + 4
        parts += [BIND, _LENGTH.pack(size), *bind, EXECUTE_ALL, SYNC_MSG]
        return b"".join(parts), Context(self.sql, columns=[{}] * len(self.columns), input_funcs=list(self.columns))


def text(value: str | None) -> Value:
    return None if value is None else value.encode()


def float8(value: float) -> Value:
    return struct.pack("!d", value)


def int2(value: int) -> Value:
    return value.to_bytes(2, "big", signed=True)


def booleans(values: Sequence[bool | None]) -> Value:
    return _fixed(_BOOL, 1, "?", values)


def int4s(values: Sequence[int | None]) -> Value:
    return _fixed(_INT4, 4, "i", values)


def int8s(values: Sequence[int | None]) -> Value:
    return _fixed(_INT8, 8, "q", values)


def float8s(values: Sequence[float | None]) -> Value:
    return _fixed(_FLOAT8, 8, "d", values)


def texts(values: Sequence[str | bytes | None]) -> Value:
    """Bytes are taken as UTF-8."""
    return _array(_TEXT, [value.encode() if isinstance(value, str) else value for value in values])


def _fixed(oid: int, size: int, code: str, values: Sequence[Any]) -> bytes:
    """An array of elements of `size` bytes, which `struct` writes as `code`."""
    if None in values:
        return _array(oid, [None if value is None else struct.pack(f"!{code}", value) for value in values])
    count = len(values)
    sized = [size] * (2 * count)
    sized[1::2] = values
    return _ARRAY_HEAD.pack(1, False, oid, count, 1) + struct.pack(f"!{f'i{code}' * count}", *sized)


def _array(oid: int, elements: Sequence[Value]) -> bytes:
    parts = [_ARRAY_HEAD.pack(1, None in elements, oid, len(elements), 1)]
    for element in elements:
        parts += (_NULL,) if element is None else (_LENGTH.pack(len(element)), element)
    return b"".join(parts)
