"""Limits on the cost of a template: every operation that can make a large value from a small one is bounded."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from jinja2 import Environment, filters, pass_environment
from jinja2.exceptions import SecurityError

MAX_SOURCE_CHARACTERS = 64 * 1024
MAX_TEXT_CHARACTERS = 10 * 1024 * 1024
MAX_RANGE = 1_000_000
# iterations of all loops together
MAX_TURNS = 1_000_000
# values in all that a template builds from others, each counted as often as it occurs
MAX_WEIGHT = 10_000_000
MAX_WIDTH = 10_000
MAX_BITS = 4096

# a width or precision of six digits or more, or one that is itself computed
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:\d{6,}|\*)")
_WIDE_BRACES = re.compile(r"\{[^{}]*(?:\{|\d{6,})")


class RenderBudget:
    """How much one rendering may still do."""

    __slots__ = ("items", "text", "turns", "weight")

    def __init__(self) -> None:
        self.items = MAX_RANGE
        self.text = MAX_TEXT_CHARACTERS
        self.turns = MAX_TURNS
        self.weight = MAX_WEIGHT

    def spend_turn(self) -> None:
        self.turns -= 1
        if self.turns < 0:
            raise SecurityError(f"the loops of a template may run at most {MAX_TURNS} times")

    def spend_weight(self, value: Any, times: int = 1) -> None:
        self.weight -= weight_of(value, self.weight // max(times, 1)) * times
        if self.weight < 0:
            raise SecurityError(f"a template may build at most {MAX_WEIGHT} values")

    def spend_items(self, count: int) -> None:
        self.items -= count
        if self.items < 0:
            raise SecurityError(f"a template may iterate over at most {MAX_RANGE} numbers of range()")

    def spend_text(self, count: int) -> None:
        self.text -= count
        if self.text < 0:
            raise SecurityError(f"a template may produce at most {MAX_TEXT_CHARACTERS} characters")


class WorkMeter:
    """The work of several renderings together, in units of about ten microseconds."""

    __slots__ = ("_budget", "_spent")

    def __init__(self) -> None:
        self._spent = 0
        self._budget: RenderBudget | None = None

    def budget(self) -> RenderBudget:
        """The budget of the next rendering."""
        self._spent = self.spent
        self._budget = RenderBudget()
        return self._budget

    @property
    def spent(self) -> int:
        budget = self._budget
        if budget is None:
            return self._spent
        # refused work was not done
        turns = MAX_TURNS - max(0, budget.turns) + MAX_RANGE - max(0, budget.items)
        weight, text = MAX_WEIGHT - max(0, budget.weight), MAX_TEXT_CHARACTERS - max(0, budget.text)
        return self._spent + turns // 10 + weight // 500 + text // 10_000


def weight_of(value: Any, limit: int) -> int:
    """The number of values in `value`; a little more than `limit` if there are more. A value that is referenced twice
    counts twice: a few lists that share items take little memory here, but very much once they are serialized."""
    weight, stack = 0, [value]
    while stack and weight <= limit:
        item = stack.pop()
        weight += 1
        if isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, str):
            weight += len(item) // 64
    return weight


def check_length(length: int) -> None:
    if length > MAX_TEXT_CHARACTERS:
        raise SecurityError(f"the result would be longer than {MAX_TEXT_CHARACTERS}")


def check_width(*values: Any) -> None:
    for value in values:
        if isinstance(value, (int, float)) and abs(value) > MAX_WIDTH:
            raise SecurityError(f"a width of {value} is more than {MAX_WIDTH}")


def add(budget: RenderBudget, left: Any, right: Any) -> Any:
    if isinstance(left, Sized) and isinstance(right, Sized):
        check_length(len(left) + len(right))
    if isinstance(left, (list, tuple)):
        budget.spend_weight((left, right))
    return left + right


def multiply(budget: RenderBudget, left: Any, right: Any) -> Any:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, (list, tuple)) and isinstance(times, int):
            budget.spend_weight(sequence, times)
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_BITS:
            raise SecurityError("the product is too large")
    elif isinstance(left, Sized) and isinstance(right, int):
        check_length(len(left) * max(right, 0))
    elif isinstance(right, Sized) and isinstance(left, int):
        check_length(len(right) * max(left, 0))
    return left * right


def power(_: RenderBudget, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and abs(left).bit_length() * abs(right) > MAX_BITS:
        raise SecurityError("the power is too large")
    return left**right


def modulo(_: RenderBudget, left: Any, right: Any) -> Any:
    if isinstance(left, (str, bytes)):
        return percent_format(left, right)
    return left % right


def percent_format(text: Any, values: Any) -> Any:
    if _WIDE_PERCENT.search(text if isinstance(text, str) else str(text)):
        raise SecurityError("the field width in the format is too large")
    return text % values


def check_braces(text: str) -> None:
    if _WIDE_BRACES.search(text.replace("{{", "").replace("}}", "")):
        raise SecurityError("the field width in the format is too large or computed")


def concat(parts: Iterable[Any]) -> str:
    return join(parts)


def join(values: Iterable[Any], separator: str = "") -> str:
    total = 0
    texts = []
    for value in values:
        texts.append(str(value))
        total += len(texts[-1]) + len(separator)
        check_length(total)
    return separator.join(texts)


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if count < 0 else min(count, text.count(old))
    check_length(len(text) + found * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


def call_text_method(text: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Calls one of the methods of str that can make a text longer."""
    if name == "join":
        return join(_all_text(*args), text)
    if name == "replace":
        return replace(text, *args, **kwargs)
    check_width(*args, *kwargs.values())
    return getattr(text, name)(*args, **kwargs)


GROWING_METHODS = frozenset({"join", "replace", "ljust", "rjust", "center", "zfill", "expandtabs"})


def _all_text(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"join requires strings, not {type(value).__name__}")
        yield value


def _narrow(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter `function` with its first argument, a width or a count, bounded."""

    def bounded(value: Any, *args: Any, **kwargs: Any) -> Any:
        check_width(*args[:1], *(kwargs.get(name) for name in ("width", "linecount", "slices")))
        return function(value, *args, **kwargs)

    return bounded


def _indent(text: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    text = str(text)
    check_width(width)
    step = width if isinstance(width, int) else len(str(width))
    check_length(len(text) + step * (text.count("\n") + 1))
    return filters.do_indent(text, width, first, blank)


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(filters.make_attrgetter(environment, attribute), value)
    return join(value, str(d))


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    return replace(str(text), str(old), str(new), -1 if count is None else count)


def _format(text: Any, *args: Any, **kwargs: Any) -> Any:
    return percent_format(str(text), kwargs or args)


def _wordwrap(text: Any, width: int = 79, break_long_words: bool = True, wrapstring: str = "\n") -> str:
    check_width(width)
    text = str(text)
    check_length(len(text) + len(wrapstring) * (len(text) // max(width, 1) + len(text.split())))
    wrap = textwrap.TextWrapper(width, replace_whitespace=False, break_long_words=break_long_words)
    return wrapstring.join(wrapstring.join(wrap.wrap(line)) for line in text.splitlines())


BOUNDED_FILTERS: dict[str, Callable[..., Any]] = {
    "center": _narrow(filters.do_center),
    "batch": _narrow(filters.do_batch),
    "slice": _narrow(filters.sync_do_slice),
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "format": _format,
    "wordwrap": _wordwrap,
}
