"""The filters and tests of templates: those of Jinja that are safe, each bounded in time and memory, and a few more.

Left out are `random` (a rendering always gives the same), `pprint`, `urlize`, `xmlattr` and `striptags`.
"""

from __future__ import annotations

import base64
import html
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from jinja2 import Environment, Undefined, filters, pass_context, tests
from jinja2.runtime import Context

from . import bounds
from .bounds import LimitExceeded, RenderBudget, weight_of
from .methods import join, method_of, replace
from .text_format import percent_format
from .values import GREATEST, LEAST, Rows, stored, type_name

_Filter = Callable[..., Any]

# digits of a number beyond 64 bits, and of the longest float
_MAX_DIGITS = 400
_MAX_ATTRIBUTE = 1000
_MAX_INDENT = 16
_DASHES = re.compile(r"-{2,}")


class Lazy(Iterator[Any]):
    """What a filter yields one by one, and at most how much of it."""

    __slots__ = ("_count", "_items")

    def __init__(self, items: Iterator[Any], count: int) -> None:
        self._items = items
        self._count = count

    def __iter__(self) -> Iterator[Any]:
        return self._items

    def __next__(self) -> Any:
        return next(self._items)

    def __length_hint__(self) -> int:
        return self._count


def _budget(context: Context) -> RenderBudget:
    names: Any = context.parent
    budget: RenderBudget = names.budget
    return budget


# -- of texts


def _text(context: Context, value: Any) -> str:
    if isinstance(value, str):
        return value
    if type(value) not in bounds.CHEAP:
        _budget(context).spend_written(value, 2)
    return str(value)


def _of_text(function: Callable[[str], Any], growth: int = 1, per_character: int = 0) -> _Filter:
    """A filter that takes `per_character` units for each character besides its copying."""

    @pass_context
    def call(context: Context, value: Any) -> Any:
        text = _text(context, value)
        if len(text) > bounds.READ:
            _budget(context).make_text(len(text) * (1 if text.isascii() and growth <= 3 else growth))
            _budget(context).spend(len(text) * per_character)
        return function(text)

    return call


_string = pass_context(_text)


