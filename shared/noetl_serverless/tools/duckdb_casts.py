"""Types of DuckDB that Arrow lacks: what their values are cast to in SQL, and the JSON that is made of that."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Final

from ..tables.values import plain_int

# of which Arrow has types, or of which DuckDB makes values that mean the same
_IN_ARROW: Final = frozenset(
    {
        *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
        *("hugeint", "float", "double", "decimal", "varchar", "blob", "uuid", "enum", "interval", "sqlnull", "null"),
        *("date", "time", "time_ns", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
        *("timestamp with time zone", "json"),
    }
)
_NESTED: Final = frozenset({"list", "array", "struct", "map", "union"})


def in_arrow(kind: Any) -> bool:
    """Whether Arrow has all values of this type of DuckDB."""
    if kind.id in _NESTED:
        return all(in_arrow(child) for _, child in kind.children if hasattr(child, "id"))
    return kind.id in _IN_ARROW


def is_text(kind: Any) -> bool:
    """Whether all values of this type that Arrow lacks are texts in JSON."""
    return kind.id in ("time with time zone", "bit", "bignum")


def cast_of(kind: Any) -> str | None:
    """The name of a type that Arrow has, to which values of this one are cast without loss; None if there is none, as
    for VARIANT, whose JSON does not tell a blob, an instant or an interval from a text."""
    if in_arrow(kind):
        return str(kind)
    if kind.id in _CASTS:
        return _CASTS[kind.id][0]
    match kind.id:
        case "list":
            parts, form = [kind.children[0][1]], "{}[]"
        case "array":
            parts, form = [kind.children[0][1]], f"{{}}[{kind.children[1][1]}]"
        case "map":
            parts, form = [child for _, child in kind.children], "MAP({}, {})"
            if parts[0].id in _NESTED and not in_arrow(parts[0]):
                # a key in JSON is a text, of which the parts cannot be converted
                return None
        case "struct":
            parts = [child for _, child in kind.children]
            form = f"STRUCT({', '.join(_quoted(name) + ' {}' for name, _ in kind.children)})"
        case _:
            return None
    casts = [cast_of(part) for part in parts]
    return None if None in casts else form.format(*casts)


def _quoted(name: str) -> str:
    """In a text that is formatted."""
    doubled = name.replace('"', '""').replace("{", "{{").replace("}", "}}")
    return f'"{doubled}"'


def conversion_of(kind: Any) -> Callable[[Any], Any]:
    """To the JSON of a value of this type, from the JSON of what it was cast to."""
    # also of a key that Arrow has, which is a text in JSON and not the list or the struct that it was
    if in_arrow(kind):
        return _unchanged
    convert = _conversion(kind)
    return lambda value: None if value is None else convert(value)


def _conversion(kind: Any) -> Callable[[Any], Any]:
    """Of values that are not null."""
    if kind.id in _CASTS:
        return _CASTS[kind.id][1]
    match kind.id:
        case "list" | "array":
            item = conversion_of(kind.children[0][1])
            return lambda value: [item(part) for part in value]
        case "map":
            key, item = (conversion_of(child) for _, child in kind.children)
            return lambda value: {str(key(name)): item(part) for name, part in value.items()}
        case "struct":
            fields = [(name, conversion_of(child)) for name, child in kind.children]
            return lambda value: {name: field(value[name]) for name, field in fields}
        case _:
            return _unchanged


def _unchanged(value: Any) -> Any:
    return value


def _time(text: str) -> str:
    try:
        return datetime.time.fromisoformat(text).isoformat()
    except ValueError:
        # the end of a day
        return text


_CASTS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "time with time zone": ("VARCHAR", _time),
    "bit": ("VARCHAR", str),
    "bignum": ("VARCHAR", str),
    "uhugeint": ("VARCHAR", lambda text: plain_int(int(text))),
}
