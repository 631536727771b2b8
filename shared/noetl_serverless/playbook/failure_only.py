"""Whether a condition can hold only where a step has failed or was skipped, as far as its text shows."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import nodes

from . import sandbox
from .template import Template

# the values of `event.name` other than those of a successful end
FAILURE_EVENTS = frozenset({"call.error", "step.failed", "loop.failed", "step.skipped"})
NAMES = ("event", "name")
STATUS = ("output", "status")


def only_on_failure(when: Template | None) -> bool:
    """False where this cannot be determined."""
    return when is not None and _holds_only_for_errors(when.source)


# many arcs may have the same condition
@lru_cache(maxsize=64)
def _holds_only_for_errors(source: str) -> bool:
    match sandbox.TEXT.parse(source).body:
        case [nodes.Output(nodes=[expression])]:
            return _fails(expression)
    return False


def _fails(expression: nodes.Node) -> bool:
    match expression:
        case nodes.And(left=left, right=right):
            return _fails(left) or _fails(right)
        case nodes.Or(left=left, right=right):
            return _fails(left) and _fails(right)
        case nodes.Test(node=nodes.Name(name="error"), name="defined"):
            return True
        case nodes.Compare(expr=compared, ops=[nodes.Operand(op="eq", expr=value)]):
            return _is_failure(compared, [value]) or _is_failure(value, [compared])
        case nodes.Compare(expr=compared, ops=[nodes.Operand(op="in", expr=nodes.List() | nodes.Tuple() as values)]):
            return _is_failure(compared, values.items)
    return False


def _is_failure(expression: nodes.Node, values: list[nodes.Expr] | list[nodes.Node]) -> bool:
    constants = [value.value for value in values if isinstance(value, nodes.Const)]
    if len(constants) < len(values):
        return False
    if is_attribute(expression, *NAMES):
        return FAILURE_EVENTS.issuperset(constants)
    return is_attribute(expression, *STATUS) and set(constants) <= {"error"}


def is_attribute(node: nodes.Node, name: str, attribute: str) -> bool:
    """Whether `node` is `name.attribute`."""
    match node:
        case nodes.Getattr(node=nodes.Name(name=found), attr=attr):
            return (found, attr) == (name, attribute)
    return False
