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
        if len(node.ops) == 1:
            self._extend(node, node.ops[0])
        return node

    def _extend(self, node: nodes.Compare, operand: nodes.Operand) -> None:
        left, right = node.expr, operand.expr
        if operand.op in ("in", "notin") and _is_code(left) and isinstance(right, nodes.List | nodes.Tuple):
            right.items += _other_spellings(right)
        if operand.op in _MEMBERSHIP:
            for code, constant in ((left, right), (right, left)):
                if _is_code(code) and isinstance(constant, nodes.Const) and (others := _other_spellings(constant)):
                    node.expr, operand.op = code, _MEMBERSHIP[operand.op]
                    operand.expr = nodes.List([constant, *others])


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


def _other_spellings(node: nodes.Node) -> list[nodes.Expr]:
    """Of the codes in a constant or a list, the spellings that are not in it."""
    codes = _codes(node)
    others = {spelling for code in codes for spelling in spellings(code)}.difference(codes)
    return [nodes.Const(spelling) for spelling in sorted(others)]


def _codes(node: nodes.Node) -> list[str]:
    constants = node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]
    return [each.value for each in constants if isinstance(each, nodes.Const) and isinstance(each.value, str)]
