"""The Jinja environment of the language: sandboxed, bounded, strict about missing names, and deterministic."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from types import MethodType
from typing import Any

from jinja2 import Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.runtime import Context, LoopContext, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing
from jinja2.visitor import NodeTransformer

from ..plurals import counted
from . import bounds
from .faults import did_you_mean
from .filters import FILTERS, TESTS, to_json_text
from .methods import METHODS, OF_LISTS, OF_OBJECTS, Method, check_key, join, method_of
from .text_format import modulo
from .values import GREATEST, LEAST, Rows, refuse, stored, type_name
from .views import ABSENT, View

_ONLY_CHECKS = frozenset({"defined", "undefined"})
_LENGTH = frozenset({"count", "length"})


class MissingName(UndefinedError):
    """`has_hint`: the message says already which similar names there are."""

    def __init__(self, message: str, name: str, *, has_hint: bool = True) -> None:
        super().__init__(message)
        self.name = name
        self.has_hint = has_hint


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
        # only who renders knows which names there are
        return MissingName(f"'{name}' is not defined", str(name), has_hint=False)
    if isinstance(obj, View):
        return MissingName(f"{obj.title()} has no '{name}'{available(name, obj.names())}", str(name))
    if isinstance(obj, Mapping):
        return MissingName(f"there is no '{name}'{available(name, obj)}", str(name))
    if obj is None:
        return MissingName(f"null has no '{name}'", str(name))
    if isinstance(obj, (list, tuple, Rows)) and type(name) is int:
        return MissingName(f"a list of {counted(len(obj), 'item')} has no [{name}]", str(name))
    return MissingName(f"a value of type {type_name(obj)} has no '{name}'", str(name))


# how many names are compared: the first ones
_COMPARED = 500


def similar(name: Any, known: Iterable[Any]) -> str:
    """`; did you mean 'x'?` or nothing."""
    names = [str(one)[:100] for one in islice(known, _COMPARED)]
    return did_you_mean(str(name), [*names, *GLOBALS])


def available(name: Any, names: Iterable[Any]) -> str:
    """` (available: a, b); did you mean 'a'?` or nothing."""
    first = [text if len(text) <= 40 else f"{text[:40]}…" for text in map(str, islice(names, 9))]
    if not first:
        return ""
    return f" (available: {', '.join(first[:8])}{', ...' if len(first) > 8 else ''}){similar(name, names)}"


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
    intercepted_binops = frozenset({*bounds.BINARY, "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Data first: `row.items` is the field `items` of the row, if it has one. Besides data there are only the
        methods that templates may call, and what Jinja provides in loops."""
        if type(obj) is dict:
            if attribute in obj:
                return obj[attribute]
        elif isinstance(obj, View):
            value = obj.lookup(attribute)
            if value is not ABSENT:
                return value
            if attribute in OF_OBJECTS:
                obj = obj.mapping()
            elif obj.length() is not None and attribute in OF_LISTS:
                obj = obj.whole()
            else:
                return self.undefined(obj=obj, name=attribute)
        elif isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        elif isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        elif isinstance(obj, (LoopContext, Namespace)):
            return _of_jinja(obj, attribute, self.undefined)
        elif isinstance(obj, tuple) and attribute in getattr(obj, "_fields", ()):
            return getattr(obj, attribute)
        method = method_of(obj, attribute)
        return method if method is not None else self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if type(obj) is dict and type(argument) is str and argument in obj:
            return obj[argument]
        if isinstance(obj, View):
            if isinstance(argument, str):
                value = obj.lookup(argument)
                return value if value is not ABSENT else self.undefined(obj=obj, name=argument)
            obj = obj.whole()
        if isinstance(obj, Mapping):
            try:
                return obj[check_key(argument)]
            except (KeyError, TypeError):
                return self.undefined(obj=obj, name=argument)
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        if isinstance(obj, (str, list, tuple, range, bytes, Rows)):
            try:
                return obj[argument]
            except (IndexError, TypeError):
                return self.undefined(obj=obj, name=argument)
            except ValueError:
                if isinstance(obj, Rows):
                    # it says which row cannot be read
                    raise
                return self.undefined(obj=obj, name=argument)
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        names: Any = context.parent
        return _BINARY[operator](names.budget, left, right)

    def call(
        __self,
        __context: Context,
        __obj: Any,
        *args: Any,
        _loop_vars: Any = None,
        _block_vars: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`_loop_vars` and `_block_vars` are what Jinja adds for functions that read the template's own names."""
        names: Any = __context.parent
        if isinstance(__obj, Method):
            return __obj.run(__self, names.budget, args, kwargs)
        if __obj is _range or __obj is _dict:
            return __obj(__context, *args, **kwargs)
        if isinstance(__obj, MethodType) and isinstance(__obj.__self__, LoopContext):
            names.budget.spend_weight(args)
            if __obj.__func__ is LoopContext.changed:
                # it compares them with those of the iteration before, unless they are the same
                before = __obj.__self__._last_changed_value
                for left, right in zip(() if before is missing else before, args, strict=False):
                    bounds.check_comparison(names.budget, left, right)
            return __obj(*args)
        is_of_view = isinstance(__obj, MethodType) and isinstance(__obj.__self__, View)
        if is_of_view or __obj is Namespace or isinstance(__obj, LoopContext):
            return __obj(*args, **kwargs)
        if isinstance(__obj, Undefined):
            __obj._fail_with_undefined_error()
        raise SecurityError(f"a value of type {type_name(__obj)} cannot be called")


_OF_LOOPS = frozenset(
    {
        *("cycle", "changed", "depth", "depth0", "first", "index", "index0", "last", "length", "nextitem"),
        *("previtem", "revindex", "revindex0"),
    }
)
# what a call may name
CALLABLE = METHODS | {"cycle", "changed"}
_BINARY: Mapping[str, Callable[[bounds.RenderBudget, Any, Any], Any]] = {**bounds.BINARY, "%": modulo}
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}


