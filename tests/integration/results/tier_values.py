"""Results of every kind and of sizes around each border, and what they are to be read as."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson
import pyarrow as pa

from noetl_serverless.limits import INLINE_BYTES, KIB
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tables.value import without_tables

# what one message of NATS has room for, less what comes with it
KV_BYTES: Final = 1024 * KIB - 4 * KIB
# smaller than outside of tests
CHUNK_BYTES: Final = 100_000
SMALL = (0, 1, 2, 100, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1)
LARGE = (2 * CHUNK_BYTES, 250_000, KV_BYTES - 1, KV_BYTES, KV_BYTES + 1, 1_700_000)
NAMES = (
    *("load", "a/b", "..", ".", ".hidden", "x.y.z", "100%", "%2F", "%2e%2e/%00", "é/日本 ∀", "a b", "q?#&=+", "'; --"),
    *("<&>\"'", "*", ">", "$KV", "n" * 130, "名" * 60, "~", "a\\b", "-", "\u202e"),
)


@dataclass(frozen=True, slots=True)
class Value:
    """`plain`: with lists in the places of tables; `content`: the JSON of one that has none."""

    data: Any
    plain: Any
    content: bytes | None
    name: str


def size_of(random: Random, part_bytes: int) -> int:
    """`part_bytes`: of what the object store takes in parts."""
    return random.choices(
        (random.choice(SMALL), random.choice(LARGE), part_bytes + random.choice((0, 1, 100_000))), (75, 20, 5)
    )[0]


def text_of(random: Random, size: int) -> str:
    """Of so many characters, which compress to three quarters of that."""
    return base64.b64encode(random.randbytes(size * 3 // 4 + 3)).decode()[:size]


def value_of(random: Random, part_bytes: int, open_file: Callable[[int], int]) -> Value:
    kind = random.choices(("text", "repeated", "object", "table", "tables"), (5, 1, 2, 3, 1))[0]
    size = size_of(random, part_bytes)
    match kind:
        case "text":
            return text_value(random, size)
        case "repeated":
            return _json(["é%/"] * (size // 7), f"a repetitive list of {size} bytes")
        case "object":
            rows = [{"i": at, "text": text_of(random, size // 10), "é": None} for at in range(10)]
            return _json({"rows": rows, "n": random.random(), "nested": {"": [[], {}, True, -1]}}, f"{size} bytes")
        case "table":
            return _with_tables(_table(random, size, open_file), f"a table of {size} bytes")
    table = _table(random, size // 2, open_file)
    return _with_tables({"one": table, "more": [1, table, _table(random, 10, open_file)]}, f"tables of {size} bytes")


def text_value(random: Random, size: int) -> Value:
    """With its quotes, of just that size."""
    return _json(text_of(random, max(0, size - 2)), f"a text of {max(2, size)} bytes")


def large_table(random: Random, size: int, open_file: Callable[[int], int]) -> Value:
    return _with_tables(_table(random, size, open_file, 20), f"a table of {size} bytes")


def lists_of(value: Any) -> Any:
    return without_tables(value, list)


def _json(data: Any, name: str) -> Value:
    return Value(data, data, orjson.dumps(data), name)


def _with_tables(data: Any, name: str) -> Value:
    return Value(data, lists_of(data), None, name)


def _table(random: Random, size: int, open_file: Callable[[int], int], count: int | None = None) -> Table:
    count = random.choice((0, 1, 20)) if count is None else count
    text = [text_of(random, size // max(1, count)) for _ in range(count)]
    columns = {"n": pa.array(range(count), pa.int64()), "text": pa.array(text, pa.string())}
    file = open_file(size)
    return Table(MappedFile(file, write_table(file, pa.table(columns)).bytes))
