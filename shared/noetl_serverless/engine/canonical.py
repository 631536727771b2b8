"""The same text for the same value, whatever wrote it: the input of checksums and digests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any

import orjson

# integral floats up to here are exact, and stores may return them as integers
MAX_EXACT_FLOAT = 2**53

# what orjson may write differently: floats, and null, which it also writes for NaN and infinity
_NOT_ALIKE = re.compile(rb"null|\d(?:\.\d|e)")
_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; a whole number is written as an integer."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def checksum(value: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return sha256(_fast_canonical(value) or canonical(value).encode(errors="surrogatepass")).hexdigest()


def _fast_canonical(value: Any) -> bytes | None:
    """The canonical text, ten times as fast; None where orjson may write a different one."""
    try:
        content = orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        return None
    return None if _NOT_ALIKE.search(content) else content


def plain(value: Any) -> Any:
    """A copy as JSON would return it: dataclasses as objects, tuples as lists."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= MAX_EXACT_FLOAT else value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=canonical)
    raise TypeError(f"{type(value).__name__} has no JSON form")