def _of_jinja(obj: LoopContext | Namespace, attribute: str, undefined: Callable[..., Undefined]) -> Any:
    known = attribute in _OF_LOOPS if isinstance(obj, LoopContext) else not attribute.startswith("_")
    try:
        return getattr(obj, attribute) if known else undefined(obj=obj, name=attribute)
    except AttributeError:
        return undefined(obj=obj, name=attribute)


class WholeValues(NodeTransformer):
    """Makes a path yield its whole value wherever it is used for more than a deeper lookup.

    Views therefore never reach a filter, a test, an operator or a function. Iterations of loops, and values built from
    others, are charged to the budget.
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:
        weight, text = _size_of_body(node)
        self.generic_visit(node)
        # in the body, so that the iterations of a recursive loop count, too
        node.body.insert(0, nodes.ExprStmt(_turn(node.lineno, weight, text), lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(_turn(node.lineno, weight, 0), node.test, lineno=node.lineno)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        is_cheap = _is_cheap(node)
        self.generic_visit(node)
        if is_cheap:
            return node
        if len(node.ops) == 1 and node.ops[0].op in _COMPARISONS:
            (operand,) = node.ops
            return nodes.Filter(node.expr, f"_{operand.op}", [operand.expr], [], None, None, lineno=node.lineno)
        operands = [part for each in node.ops for part in (nodes.Const(each.op), each.expr)]
        return nodes.Filter(node.expr, "_compare", operands, [], None, None, lineno=node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _filtered(self.generic_visit(node), "_weighed")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        for pair in node.items:
            if not isinstance(pair.key, nodes.Const):
                pair.key = _filtered(pair.key, "_key")
        return _filtered(self.generic_visit(node), "_weighed")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_weighed") if node.ctx == "load" else node

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        return _whole(node) if node.ctx == "load" else node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        return _whole(self._inside(node))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        if isinstance(node.arg, nodes.Slice):
            bounds_of = [node.arg.start, node.arg.stop, node.arg.step]
            parts: list[Any] = [nodes.Const(None) if part is None else self.visit(part) for part in bounds_of]
            parts.append(nodes.Const(_path_of(node.node)))
            return nodes.Filter(self.visit(node.node), "_slice", parts, [], None, None, lineno=node.lineno)
        return _whole(self._inside(node))

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        if node.name in _LENGTH and isinstance(node.node, (nodes.Name, nodes.Getattr, nodes.Getitem)):
            path = self._inside(node.node)
            node.node = path if isinstance(path, nodes.Filter) else _filtered(path, "_measured")
            return node
        return self.generic_visit(node)

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
        if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            node.node = self._inside(node.node)
            node.arg = self.visit(node.arg)
            return node
        if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
            node.test = self.visit(node.test)
            node.expr1, node.expr2 = self._inside(node.expr1), self._inside(node.expr2)
            return node
        return self.visit(node)


def _path_of(node: nodes.Node) -> str:
    """A path of names and constant keys as it is written, for errors; empty if it is none."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Getattr():
            return (path := _path_of(node.node)) and f"{path}.{node.attr}"
        case nodes.Getitem(arg=nodes.Const(value=key)):
            return (path := _path_of(node.node)) and f"{path}[{key!r}]"
    return ""


def _whole(node: Any) -> nodes.Filter:
    return _filtered(node, "_whole")


