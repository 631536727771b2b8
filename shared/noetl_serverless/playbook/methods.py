"""The methods that templates may call, by the type of the value, each bounded in time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from . import bounds
from .bounds import RenderBudget
from .text_format import brace_format
from .values import Rows, type_name

# the first parameter after these is the value
_Function = Callable[..., Any]

_ENCODINGS = frozenset({"utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1"})


class Method:
    """A method of a value. It is no value itself: it can only be called."""

    __slots__ = ("_function", "_value", "name")

    def __init__(self, value: Any, name: str, function: _Function) -> None:
        self._value = value
        self.name = name
        self._function = function

    def __str__(self) -> str:
        raise SecurityError(f"'{self.name}' is a function, not a value: write {self.name}()")

    __repr__ = __str__

    def run(
        self, environment: SandboxedEnvironment, budget: RenderBudget, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._function in (_format, _format_map):
            return self._function(environment, budget, self._value, *args, **kwargs)
        return self._function(budget, self._value, *args, **kwargs)


def method_of(value: Any, name: str) -> Method | None:
    """The method of that name that templates may call."""
    for kind, methods in _BY_TYPE:
        if isinstance(value, kind):
            function = methods.get(name)
            return None if function is None else Method(value, name, function)
    return None


# -- texts


def _reading(name: str, growth: int = 1) -> _Function:
    """A method that takes as long as the text and its arguments, and makes at most `growth` times the text."""
    function = getattr(str, name)

    def call(budget: RenderBudget, text: str, *args: Any, **kwargs: Any) -> Any:
        if len(text) > bounds.READ:
            budget.make_text(len(text) * (1 if text.isascii() else growth))
        _spend_arguments(budget, args)
        return function(text, *args, **kwargs)

    return call


def _searching_backwards(name: str) -> _Function:
    """A method that may compare all of its argument, or of what it strips, at each character of the text."""
    function = getattr(str, name)

    def call(budget: RenderBudget, text: str, *args: Any, **kwargs: Any) -> Any:
        sought = next((value for value in (*args, *kwargs.values()) if isinstance(value, str)), "")
        budget.spend(len(text) * max(1, len(sought)) // bounds.READ)
        return function(text, *args, **kwargs)

    return call


def _padding(name: str) -> _Function:
    function = getattr(str, name)

    def call(budget: RenderBudget, text: str, width: int, *args: Any) -> Any:
        bounds.check_width(width)
        budget.make_text(len(text) + bounds.MAX_WIDTH // bounds.READ)
        return function(text, width, *args)

    return call


def _splitting(name: str) -> _Function:
    function = getattr(str, name)
    backwards = name == "rsplit"

    def call(budget: RenderBudget, text: str, sep: Any = None, maxsplit: int = -1) -> Any:
        pieces = len(text) // 2 + 1
        if isinstance(sep, str) and sep:
            pieces = text.count(sep)
            if backwards:
                budget.spend(len(text) * len(sep) // bounds.READ)
        if isinstance(maxsplit, int) and maxsplit >= 0:
            pieces = min(pieces, maxsplit)
        budget.spend(4 * pieces + len(text) // bounds.MADE)
        return function(text, sep, maxsplit)

    return call


def _splitlines(budget: RenderBudget, text: str, keepends: bool = False) -> list[str]:
    budget.spend(len(text))
    return text.splitlines(keepends)


def _expandtabs(budget: RenderBudget, text: str, tabsize: int = 8) -> str:
    bounds.check_width(tabsize)
    budget.make_text(len(text) + text.count("\t") * max(tabsize, 0))
    return text.expandtabs(tabsize)


def join(budget: RenderBudget, separator: str, values: Iterable[Any]) -> str:
    """The texts of the values; what is no text yet is written as Python prints it."""
    total, texts = 0, []
    for value in values:
        if not isinstance(value, str):
            if type(value) not in bounds.CHEAP:
                budget.spend_written(value)
            value = str(value)
        texts.append(value)
        total += len(value) + len(separator)
        if total > bounds.MAX_TEXT_CHARACTERS:
            bounds.check_length(total)
    budget.spend(total // bounds.MADE + len(texts))
    return separator.join(texts)


def _join(budget: RenderBudget, text: str, values: Iterable[Any]) -> str:
    if isinstance(values, Mapping):
        values = list(values)
    budget.spend(2 * bounds.count_of(values))
    return join(budget, text, _all_text(values))


def _all_text(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"join requires strings, not {type_name(value)}")
        yield value


def replace(budget: RenderBudget, text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if count < 0 else min(count, text.count(old))
    budget.make_text(len(text) + found * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


def _encode(budget: RenderBudget, text: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    _check_encoding(encoding)
    budget.make_text(len(text) * 4)
    return text.encode(encoding, errors)


def _decode(budget: RenderBudget, data: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
    _check_encoding(encoding)
    budget.make_text(len(data))
    return data.decode(encoding, errors)


def _check_encoding(encoding: str) -> None:
    if encoding.lower() not in _ENCODINGS:
        raise LookupError("the encodings are utf-8, ascii and latin-1")


def _format(environment: SandboxedEnvironment, budget: RenderBudget, text: str, *args: Any, **kwargs: Any) -> str:
    return brace_format(environment, budget, text, args, kwargs)


def _format_map(environment: SandboxedEnvironment, budget: RenderBudget, text: str, values: Mapping[str, Any]) -> str:
    return brace_format(environment, budget, text, (), values)


def _spend_arguments(budget: RenderBudget, args: tuple[Any, ...]) -> None:
    for value in args:
        if isinstance(value, (str, tuple)):
            budget.spend_weight(value)


# -- lists, objects and numbers


def _counting(name: str) -> _Function:
    def call(budget: RenderBudget, values: Any, item: Any, *args: Any) -> int:
        bounds.check_membership(budget, item, values)
        try:
            return int(getattr(values, name)(item, *args))
        except ValueError:
            # Python writes all of the item, or nothing
            raise ValueError("the list has no such item") from None

    return call


def _is_integer(_: RenderBudget, number: float) -> bool:
    return number.is_integer()


def _get(_: RenderBudget, values: Mapping[Any, Any], key: Any, default: Any = None) -> Any:
    return values.get(check_key(key), default)


def check_key(key: Any) -> Any:
    """`key`, if it can be one of an object. Others may take long to look up."""
    if isinstance(key, str) or type(key) in bounds.CHEAP:
        return key
    raise TypeError(f"a key of an object is a text, not a value of type {type_name(key)}")


def _items(_: RenderBudget, values: Mapping[Any, Any]) -> Any:
    return values.items()


def _keys(_: RenderBudget, values: Mapping[Any, Any]) -> Any:
    return values.keys()


def _values(_: RenderBudget, values: Mapping[Any, Any]) -> Any:
    return values.values()


_TEXT: Mapping[str, _Function] = {
    **{
        name: _reading(name)
        for name in (
            *("count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit"),
            *("isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper", "partition"),
            *("removeprefix", "removesuffix", "startswith"),
        )
    },
    # one character may become three
    **{name: _reading(name, 3) for name in ("capitalize", "casefold", "lower", "swapcase", "title", "upper")},
    **{name: _searching_backwards(name) for name in ("rfind", "rindex", "rpartition", "strip", "lstrip", "rstrip")},
    **{name: _padding(name) for name in ("center", "ljust", "rjust", "zfill")},
    "split": _splitting("split"),
    "rsplit": _splitting("rsplit"),
    "splitlines": _splitlines,
    "expandtabs": _expandtabs,
    "join": _join,
    "replace": replace,
    "encode": _encode,
    "format": _format,
    "format_map": _format_map,
}
OF_OBJECTS: Mapping[str, _Function] = {"get": _get, "items": _items, "keys": _keys, "values": _values}
OF_LISTS: Mapping[str, _Function] = {"count": _counting("count"), "index": _counting("index")}
# what people call the values of a type -> the type, and its methods
TYPES: Mapping[str, tuple[type | tuple[type, ...], Mapping[str, _Function]]] = {
    "text": (str, _TEXT),
    "objects": (Mapping, OF_OBJECTS),
    "lists": ((list, tuple, Rows), OF_LISTS),
    "bytes": (bytes, {"decode": _decode}),
    "numbers": (float, {"is_integer": _is_integer}),
}
_BY_TYPE = tuple(TYPES.values())
METHODS: frozenset[str] = frozenset(name for _, methods in _BY_TYPE for name in methods)
