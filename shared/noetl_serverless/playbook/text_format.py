"""`'%05d' % x` and `'{:>9}'.format(x)`, piece by piece, so that no piece is made before its size is known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from jinja2 import Undefined
from jinja2.sandbox import SandboxedEnvironment

from .bounds import MADE, MAX_WIDTH, LimitExceeded, RenderBudget
from .values import Rows, type_name

_PERCENT = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-#0 +]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?[hlL]?(?P<type>.)?",
    re.DOTALL,
)
_NUMBERS = re.compile(r"\d+")


def modulo(budget: RenderBudget, left: Any, right: Any) -> Any:
    """The operator %."""
    if isinstance(left, str):
        return percent_format(budget, left, right)
    if not isinstance(left, (int, float)):
        raise TypeError(f"'%' takes numbers, or a text to format, not {type_name(left)}")
    return left % right


def percent_format(budget: RenderBudget, text: str, values: Any) -> str:
    """Python's `text % values`."""
    found, at, arguments = [], 0, iter(values if isinstance(values, tuple) else (values,))
    uses_keys = False
    for match in _PERCENT.finditer(text):
        budget.spend(4)
        found.append(text[at : match.start()])
        at = match.end()
        if match["type"] == "%":
            found.append("%")
            continue
        _check_field(match["width"], match["precision"])
        if match["key"] is not None:
            uses_keys = True
            if not isinstance(values, Mapping):
                raise TypeError("format requires a mapping")
            value = values[match["key"]]
        else:
            value = _next(arguments)
        spec = match.group().replace(f"({match['key']})", "", 1) if match["key"] is not None else match.group()
        _charge(budget, value)
        found.append(spec % (value,))
        budget.make_text(len(found[-1]))
    found.append(text[at:])
    if not uses_keys and not isinstance(values, Mapping) and next(arguments, _END) is not _END:
        raise TypeError("not all arguments converted during string formatting")
    budget.make_text(sum(map(len, found)))
    return "".join(found)


def brace_format(
    environment: SandboxedEnvironment, budget: RenderBudget, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Python's `text.format(*args, **kwargs)`, without access to attributes that templates do not have."""
    return _Fields(environment, budget).vformat(text, args, kwargs)


class _Fields(Formatter):
    def __init__(self, environment: SandboxedEnvironment, budget: RenderBudget) -> None:
        self._environment = environment
        self._budget = budget
        self._length = 0

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        first, _, _ = field_name.replace("[", ".").partition(".")
        value, used = super().get_field(first, args, kwargs)
        for name in field_name[len(first) :].replace("]", "").replace("[", ".").split(".")[1:]:
            value = self._environment.getitem(value, int(name) if name.isdigit() else name)
        return value, used

    def convert_field(self, value: Any, conversion: Any) -> Any:
        _charge(self._budget, value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        _check_field(*_NUMBERS.findall(format_spec))
        text: str = super().format_field(value, format_spec)
        self._length += len(text)
        self._budget.make_text(self._length)
        return text


_END = object()


def _next(arguments: Any) -> Any:
    value = next(arguments, _END)
    if value is _END:
        raise TypeError("not enough arguments for format string")
    return value


def _check_field(*numbers: str | None) -> None:
    for number in numbers:
        if number and (number == "*" or len(number) > 5 or int(number) > MAX_WIDTH):
            raise LimitExceeded(f"the field width in the format is computed, or more than {MAX_WIDTH}")


def _charge(budget: RenderBudget, value: Any) -> None:
    """For writing `value`."""
    if isinstance(value, (list, tuple, Mapping, Rows)):
        budget.spend_written(value)
    elif isinstance(value, (str, bytes)):
        budget.spend(len(value) // MADE)
    elif isinstance(value, Undefined):
        value._fail_with_undefined_error()
    elif not isinstance(value, (int, float, bytes, type(None))):
        raise TypeError(f"a value of type {type(value).__name__} cannot be formatted")
