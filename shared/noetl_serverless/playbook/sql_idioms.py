"""What authors write in SQL into which values are written as text, and what it means where they are bound.

* `{{ ", " if not loop.last else "" }}` is a separator, not a value: it is written as it stands.
* In `'{{ x | replace("'", "''") }}'` the quotes are not to be doubled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from .sql_text import parts

_DOUBLED = ("'", "''")


@dataclass(frozen=True, slots=True)
class Placed:
    """A placeholder: the output that it is in, its number there, and its position in the text."""

    output: nodes.Output
    index: int
    at: int

    @property
    def node(self) -> nodes.Expr:
        return self.output.nodes[self.index]


def adapt(tree: nodes.Template) -> nodes.Template:
    """`tree` with these replaced by what they mean."""
    adapted: nodes.Template = _Separators().visit(tree)
    text, placed = laid_out(adapted)
    waiting = iter(placed)
    one = next(waiting, None)
    for part in parts(text):
        while one is not None and one.at < part.end:
            if part.kind in ("text", "escaped"):
                one.output.nodes[one.index] = _without_doubling(one.node)
            one = next(waiting, None)
    return adapted


def laid_out(tree: nodes.Template) -> tuple[str, Sequence[Placed]]:
    """The text of all branches one after the other, with a question mark for each placeholder, and these."""
    text: list[str] = []
    placed: list[Placed] = []
    length = 0
    for output in tree.find_all(nodes.Output):
        for index, node in enumerate(output.nodes):
            is_text = isinstance(node, nodes.TemplateData)
            if not is_text:
                placed.append(Placed(output, index, length))
            text.append(node.data if isinstance(node, nodes.TemplateData) else "?")
            length += len(text[-1])
    return "".join(text), placed


class _Separators(NodeTransformer):
    """Makes an expression that chooses a constant by `loop.first` or `loop.last` a statement with text."""

    def visit_Output(self, output: nodes.Output) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for node in output.nodes:
            if isinstance(node, nodes.CondExpr) and _is_separator(node):
                branches = [_text(node.expr1), [] if node.expr2 is None else _text(node.expr2)]
                found.append(nodes.If(node.test, branches[0], [], branches[1], lineno=node.lineno))
            elif found and isinstance(found[-1], nodes.Output):
                found[-1].nodes.append(node)
            else:
                found.append(nodes.Output([node], lineno=node.lineno))
        return found


def _is_separator(node: nodes.CondExpr) -> bool:
    chosen = [node.expr1, *([] if node.expr2 is None else [node.expr2])]
    are_constant = all(isinstance(one, nodes.Const) and isinstance(one.value, str) for one in chosen)
    names = [node.test, *node.test.find_all(nodes.Getattr)]
    return are_constant and any(_is_end_of_loop(one) for one in names)


def _is_end_of_loop(node: nodes.Node) -> bool:
    match node:
        case nodes.Getattr(node=nodes.Name(name="loop"), attr="first" | "last"):
            return True
    return False


def _text(node: nodes.Node) -> list[nodes.Node]:
    value = node.value if isinstance(node, nodes.Const) else ""
    return [nodes.Output([nodes.TemplateData(value, lineno=node.lineno)], lineno=node.lineno)]


def _without_doubling(node: nodes.Expr) -> nodes.Expr:
    match node:
        case nodes.Filter(name="replace", node=nodes.Expr() as inner, args=[nodes.Const(), nodes.Const()] as args):
            pass
        case nodes.Call(node=nodes.Getattr(attr="replace", node=inner), args=[nodes.Const(), nodes.Const()] as args):
            pass
        case _:
            return node
    is_doubling = tuple(one.value for one in args if isinstance(one, nodes.Const)) == _DOUBLED
    return inner if is_doubling else node
