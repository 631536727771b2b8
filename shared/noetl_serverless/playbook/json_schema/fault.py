"""What is wrong with a value or with a schema, in words that hold no text of secrets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...errors import json_pointer
from ...plurals import counted

MAX_KEY: Final = 100
MAX_TEXT: Final = 80
MAX_LISTED: Final = 10
# parts of a pointer; a longer one keeps its beginning
MAX_PARTS: Final = 40

_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
    dict: "an object",
    list: "an array",
}
_TYPES: Final[Mapping[str, str]] = {
    "string": "a string",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "null": "null",
    "object": "an object",
    "array": "an array",
}


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """`pointer`: the JSON pointer from the root of what was checked; for a property that is missing, of the property.
    `expected` and `given` are phrases, as in "an integer" and '"x"'."""

    pointer: str
    message: str
    expected: str
    given: str

    def to_dict(self) -> dict[str, str]:
        return {"pointer": self.pointer, "message": self.message, "expected": self.expected, "given": self.given}


def pointer_of(path: Iterable[str | int]) -> str:
    parts = list(path)
    return json_pointer([part if isinstance(part, int) else cut(part) for part in parts[:MAX_PARTS]])


def cut(key: str) -> str:
    return key if len(key) <= MAX_KEY else f"{key[:MAX_KEY]}…"


def type_phrase(types: Any) -> str:
    """Of the keyword `type`."""
    names = [types] if isinstance(types, str) else list(types)
    return " or ".join(_TYPES.get(str(name), str(name)) for name in names)


def literal(value: Any) -> str:
    """A value of a schema, in a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def listed(values: Iterable[Any]) -> str:
    texts = [literal(value) for value in values]
    more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(texts[:MAX_LISTED]) + more


def given_phrase(value: Any, *, secret: bool = False) -> str:
    """A number, a boolean, or the beginning of a text; of anything else, and of what is secret, only its kind."""
    if isinstance(value, dict):
        return f"an object with {counted(len(value), 'property', 'properties')}"
    if isinstance(value, list):
        return f"an array of {counted(len(value), 'item')}"
    if secret and value is not None:
        return f"{_KINDS.get(type(value), 'a value')} that is not shown"
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{literal(value[:MAX_TEXT])}… ({len(value):,} characters)"
    return literal(value)
