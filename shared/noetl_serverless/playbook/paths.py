"""The values that an expression reads: the longest paths in it, such as `output.data.rows[-1].percent`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from jinja2 import meta, nodes

from . import sandbox
from .template import Template


def paths_in(source: str) -> list[str]:
    """The paths of a template that compiles, each an expression by itself, in order of appearance."""
    tree = sandbox.TEXT.parse(source)
    free_names = meta.find_undeclared_variables(tree) - set(sandbox.GLOBALS)
    return list(dict.fromkeys(path for node in tree.body for path in _walk(node, free_names)))


@lru_cache(maxsize=1024)
def path_templates(source: str) -> tuple[tuple[str, Template], ...]:
    """Each of them with the template that gives its value."""
    return tuple((path, Template("{{ " + path + " }}")) for path in paths_in(source))


def _walk(node: nodes.Node, free_names: set[str]) -> Iterator[str]:
    path = _path(node, free_names)
    if path is not None:
        yield path
    elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        # `ctx.get('x')` reads ctx
        yield from _walk(node.node.node, free_names)
        for argument in (*node.args, *node.kwargs):
            yield from _walk(argument, free_names)
    else:
        for child in node.iter_child_nodes():
            yield from _walk(child, free_names)


def _path(node: nodes.Node, free_names: set[str]) -> str | None:
    if isinstance(node, nodes.Name):
        return node.name if node.ctx == "load" and node.name in free_names else None
    if isinstance(node, nodes.Getattr):
        base = _path(node.node, free_names)
        return None if base is None else f"{base}.{node.attr}"
    if isinstance(node, nodes.Getitem):
        base, key = _path(node.node, free_names), _constant(node.arg)
        return None if base is None or key is None else f"{base}[{key}]"
    return None


def _constant(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Const):
        return repr(node.value)
    if isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const):
        return f"-{node.node.value!r}"
    return None
