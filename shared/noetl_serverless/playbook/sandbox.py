"""The Jinja environment of the language: sandboxed, bounded, strict about missing names, and deterministic."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import BuiltinMethodType
from typing import Any

from jinja2 import Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context, Macro, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from . import bounds
from .values import refuse, stored
from .views import ABSENT, View

_REMOVED_FILTERS = frozenset(
    {"random", "pprint", "urlize", "xmlattr", "safe", "escape", "e", "forceescape", "striptags"}
)
_ONLY_CHECKS = frozenset({"defined", "undefined"})


class MissingName(UndefinedError):
    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class _Missing(StrictUndefined):
    """An undefined value whose error states what is missing and what exists instead."""

    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: Any = None, exc: Any = UndefinedError
    ) -> None:
        if exc is UndefinedError and hint is None:
            exc = partial(_missing_error, obj, name)
        super().__init__(hint, obj, name, exc)


def _missing_error(obj: Any, name: Any, _message: str) -> MissingName:
    if obj is missing:
        return MissingName(f"'{name}' is not defined", str(name))
    if isinstance(obj, View):
        return MissingName(f"{obj.title()} has no '{name}'{_has(obj.names())}", str(name))
    if isinstance(obj, Mapping):
        return MissingName(f"there is no '{name}'{_has(list(obj))}", str(name))
    if obj is None:
        return MissingName(f"null has no '{name}'", str(name))
    return MissingName(f"a value of type {type(obj).__name__} has no '{name}'", str(name))


def _has(names: list[Any]) -> str:
    shown = ", ".join(str(name)[:40] for name in names[:8])
    return f" (available: {shown}{', ...' if len(names) > 8 else ''})" if shown else ""


class Names:
    """What a template sees: the environment's functions, then the scope; with the budget of this rendering."""

    __slots__ = ("binds", "budget", "scope")

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope
        meter: bounds.WorkMeter | None = getattr(scope, "meter", None)
        self.budget = meter.budget() if meter is not None else bounds.RenderBudget()
        # values bound so far, for SQL
        self.binds: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in GLOBALS or name in self.scope

    def __getitem__(self, name: str) -> Any:
        return GLOBALS[name] if name in GLOBALS else self.scope[name]


class Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Data first: `row.items` is the field `items` of the row, if it has one."""
        if isinstance(obj, View):
            value = obj.lookup(attribute)
            if value is not ABSENT:
                return value
            if attribute not in _MAPPING_METHODS:
                return self.undefined(obj=obj, name=attribute)
            obj = obj.mapping()
        if isinstance(obj, Mapping):
            if attribute in obj:
                return obj[attribute]
            if attribute not in _MAPPING_METHODS:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, View):
            if isinstance(argument, str):
                value = obj.lookup(argument)
                return value if value is not ABSENT else self.undefined(obj=obj, name=argument)
            obj = obj.whole()
        if isinstance(obj, Mapping):
            try:
                return obj[argument]
            except (KeyError, TypeError):
                return self.undefined(obj=obj, name=argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        names: Any = context.parent
        return _BINOPS[operator](names.budget, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        of_text = isinstance(__obj, BuiltinMethodType) and isinstance(__obj.__self__, str)
        if of_text and __obj.__name__ in bounds.GROWING_METHODS:
            return bounds.call_text_method(__obj.__self__, __obj.__name__, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            bounds.check_braces(value.__self__)
        return wrapped


_MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})
_BINOPS: Mapping[str, Callable[[bounds.RenderBudget, Any, Any], Any]] = {
    "+": bounds.add,
    "*": bounds.multiply,
    "**": bounds.power,
    "%": bounds.modulo,
}


class WholeValues(NodeTransformer):
    """Makes a path yield its whole value wherever it is used for more than a deeper lookup.

    Views therefore never reach a filter, a test, an operator or a function. Iterations of loops, and values built from
    others, are charged to the budget.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        # in the body, so that the iterations of a recursive loop count, too
        node.body.insert(0, nodes.ExprStmt(_turn(node.lineno), lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(_turn(node.lineno), node.test, lineno=node.lineno)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _filtered(self.generic_visit(node), "_weighed")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _filtered(self.generic_visit(node), "_weighed")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_weighed") if node.ctx == "load" else node

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        return _whole(node) if node.ctx == "load" else node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        return _whole(self._inside(node))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        return _whole(self._inside(node))

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        if node.name in _ONLY_CHECKS:
            node.node = self._inside(node.node)
            return node
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        listed = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(listed, "_concat", [], [], None, None, lineno=node.lineno)

    def _inside(self, node: Any) -> Any:
        if isinstance(node, nodes.Name):
            return node
        if isinstance(node, nodes.Getattr):
            node.node = self._inside(node.node)
            return node
        if isinstance(node, nodes.Getitem):
            # Jinja compiles a slice to one of Python, which does not ask the environment
            sliced = isinstance(node.arg, nodes.Slice)
            node.node = self.visit(node.node) if sliced else self._inside(node.node)
            node.arg = self.visit(node.arg)
            return node
        if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
            node.test = self.visit(node.test)
            node.expr1, node.expr2 = self._inside(node.expr1), self._inside(node.expr2)
            return node
        return self.visit(node)


def _whole(node: Any) -> nodes.Filter:
    return _filtered(node, "_whole")


def _turn(lineno: int) -> nodes.Filter:
    return _filtered(nodes.Const(True, lineno=lineno), "_turn")


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def whole(value: Any) -> Any:
    return value.whole() if isinstance(value, View) else value


def plain(value: Any) -> Any:
    """`value` as it is stored: no undefined parts, no iterators, no functions; raises InvalidValue."""
    if isinstance(value, (list, tuple, dict)) and bounds.weight_of(value, bounds.MAX_WEIGHT) > bounds.MAX_WEIGHT:
        raise SecurityError(f"the result has more than {bounds.MAX_WEIGHT} values")
    return stored(value, _of_templates)


def _of_templates(value: Any) -> Any:
    """Convert the values of templates that are not data yet to data."""
    if isinstance(value, View):
        return value.whole()
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    if isinstance(value, Iterator):
        return list(_bounded(value))
    if callable(value) or type(value).__module__.startswith("jinja2"):
        raise SecurityError("the result is a function, not a value")
    refuse(value)


def _bounded(values: Iterator[Any]) -> Iterator[Any]:
    for count, value in enumerate(values):
        if count >= bounds.MAX_RANGE:
            raise SecurityError(f"a template may produce at most {bounds.MAX_RANGE} items")
        yield value


def as_text(value: Any) -> str:
    """A value as part of a text: lists and mappings as JSON, all else as Python prints it."""
    value = plain(value)
    return to_json(value) if isinstance(value, (dict, list)) else str(value)


def to_json(value: Any, indent: int | None = None) -> str:
    bounds.check_width(indent)
    return json.dumps(plain(value), ensure_ascii=False, indent=indent, default=str)


def b64encode(value: Any) -> str:
    data = value if isinstance(value, bytes) else str(value).encode()
    return base64.b64encode(data).decode("ascii")


def b64decode(value: Any) -> str:
    return base64.b64decode(str(value), validate=True).decode()


class Identifier(str):
    """A quoted SQL identifier: the only text that may be put into SQL as it is."""

    __slots__ = ()


def identifier(value: Any) -> Identifier:
    """`schema.table` as `"schema"."table"`."""
    parts = str(value).split(".") if isinstance(value, str) else []
    if not parts or any(not part or "\0" in part or len(part) > 128 for part in parts):
        raise ValueError(f"{value!r} is not a valid SQL identifier")
    return Identifier(".".join('"' + part.replace('"', '""') + '"' for part in parts))


@pass_context
def _range(context: Context, *args: int) -> range:
    numbers = range(*args)
    names: Any = context.parent
    # len() of a range beyond 2**63 raises OverflowError, which is an error of the template like any other
    names.budget.spend_items(len(numbers))
    return numbers


@pass_context
def _turned(context: Context, value: Any) -> Any:
    names: Any = context.parent
    names.budget.spend_turn()
    return value


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    names: Any = context.parent
    names.budget.spend_weight(value)
    return value


@pass_context
def _dict(context: Context, *args: Any, **kwargs: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = dict(*args, **kwargs)
    return _weighed(context, result)  # type: ignore[no-any-return]


@pass_context
def _sum(context: Context, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    names: Any = context.parent
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    for item in value:
        start = bounds.add(names.budget, start, item)
    return start


@pass_context
def text_output(context: Context, value: Any) -> str:
    text = as_text(value)
    names: Any = context.parent
    names.budget.spend_text(len(text))
    return text


@pass_context
def sql_output(context: Context, value: Any) -> str:
    names: Any = context.parent
    name = f"__{len(names.binds) + 1}"
    # what is quoted as a name is no text of a literal; only where it stands shows which it is
    names.binds[name] = value if isinstance(value, Identifier) else plain(value)
    return f"%({name})s"


def _environment(finalize: Callable[..., str]) -> Environment:
    environment = Environment(
        undefined=_Missing, autoescape=False, keep_trailing_newline=True, cache_size=0, finalize=finalize
    )
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    environment.globals.update(range=_range, dict=_dict)
    for name in _REMOVED_FILTERS:
        environment.filters.pop(name, None)
    environment.filters.update(bounds.BOUNDED_FILTERS)
    environment.filters.update(
        tojson=to_json,
        b64encode=b64encode,
        b64decode=b64decode,
        identifier=identifier,
        sum=_sum,
        _whole=whole,
        _concat=bounds.concat,
        _turn=_turned,
        _weighed=_weighed,
    )
    return environment


TEXT = _environment(text_output)
SQL = _environment(sql_output)
GLOBALS = TEXT.globals
__all__ = [
    "GLOBALS",
    "SQL",
    "TEXT",
    "Environment",
    "Identifier",
    "Macro",
    "MissingName",
    "Names",
    "plain",
    "whole",
]
