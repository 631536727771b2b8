"""The domain of values: what JSON can represent, in the form in which it is stored.

Every value from a step, a `set`, an arc, a loop or a workload is converted to this form once, where it enters, and all
decisions use only this form: a state in memory, a loaded one and a replayed one are equal byte for byte.

* Objects keep the order in which they were written; their keys are text. Keys that are numbers, booleans or null become
  the text that JSON writes for them; two keys that become the same text are refused.
* Integers lie between -2**63 and 2**64 - 1. Beyond that JSON readers disagree, so they are refused: pass text.
* Floats are finite. Texts hold no NUL and no half of a surrogate pair.
* Tuples, sets, ranges and views of mappings are lists; a set is in the order of its items' JSON.
* A value is nested at most `limits.VALUE_DEPTH` levels deep, a task's result at most `limits.RESULT_DEPTH`.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, ItemsView, KeysView, Mapping, Sequence, ValuesView
from math import isfinite
from typing import Any, NoReturn

from ..errors import json_pointer
from ..limits import VALUE_DEPTH

LEAST = -(2**63)
GREATEST = 2**64 - 1
LISTS = (list, tuple, range, KeysView, ValuesView, ItemsView)

Convert = Callable[[Any], Any]


class Rows(Sequence[Any]):
    """A list of JSON values that are made when they are asked for, of which there may be more than fit into memory.

    It is compared as a list is.
    """

    @property
    def width(self) -> int:
        """How many values each of them has."""
        return 0

    def check_listed(self) -> None:
        """Raises ValueError if a list of all of them would take too much memory."""

    def __lt__(self, other: object) -> Any:
        return self._ordered(other, operator.lt)

    def __le__(self, other: object) -> Any:
        return self._ordered(other, operator.le)

    def __gt__(self, other: object) -> Any:
        return self._ordered(other, operator.gt)

    def __ge__(self, other: object) -> Any:
        return self._ordered(other, operator.ge)

    def _ordered(self, other: object, compared: Callable[[Any, Any], bool]) -> Any:
        """Of the first items that differ, or of the lengths."""
        if not isinstance(other, list | Rows):
            return NotImplemented
        if other is not self:
            for mine, its in zip(self, other, strict=False):
                if mine != its:
                    return compared(mine, its)
        return compared(len(self), len(other))


def type_name(value: Any) -> str:
    """What people call the type of a value, for messages: a table is a list to who reads it."""
    return "list" if isinstance(value, Rows) else type(value).__name__


def message_of(error: Exception) -> str:
    """What Python says of an error, in which types are called as in `type_name`."""
    message = str(error)
    if isinstance(error, TypeError):
        for kind in Rows.__subclasses__():
            # a type is in quotation marks, or after 'not'; so is the name of an argument, but after that word
            message = re.sub(rf"(?<!argument )'{kind.__name__}'", "'list'", message)
            message = re.sub(rf"\bnot {kind.__name__}\b", "not list", message)
            message = re.sub(rf"\b{kind.__name__}(?=\.__)", "list", message)
    return message


class InvalidValue(ValueError):
    """A value outside the domain: `rule` is the rule it breaks, `path` its place within the whole value."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.path: list[str | int] = []

    def __str__(self) -> str:
        return f"{self.place()}: {self.rule}" if self.path else self.rule

    def place(self) -> str:
        """The place in the form `scores[3].mean`, for messages."""
        parts = [f"[{part}]" if isinstance(part, int) else f".{_cut(part)}" for part in self.path[:20]]
        return "".join(parts).removeprefix(".") + ("..." if len(self.path) > 20 else "")

    def pointer(self) -> str:
        """The JSON pointer."""
        return json_pointer(self.path)


def _cut(key: str) -> str:
    return key if len(key) <= 80 else f"{key[:80]}…"


class _TooDeep(InvalidValue):
    """Nested too deeply; `stored` adds the limit, which only it knows."""


def refuse(value: Any) -> NoReturn:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    hint = "; encode it as base64 text" if isinstance(value, bytes | bytearray) else ""
    raise InvalidValue(f"a value of type {name} is not JSON{hint}")