def _turn(lineno: int, weight: int, text: int) -> nodes.Filter:
    sizes = [nodes.Const(weight), nodes.Const(text)]
    return nodes.Filter(nodes.Const(True, lineno=lineno), "_turn", sizes, [], None, None, lineno=lineno)


# nodes that take about as long as a value takes
_NODES = 4
# what writing a value takes, in nodes
_OUTPUT = 16
# and calling a filter, a test or a function
_CALL = 8


def _size_of_body(loop: nodes.For) -> tuple[int, int]:
    """Of one iteration, without those of the loops in it: the weight, and the characters that stand in it."""
    weight, text, waiting = 0, 0, [*loop.body, *([loop.test] if loop.test is not None else [])]
    while waiting:
        node = waiting.pop()
        weight += 1
        if isinstance(node, nodes.TemplateData):
            text += len(node.data)
        elif isinstance(node, nodes.Output):
            weight += _OUTPUT * len(node.nodes)
        elif isinstance(node, (nodes.Filter, nodes.Test, nodes.Call)):
            weight += _CALL
        if not isinstance(node, nodes.For):
            waiting.extend(node.iter_child_nodes())
    return weight // _NODES, text


def _is_cheap(node: nodes.Compare) -> bool:
    """Whether one side is a short constant, or a list of these, so that comparing takes no time worth counting."""
    if len(node.ops) != 1:
        return False
    (operand,) = node.ops
    if operand.op in ("in", "notin"):
        items = operand.expr
        return isinstance(items, (nodes.List, nodes.Tuple)) and all(map(_is_short, items.items))
    return _is_short(node.expr) or _is_short(operand.expr)


