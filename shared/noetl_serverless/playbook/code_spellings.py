"""Error codes in conditions: a comparison with a code holds for each of its spellings.

A release may spell a code otherwise than the one that wrote the playbook, or than the one that wrote the error.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from ..error_codes import spellings

_MEMBERSHIP = {"eq": "in", "ne": "notin"}


class CodeSpellings(NodeTransformer):
    """Makes `x.code == "template.error"` a test of membership in its spellings, and extends a list of codes."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if len(node.ops) != 1:
            return node
        (operand,) = node.ops
        for value, other in ((node.expr, operand.expr), (operand.expr, node.expr)):
            codes = _codes(other)
            every = {spelling for code in codes for spelling in spellings(code)}
            if not _is_code(value) or every <= set(codes):
                continue
            constants: list[nodes.Expr] = [nodes.Const(code, lineno=node.lineno) for code in sorted(every)]
            if operand.op in _MEMBERSHIP and isinstance(other, nodes.Const):
                members = nodes.Tuple(constants, "load", lineno=node.lineno)
                test = nodes.Operand(_MEMBERSHIP[operand.op], members, lineno=node.lineno)
                return nodes.Compare(value, [test], lineno=node.lineno)
            if operand.op in ("in", "notin") and isinstance(other, nodes.List | nodes.Tuple) and other is operand.expr:
                other.items += [constant for constant in constants if constant not in other.items]
        return node


def compared_codes(tree: nodes.Node) -> Iterator[str]:
    """The codes that `x.code` is compared with, in a template's syntax tree."""
    for compare in tree.find_all(nodes.Compare):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        if any(_is_code(side) for side in sides):
            yield from (code for side in sides for code in _codes(side))


def _is_code(node: nodes.Node) -> bool:
    match node:
        case nodes.Getattr(attr="code") | nodes.Getitem(arg=nodes.Const(value="code")):
            return True
    return False


def _codes(node: nodes.Node) -> list[str]:
    constants = node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]
    return [each.value for each in constants if isinstance(each, nodes.Const) and isinstance(each.value, str)]