def stored(value: Any, convert: Convert = refuse, levels: int = VALUE_DEPTH) -> Any:
    """A copy of `value` as it is stored; raises InvalidValue.

    `convert` receives a value of a type that is not known here and returns one of a known type, or raises. `levels`:
    how deep the value may be.
    """
    try:
        return _stored(value, convert, levels)
    except _TooDeep as error:
        error.rule = f"nested deeper than {levels} levels"
        raise


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Objects are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in overrides.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def as_read(value: Any, content: bytes | bytearray, levels: int = VALUE_DEPTH) -> bool:
    """Whether `value`, parsed from the JSON `content` by a parser that accepts neither NaN nor half of a surrogate
    pair, is as `stored` would make it. The check is cheap; after a False only `stored` can tell."""
    if has_nul(content):
        return False
    if len(content) <= levels:
        return True
    # the depth cannot exceed the number of brackets
    brackets = _count(content, b"[", levels + 1) + _count(content, b"{", levels + 1)
    return brackets <= levels or not is_deeper(value, levels)


def has_nul(content: bytes | bytearray) -> bool:
    """Whether JSON may hold the character NUL; also true for a text that spells out its escape."""
    # most JSON has no escapes, and searching for one byte is ten times as fast as for six
    return b"\\" in content and b"\\u0000" in content


def _count(content: bytes | bytearray, byte: bytes, limit: int) -> int:
    """How often `byte` occurs, up to `limit`; many times as fast as `count` where it is rare."""
    place = -1
    for found in range(limit):
        place = content.find(byte, place + 1)
        if place < 0:
            return found
    return limit


def is_deeper(value: Any, levels: int) -> bool:
    """Whether plain lists and dicts are nested deeper than `levels`."""
    level = [value] if type(value) in (dict, list) else []
    for _ in range(levels):
        if not level:
            return False
        items = (parent.values() if type(parent) is dict else parent for parent in level)
        level = [item for found in items for item in found if type(item) is dict or type(item) is list]
    return bool(level)


def _stored(value: Any, convert: Convert, levels: int) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() and "\0" not in value else _text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if LEAST <= value <= GREATEST else _too_large()
    if kind is float:
        return value if isfinite(value) else _not_finite(value)
    if kind is dict or isinstance(value, Mapping):
        return _object(value, convert, _deeper(levels))
    if kind is list or isinstance(value, LISTS):
        return _list(value, convert, _deeper(levels))
    if isinstance(value, set | frozenset):
        return sorted(_list(value, convert, _deeper(levels)), key=lambda item: json.dumps(item, sort_keys=True))
    # subclasses, such as enums, lose what they add
    for base in (str, int, float):
        if isinstance(value, base):
            return _stored(_bare(base, value), convert, levels)
    if isinstance(value, Rows):
        return convert(value)
    return _stored(convert(value), convert, _deeper(levels))


def _object(value: Mapping[Any, Any], convert: Convert, levels: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    name: str | None = None
    try:
        for key, item in value.items():
            name = None
            name = key if type(key) is str and key.isascii() and "\0" not in key else _key(key)
            if name in result:
                raise InvalidValue("two keys of the object become the same string")
            result[name] = _stored(item, convert, levels)
    except InvalidValue as error:
        if name is not None:
            error.path.insert(0, name)
        raise
    return result


def _list(value: Any, convert: Convert, levels: int) -> list[Any]:
    result: list[Any] = []
    try:
        for item in value:
            result.append(_stored(item, convert, levels))
    except InvalidValue as error:
        error.path.insert(0, len(result))
        raise
    return result


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(str.__str__(key))
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(_stored(key, refuse, 0))
    raise InvalidValue(f"a key is of type {type(key).__qualname__}; keys must be strings")


def _text(value: str) -> str:
    if "\0" in value:
        raise InvalidValue("a string contains a NUL character, which cannot be stored")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue("a string contains an unpaired surrogate, which is not a character") from None
    return value


def _bare(base: Any, value: Any) -> Any:
    return str.__str__(value) if base is str else base(value)


def _deeper(levels: int) -> int:
    """The levels that are left inside a container."""
    if levels <= 0:
        raise _TooDeep("nested too deeply")
    return levels - 1


def _too_large() -> NoReturn:
    raise InvalidValue("an integer does not fit in 64 bits; pass it as a string")


def _not_finite(value: float) -> NoReturn:
    raise InvalidValue(f"{'NaN' if value != value else 'an infinite number'} is not JSON; pass null or a string")