def _is_short(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and (not isinstance(node.value, str) or len(node.value) <= bounds.READ)


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def whole(value: Any) -> Any:
    return value.whole() if isinstance(value, View) else value


def measured(value: Any) -> Any:
    """Something of the same length, if that is known without all of it; else the whole value."""
    if not isinstance(value, View):
        return value
    length = value.length()
    return value.whole() if length is None else range(length)


def plain(value: Any) -> Any:
    """`value` as it is stored: no undefined parts, no iterators, no functions; raises InvalidValue."""
    if isinstance(value, (list, tuple, dict)) and bounds.weight_of(value, bounds.MAX_WEIGHT) > bounds.MAX_WEIGHT:
        length = f"{len(value)} {'keys' if isinstance(value, dict) else 'items'}"
        raise SecurityError(f"the result, of {length}, has more than {bounds.MAX_WEIGHT} values; {bounds.AS_IT_IS}")
    return stored(value, _of_templates)


def _of_templates(value: Any) -> Any:
    """Convert the values of templates that are not data yet to data."""
    if isinstance(value, Rows):
        return value
    if isinstance(value, View):
        return value.whole()
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    if isinstance(value, Iterator):
        return list(_bounded(value))
    if isinstance(value, Method) or callable(value) or type(value).__module__.startswith("jinja2"):
        raise SecurityError("the result is a function, not a value")
    refuse(value)


def _bounded(values: Iterator[Any]) -> Iterator[Any]:
    for count, value in enumerate(values):
        if count >= bounds.MAX_RANGE:
            raise SecurityError(f"a template may produce at most {bounds.MAX_RANGE} items")
        yield value


def _listed(budget: bounds.RenderBudget, value: Any) -> Any:
    """`value` as it is stored, with lists in the place of rows."""

    def convert(part: Any) -> Any:
        if isinstance(part, Rows):
            return budget.list_of(part)
        return _of_templates(part)

    value = plain(value)
    return value if type(value) in bounds.CHEAP else stored(value, convert)


def as_text(value: Any) -> str:
    """A value as part of a text: lists and mappings as JSON, all else as Python prints it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


@pass_context
def _to_json(context: Context, value: Any, indent: int | None = None) -> str:
    names: Any = context.parent
    budget: bounds.RenderBudget = names.budget
    budget.spend_weight(value, 2)
    text = to_json_text(budget, _listed(budget, value), indent)
    budget.make_text(len(text))
    return text


class Identifier(str):
    """A quoted SQL identifier: the only text that may be put into SQL as it is."""

    __slots__ = ()


def identifier(value: Any) -> Identifier:
    """`schema.table` as `"schema"."table"`."""
    parts = str(value).split(".") if isinstance(value, str) else []
    if not parts or any(not part or "\0" in part or len(part) > 128 for part in parts):
        what = f"{value!r:.200}" if isinstance(value, str) else f"a value of type {type_name(value)}"
        raise ValueError(f"{what} is not a valid SQL identifier")
    return Identifier(".".join('"' + part.replace('"', '""') + '"' for part in parts))


@pass_context
def _range(context: Context, *args: int) -> range:
    if any(isinstance(number, int) and not LEAST <= number <= GREATEST for number in args):
        raise bounds.LimitExceeded("a number of range() does not fit in 64 bits")
    numbers = range(*args)
    names: Any = context.parent
    # len() of a range beyond 2**63 raises OverflowError, which is an error of the template like any other
    names.budget.spend_items(len(numbers))
    return numbers


@pass_context
def _turned(context: Context, value: Any, weight: int, text: int) -> Any:
    names: Any = context.parent
    names.budget.spend_turn(weight, text)
    return value


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    names: Any = context.parent
    names.budget.spend_weight(value)
    return value


@pass_context
def _concat(context: Context, values: list[Any]) -> str:
    names: Any = context.parent
    return join(names.budget, "", values)


@pass_context
def _slice(context: Context, value: Any, start: Any, stop: Any, step: Any, path: str) -> Any:
    names: Any = context.parent
    if isinstance(value, (str, bytes)):
        names.budget.spend(len(value) // bounds.MADE)
    elif isinstance(value, (list, tuple)):
        names.budget.spend(len(value) // 8)
    elif isinstance(value, Rows):
        names.budget.spend(bounds.row_weight(value) * len(range(*slice(start, stop, step).indices(len(value)))))
    elif isinstance(value, Undefined):
        value._fail_with_undefined_error()
    elif value is None and path:
        raise TypeError(f"'{path}' is null and has no parts [from:to]; a step that has not run is null")
    elif not isinstance(value, range):
        raise TypeError(f"a value of type {type_name(value)} has no parts [from:to]")
    return value[start:stop:step]


def _comparing(compared: Callable[[Any, Any], Any]) -> Callable[[Context, Any, Any], Any]:
    @pass_context
    def compare(context: Context, left: Any, right: Any) -> Any:
        if type(left) not in bounds.CHEAP and type(right) not in bounds.CHEAP:
            names: Any = context.parent
            bounds.check_comparison(names.budget, left, right)
        return compared(left, right)

    return compare


@pass_context
def _compare(context: Context, left: Any, *operands: Any) -> Any:
    """Whether each of the comparisons holds, from left to right: an operator and a value each."""
    names: Any = context.parent
    found: Any = True
    for compared, right in zip(operands[::2], operands[1::2], strict=True):
        if compared in _COMPARISONS:
            bounds.check_comparison(names.budget, left, right)
            found = _COMPARISONS[compared](left, right)
        else:
            bounds.check_membership(names.budget, left, right)
            found = (left in right) is (compared == "in")
        if not found:
            return found
        left = right
    return found


@pass_context
def _dict(context: Context, *args: Any, **kwargs: Any) -> dict[Any, Any]:
    names: Any = context.parent
    # of rows, it looks at each
    names.budget.spend_written(args)
    result: dict[Any, Any] = dict(*args, **kwargs)
    return _weighed(context, result)  # type: ignore[no-any-return]


@pass_context
def text_output(context: Context, value: Any) -> str:
    names: Any = context.parent
    if type(value) is not str and type(value) not in bounds.CHEAP:
        names.budget.spend_weight(value)
    text = as_text(_listed(names.budget, value))
    names.budget.spend_text(len(text))
    return text


@pass_context
def sql_output(context: Context, value: Any) -> str:
    names: Any = context.parent
    name = f"__{len(names.binds) + 1}"
    # what is quoted as a name is no text of a literal; only where it stands shows which it is
    names.binds[name] = value if isinstance(value, Identifier) else _listed(names.budget, value)
    names.budget.spend_weight(names.binds[name], 4)
    return f"%({name})s"


def _environment(finalize: Callable[..., str]) -> Environment:
    environment = Environment(
        undefined=_Missing, autoescape=False, keep_trailing_newline=True, cache_size=0, finalize=finalize
    )
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    environment.globals.update(range=_range, dict=_dict)
    environment.tests = dict(TESTS)
    environment.filters = dict(
        FILTERS,
        tojson=_to_json,
        identifier=identifier,
        _whole=whole,
        _measured=measured,
        **{f"_{name}": _comparing(compared) for name, compared in _COMPARISONS.items()},
        _compare=_compare,
        _concat=_concat,
        _key=check_key,
        _slice=_slice,
        _turn=_turned,
        _weighed=_weighed,
    )
    return environment


TEXT = _environment(text_output)
SQL = _environment(sql_output)
GLOBALS = TEXT.globals
__all__ = [
    "CALLABLE",
    "GLOBALS",
    "SQL",
    "TEXT",
    "Environment",
    "Identifier",
    "Method",
    "MissingName",
    "Names",
    "plain",
    "whole",
]