@pass_context
def _trim(context: Context, value: Any, chars: str | None = None) -> str:
    text = _text(context, value)
    _budget(context).spend(len(text) * max(1, len(chars or "")) // bounds.READ)
    return text.strip(chars)


@pass_context
def _center(context: Context, value: Any, width: int = 80) -> str:
    bounds.check_width(width)
    text = _text(context, value)
    _budget(context).make_text(max(len(text), width))
    return text.center(width)


@pass_context
def _indent(context: Context, value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    text = _text(context, value)
    bounds.check_width(width)
    step = width if isinstance(width, int) else len(str(width))
    _budget(context).make_text(len(text) + step * (text.count("\n") + 1))
    _budget(context).spend(text.count("\n"))
    return filters.do_indent(text, width, first, blank)


@pass_context
def _replace(context: Context, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = (_text(context, part) for part in (value, old, new))
    return replace(_budget(context), text, old, new, -1 if count is None else count)


@pass_context
def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    return percent_format(_budget(context), _text(context, value), kwargs or args)


@pass_context
def _truncate(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    text = _text(context, value)
    _budget(context).make_text(len(text))
    return filters.do_truncate(context.environment, text, *args, **kwargs)


@pass_context
def _wordwrap(
    context: Context,
    value: Any,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> str:
    text, separator = _text(context, value), "\n" if wrapstring is None else wrapstring
    bounds.check_width(width)
    budget, width = _budget(context), max(width, 1)
    # what is left of a word is copied for each line of it, and looked through for each of its dashes
    words = sum(len(word) ** 2 // width for word in text.split() if len(word) > width)
    dashes = sum(len(run) ** 2 for run in _DASHES.findall(text))
    lines = len(text) // width + len(text.split())
    budget.spend(len(text) * 4 + lines * 20 + words // 1000 + dashes)
    budget.make_text(len(text) + len(separator) * lines)
    wrap = textwrap.TextWrapper(
        width, replace_whitespace=False, break_long_words=break_long_words, break_on_hyphens=break_on_hyphens
    )
    return separator.join(separator.join(wrap.wrap(line)) for line in text.splitlines())


@pass_context
def _urlencode(context: Context, value: Any) -> str:
    budget = _budget(context)
    if isinstance(value, str):
        budget.make_text(len(value) * (3 if value.isascii() else 12))
    else:
        budget.spend_written(value, 12)
    return filters.do_urlencode(value)


@pass_context
def _b64encode(context: Context, value: Any) -> str:
    data = value if isinstance(value, bytes) else _text(context, value).encode()
    _budget(context).make_text(len(data) * 4 // 3)
    return base64.b64encode(data).decode("ascii")


@pass_context
def _b64decode(context: Context, value: Any) -> str:
    text = _text(context, value)
    _budget(context).make_text(len(text))
    return base64.b64decode(text, validate=True).decode()


@pass_context
def _from_json(context: Context, value: Any) -> Any:
    text = value.decode() if isinstance(value, bytes) else _text(context, value)
    _budget(context).spend(len(text))
    return stored(json.loads(text))


@pass_context
def _join(context: Context, value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    budget = _budget(context)
    _spend_items(budget, value, attribute)
    if attribute is not None:
        value = map(filters.make_attrgetter(context.environment, attribute), value)
    return join(budget, _text(context, d), value)


# -- of numbers


def _short(value: Any) -> Any:
    if isinstance(value, (str, bytes)) and len(value) > _MAX_DIGITS:
        raise LimitExceeded(f"a number has more than {_MAX_DIGITS} digits")
    return value


def _int(value: Any, default: Any = 0, base: int = 10) -> Any:
    number = filters.do_int(_short(value), default, base)
    if isinstance(number, int) and not LEAST <= number <= GREATEST:
        raise LimitExceeded("an integer does not fit in 64 bits; use a text")
    return number


def _float(value: Any, default: Any = 0.0) -> Any:
    return filters.do_float(_short(value), default)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if not isinstance(value, (int, float)) or not isinstance(precision, int):
        raise TypeError("round takes a number and a number of digits")
    if abs(precision) > _MAX_DIGITS:
        raise LimitExceeded(f"a number has more than {_MAX_DIGITS} digits")
    return filters.do_round(value, precision, method)


def _filesizeformat(value: Any, binary: bool = False) -> str:
    return filters.do_filesizeformat(_short(value), binary)


# -- of lists


def _spend_items(budget: RenderBudget, values: Any, attribute: Any = None, *more: Any) -> None:
    """For each item, and each part of the attributes that are looked up in it."""
    parts = 2
    for name in (attribute, *more):
        if isinstance(name, str):
            if len(name) > _MAX_ATTRIBUTE:
                raise LimitExceeded(f"an attribute is longer than {_MAX_ATTRIBUTE} characters")
            parts += 2 * (1 + name.count(".") + name.count(","))
    budget.spend(parts * bounds.count_of(values) if not isinstance(values, Undefined) else 0)


def _all_of(budget: RenderBudget, values: Iterable[Any]) -> list[Any]:
    return budget.list_of(values) if isinstance(values, Rows) else list(values)


def _made(budget: RenderBudget, values: Iterable[Any]) -> Iterator[Any]:
    """Values that are, or come from, rows of a table, each paid for as it is made: whoever takes it may keep it."""
    for value in values:
        if type(value) is dict:
            budget.spend(bounds.PER_ROW + len(value))
        yield value


def _lazily(function: _Filter) -> _Filter:
    """A filter that applies a filter, a test or a lookup to each item."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Lazy:
        budget = _budget(context)
        _spend_items(budget, value, kwargs.get("attribute"), *args[:1])
        count = 0 if isinstance(value, Undefined) else bounds.count_of(value)
        found = function(context, value, *args, **kwargs)
        return Lazy(_made(budget, found) if isinstance(value, Rows) else found, count)

    return call


@pass_context
def _list(context: Context, value: Any) -> list[Any]:
    budget = _budget(context)
    if isinstance(value, Rows):
        return budget.list_of(value)
    budget.spend(0 if isinstance(value, Undefined) else 1 + 4 * bounds.count_of(value))
    return list(value)


@pass_context
def _reverse(context: Context, value: Any) -> Any:
    budget = _budget(context)
    _spend_items(budget, value)
    if isinstance(value, Rows):
        return Lazy(_made(budget, reversed(value)), len(value))
    return filters.do_reverse(value)


@pass_context
def _items(context: Context, value: Any) -> Lazy:
    _spend_items(_budget(context), value)
    return Lazy(filters.do_items(value), 0 if isinstance(value, Undefined) else bounds.count_of(value))


def _in_parts(function: _Filter, name: str) -> _Filter:
    """`batch` and `slice`, whose first argument is a number of items."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Lazy:
        number = args[0] if args else kwargs.get(name, 0)
        if not isinstance(number, int) or number < 1:
            raise TypeError(f"{name} must be a positive integer")
        bounds.check_width(number)
        count, budget = bounds.count_of(value), _budget(context)
        budget.spend(4 * (count + number))
        items = _made(budget, value) if isinstance(value, Rows) else value
        return Lazy(function(items, *args, **kwargs), count + number)

    return call


@pass_context
def _sort(
    context: Context, value: Iterable[Any], reverse: bool = False, case_sensitive: bool = False, attribute: Any = None
) -> list[Any]:
    budget = _budget(context)
    _spend_items(budget, value, attribute)
    items = _all_of(budget, value)
    lower = None if case_sensitive else filters.ignore_case
    if isinstance(attribute, str) and "," in attribute:
        key = filters.make_multi_attrgetter(context.environment, attribute, postprocess=lower)
    else:
        key = filters.make_attrgetter(context.environment, attribute, postprocess=lower)
    keys = [*map(key, items)]
    _spend_comparisons(budget, keys)
    # in tuples, whose parts are ordered only where they differ: null and null need no order
    key_of_next = zip(keys, strict=True).__next__
    return sorted(items, key=lambda _: key_of_next(), reverse=reverse)


def _by_key(function: _Filter, *, keeps: bool = False) -> _Filter:
    """A filter that compares items, or an attribute of each. `keeps`: it makes lists of the items."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _budget(context)
        # it comes before or after a boolean
        positional = next((arg for arg in args if isinstance(arg, (str, int)) and not isinstance(arg, bool)), None)
        attribute = kwargs.get("attribute", positional)
        _spend_items(budget, value, attribute)
        # rows are made twice rather than kept, of which there may be very many
        twice = isinstance(value, Rows) and attribute is not None and not keeps
        items = value if twice else _all_of(budget, value)
        keys = items
        if attribute is not None:
            keys = [*map(filters.make_attrgetter(context.environment, attribute), items)]
        _spend_comparisons(budget, keys)
        found = function(context.environment, items, *args, **kwargs)
        if not isinstance(found, Iterator):
            return found
        return Lazy(_made(budget, found) if twice else found, len(items))

    return call


def _spend_comparisons(budget: RenderBudget, keys: list[Any]) -> None:
    """For sorting by these keys."""
    if keys:
        # eight values are compared in the time in which one is built, as rows are; one alone is compared with nothing
        weight = weight_of(keys, budget.weight, 8 if len(keys) > 1 else 0)
        budget.spend(weight * len(keys).bit_length() // 8)


@pass_context
def _dictsort(context: Context, value: Mapping[Any, Any], *args: Any, **kwargs: Any) -> list[Any]:
    _budget(context).spend_weight(value, 1 + len(value).bit_length() // 4)
    return filters.do_dictsort(value, *args, **kwargs)


@pass_context
def _sum(context: Context, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    budget = _budget(context)
    _spend_items(budget, value, attribute)
    if attribute is not None:
        value = map(filters.make_attrgetter(context.environment, attribute), value)
    for item in value:
        start = bounds.add(budget, start, item)
    return start


def _length(value: Sized) -> int:
    return len(value)


@pass_context
def _last(context: Context, value: Any) -> Any:
    return filters.do_last(context.environment, value)


@pass_context
def _attr(context: Context, value: Any, name: Any) -> Any:
    if not isinstance(name, str) or method_of(value, name) is not None:
        return context.environment.undefined(obj=value, name=name)
    return context.environment.getattr(value, name)


FILTERS: dict[str, _Filter] = {
    "abs": abs,
    "attr": _attr,
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "batch": _in_parts(filters.do_batch, "linecount"),
    "capitalize": _of_text(str.capitalize, 3),
    "center": _center,
    "count": _length,
    "d": filters.do_default,
    "default": filters.do_default,
    "dictsort": _dictsort,
    "e": _of_text(html.escape, 6),
    "escape": _of_text(html.escape, 6),
    "filesizeformat": _filesizeformat,
    "first": filters.sync_do_first,
    "float": _float,
    "forceescape": _of_text(html.escape, 6),
    "format": _format,
    "from_json": _from_json,
    "fromjson": _from_json,
    "groupby": _by_key(filters.sync_do_groupby, keeps=True),
    "indent": _indent,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _list,
    "lower": _of_text(str.lower, 3),
    "map": _lazily(filters.sync_do_map),
    "max": _by_key(filters.do_max),
    "min": _by_key(filters.do_min),
    "reject": _lazily(filters.sync_do_reject),
    "rejectattr": _lazily(filters.sync_do_rejectattr),
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    # there is no markup that would have to be told from text
    "safe": _string,
    "select": _lazily(filters.sync_do_select),
    "selectattr": _lazily(filters.sync_do_selectattr),
    "slice": _in_parts(filters.sync_do_slice, "slices"),
    "sort": _sort,
    "string": _string,
    "sum": _sum,
    "title": _of_text(filters.do_title, 3, 2),
    "trim": _trim,
    "truncate": _truncate,
    "unique": _by_key(filters.sync_do_unique),
    "upper": _of_text(str.upper, 3),
    "urlencode": _urlencode,
    "wordcount": _of_text(filters.do_wordcount, 1, 1),
    "wordwrap": _wordwrap,
}


# -- tests

_TESTS: dict[str, Any] = {**tests.TESTS}


def _comparing(name: str) -> _Filter:
    function = _TESTS[name]

    @pass_context
    def call(context: Context, value: Any, other: Any) -> Any:
        if type(value) not in bounds.CHEAP and type(other) not in bounds.CHEAP:
            bounds.check_comparison(_budget(context), value, other)
        return function(value, other)

    return call


@pass_context
def _in(context: Context, value: Any, values: Any) -> bool:
    bounds.check_membership(_budget(context), value, values)
    return value in values


def _numeric(name: str) -> _Filter:
    """A test that would format a text."""
    function = _TESTS[name]

    def call(value: Any, *args: Any) -> Any:
        for number in (value, *args):
            if not isinstance(number, (int, float)):
                raise TypeError(f"the test '{name}' takes numbers, not {type_name(number)}")
        return function(value, *args)

    return call


def _of_case(name: str) -> _Filter:
    function = _TESTS[name]

    @pass_context
    def call(context: Context, value: Any) -> Any:
        text = _text(context, value)
        _budget(context).spend(len(text) // bounds.READ * 4)
        return function(text)

    return call


TESTS: dict[str, _Filter] = {
    **{
        name: _TESTS[name]
        for name in (
            *("boolean", "callable", "defined", "false", "float", "integer", "iterable", "mapping", "none", "number"),
            *("sameas", "sequence", "string", "true", "undefined", "filter", "test", "escaped"),
        )
    },
    **{
        name: _comparing(name)
        for name in (
            *("==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", "ge", ">=", "<", "lt", "lessthan"),
            *("<=", "le"),
        )
    },
    **{name: _numeric(name) for name in ("divisibleby", "even", "odd")},
    **{name: _of_case(name) for name in ("lower", "upper")},
    "in": _in,
}


def to_json_text(budget: RenderBudget, value: Any, indent: int | None) -> str:
    """`value`, plain data, as JSON."""
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(indent, int) or indent > _MAX_INDENT:
        raise LimitExceeded(f"an indent is more than {_MAX_INDENT}")
    total, found = 0, []
    for chunk in json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value):
        found.append(chunk)
        total += len(chunk)
        bounds.check_length(total)
    budget.spend(4 * len(found))
    return "".join(found)


__all__ = ["FILTERS", "TESTS", "Environment", "Lazy", "to_json_text"]
