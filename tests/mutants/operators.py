"""What is done to one node of a syntax tree: each operator yields nodes that could stand in its place.

The operators of mutmut and cosmic-ray were looked at first. Many of theirs end in a `TypeError` (an argument too
few) or change the wording of a message, which says little about the tests; the faults that matter here, a
statement left out, a condition turned round, an exception not caught, are not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libcst as cst
import libcst.matchers as m

Operator = Callable[[Any], Iterator[cst.CSTNode | cst.RemovalSentinel]]

_COMPARISONS: dict[type[cst.BaseCompOp], tuple[type[cst.BaseCompOp], ...]] = {
    cst.LessThan: (cst.LessThanEqual, cst.GreaterThanEqual),
    cst.LessThanEqual: (cst.LessThan, cst.GreaterThan),
    cst.GreaterThan: (cst.GreaterThanEqual, cst.LessThanEqual),
    cst.GreaterThanEqual: (cst.GreaterThan, cst.LessThan),
    cst.Equal: (cst.NotEqual,),
    cst.NotEqual: (cst.Equal,),
    cst.Is: (cst.IsNot,),
    cst.IsNot: (cst.Is,),
    cst.In: (cst.NotIn,),
    cst.NotIn: (cst.In,),
}

_SUMS: dict[type[cst.CSTNode], type[cst.CSTNode]] = {
    cst.Add: cst.Subtract,
    cst.Subtract: cst.Add,
    cst.Multiply: cst.FloorDivide,
    cst.Divide: cst.Multiply,
    cst.FloorDivide: cst.Multiply,
    cst.Modulo: cst.FloorDivide,
    cst.LeftShift: cst.RightShift,
    cst.RightShift: cst.LeftShift,
    cst.BitAnd: cst.BitOr,
    cst.BitOr: cst.BitAnd,
    cst.AddAssign: cst.SubtractAssign,
    cst.SubtractAssign: cst.AddAssign,
    cst.BitOrAssign: cst.BitAndAssign,
}

_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "reversed": "list"}

_METHODS = {
    "startswith": "endswith",
    "endswith": "startswith",
    "lstrip": "rstrip",
    "rstrip": "lstrip",
    "removeprefix": "removesuffix",
    "removesuffix": "removeprefix",
    "partition": "rpartition",
    "rpartition": "partition",
    "split": "rsplit",
    "rsplit": "split",
    "popleft": "pop",
    "append": "appendleft",
    "setdefault": "get",
}

_NEGATED_BY_COMPARISON = m.Comparison(
    comparisons=[m.ComparisonTarget(operator=m.Equal() | m.NotEqual() | m.Is() | m.IsNot() | m.In() | m.NotIn())]
)

# a key, a name, a short code; a text for people has spaces and is not changed
_WORD = m.SimpleString(value=m.MatchRegex(r"""^b?(["'])[^\s"'\\{}]{1,40}\1$"""))

_PASS = cst.Pass()


def _comparison(node: cst.ComparisonTarget) -> Iterator[cst.CSTNode]:
    for other in _COMPARISONS.get(type(node.operator), ()):
        yield node.with_changes(operator=_spaced(other, node.operator))


def _boolean(node: cst.BooleanOperation) -> Iterator[cst.CSTNode]:
    other = cst.Or if isinstance(node.operator, cst.And) else cst.And
    yield node.with_changes(operator=_spaced(other, node.operator))
    yield _inside(node.left, node)
    yield _inside(node.right, node)


def _sum(node: cst.BinaryOperation | cst.AugAssign) -> Iterator[cst.CSTNode]:
    if other := _SUMS.get(type(node.operator)):
        if isinstance(node, cst.BinaryOperation) and m.matches(node.left, m.SimpleString() | m.FormattedString()):
            return
        yield node.with_changes(operator=_spaced(other, node.operator))


def _not(node: cst.UnaryOperation) -> Iterator[cst.CSTNode]:
    if isinstance(node.operator, cst.Not | cst.Minus | cst.BitInvert):
        yield _inside(node.expression, node)


def _number(node: cst.Integer | cst.Float) -> Iterator[cst.CSTNode]:
    value = node.evaluated_value
    yield node.with_changes(value=repr(value + 1))
    if value not in (0, 1):
        yield cst.Integer("0", lpar=node.lpar, rpar=node.rpar)


def _name(node: cst.Name) -> Iterator[cst.CSTNode]:
    if node.value in ("True", "False"):
        yield node.with_changes(value="False" if node.value == "True" else "True")


def _word(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
    if m.matches(node, _WORD):
        yield node.with_changes(value=node.value[:-1] + "X" + node.value[-1])


def _condition(node: cst.If | cst.While | cst.IfExp | cst.CompIf) -> Iterator[cst.CSTNode]:
    test = node.test
    if not m.matches(test, _NEGATED_BY_COMPARISON | m.UnaryOperation(operator=m.Not())):
        yield node.with_changes(test=_negated(test))
    if isinstance(node, cst.CompIf):
        yield node.with_changes(test=cst.Name("True"))


def _call(node: cst.Call) -> Iterator[cst.CSTNode]:
    if isinstance(node.func, cst.Name) and (other := _CALLS.get(node.func.value)):
        args = node.args if other != "list" else node.args[:1]
        yield node.with_changes(func=cst.Name(other), args=_without_comma(args))
    if isinstance(node.func, cst.Attribute) and (method := _METHODS.get(node.func.attr.value)):
        yield node.with_changes(func=node.func.with_changes(attr=cst.Name(method)))
    for at, arg in enumerate(node.args):
        if arg.keyword and not arg.star:
            yield node.with_changes(args=_without_comma([*node.args[:at], *node.args[at + 1 :]]))


def _statement(node: cst.Expr) -> Iterator[cst.CSTNode]:
    if m.matches(node.value, m.Call() | m.Await()):
        yield _PASS


def _assignment(node: cst.Assign | cst.AnnAssign) -> Iterator[cst.CSTNode]:
    if node.value is None or m.matches(node.value, m.Name("None") | m.BaseNumber() | m.SimpleString()):
        return
    if isinstance(node, cst.Assign) and m.matches(node.targets[0].target, m.Attribute() | m.Subscript()):
        # an attribute or an element is left as it was; a name that was never bound would only raise
        yield _PASS
    yield node.with_changes(value=cst.Name("None"))


def _left_out(node: cst.Raise | cst.Del | cst.Break | cst.AugAssign) -> Iterator[cst.CSTNode]:
    yield _PASS


def _continue(node: cst.Continue) -> Iterator[cst.CSTNode]:
    yield cst.Break()
    yield _PASS


def _return(node: cst.Return) -> Iterator[cst.CSTNode]:
    if node.value is not None and not m.matches(node.value, m.Name("None")):
        yield node.with_changes(value=cst.Name("None"))


def _caught(node: cst.ExceptHandler) -> Iterator[cst.CSTNode]:
    raised = cst.SimpleStatementLine([cst.Raise()])
    if not m.matches(node.body, m.IndentedBlock(body=[m.SimpleStatementLine(body=[m.Raise(exc=None)])])):
        yield node.with_changes(body=cst.IndentedBlock([raised]))


def _with(node: cst.With) -> Iterator[cst.CSTNode]:
    if all(item.asname is None for item in node.items):
        yield cst.If(test=cst.Name("True"), body=node.body, leading_lines=node.leading_lines)


def _case(node: cst.Match) -> Iterator[cst.CSTNode]:
    for at in range(len(node.cases) if len(node.cases) > 1 else 0):
        yield node.with_changes(cases=[*node.cases[:at], *node.cases[at + 1 :]])


def _spaced(other: Any, operator: Any) -> Any:
    """With the line breaks around the operator that was there."""
    return other(whitespace_before=operator.whitespace_before, whitespace_after=operator.whitespace_after)


def _negated(test: cst.BaseExpression) -> cst.BaseExpression:
    if m.matches(test, m.BooleanOperation() | m.IfExp() | m.NamedExpr() | m.Lambda()) and not test.lpar:
        test = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.UnaryOperation(operator=cst.Not(), expression=test)


def _inside(part: cst.BaseExpression, whole: cst.BaseExpression) -> cst.BaseExpression:
    """The part in place of the whole, within the whole's parentheses."""
    return part.with_changes(lpar=[*whole.lpar, *part.lpar], rpar=[*part.rpar, *whole.rpar])


def _without_comma(args: Sequence[cst.Arg]) -> list[cst.Arg]:
    return [*args[:-1], args[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)] if args else []


OPERATORS: tuple[tuple[type[cst.CSTNode] | tuple[type[cst.CSTNode], ...], Operator], ...] = (
    (cst.ComparisonTarget, _comparison),
    (cst.BooleanOperation, _boolean),
    ((cst.BinaryOperation, cst.AugAssign), _sum),
    (cst.UnaryOperation, _not),
    ((cst.Integer, cst.Float), _number),
    (cst.Name, _name),
    (cst.SimpleString, _word),
    ((cst.If, cst.While, cst.IfExp, cst.CompIf), _condition),
    (cst.Call, _call),
    (cst.Expr, _statement),
    ((cst.Assign, cst.AnnAssign), _assignment),
    ((cst.Raise, cst.Del, cst.Break, cst.AugAssign), _left_out),
    (cst.Continue, _continue),
    (cst.Return, _return),
    (cst.ExceptHandler, _caught),
    (cst.With, _with),
    (cst.Match, _case),
)


def replacements(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kinds, operator in OPERATORS:
        if isinstance(node, kinds):
            yield from (other for other in operator(node) if isinstance(other, cst.CSTNode))
