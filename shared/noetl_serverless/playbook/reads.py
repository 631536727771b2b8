"""The names that a template reads, each with the first path segments: `ctx.page` reads `page` of `ctx`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from jinja2 import meta, nodes

Reads = Mapping[str, frozenset[str] | None]

_BINDERS: tuple[type[nodes.Node], ...] = (nodes.For, nodes.Assign, nodes.AssignBlock, nodes.With)
_METHODS = frozenset({"items", "keys", "values"})


def find_reads(tree: nodes.Template) -> Reads:
    """Root name -> first segments, or None for the whole value."""
    roots = _undeclared(tree)
    found: dict[str, set[str] | None] = {}
    for root, segment in _walk(tree, called=False):
        if root not in roots:
            continue
        segments = found.setdefault(root, set())
        if segment is None or segments is None:
            found[root] = None
        else:
            segments.add(segment)
    return {root: None if parts is None else frozenset(parts) for root, parts in found.items()}


def fields_read(tree: nodes.Template, root: str) -> Iterator[tuple[str | None, str | None, int]]:
    """(name, field, line) of everything that is read of `root`: `root.name.field`. A name that the template computes is
    None, and so is a field that it computes or does not name."""
    parents: dict[int, nodes.Getattr | nodes.Getitem] = {id(node.node): node for node in tree.find_all(nodes.Getattr)}
    parents |= {id(node.node): node for node in tree.find_all(nodes.Getitem)}
    for node in tree.find_all(nodes.Name):
        if node.name == root and node.ctx == "load":
            above = parents.get(id(node))
            yield _key_of(above), _key_of(parents.get(id(above))), node.lineno


def _key_of(node: nodes.Getattr | nodes.Getitem | None) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    key = node.arg if node is not None else None
    return key.value if isinstance(key, nodes.Const) and isinstance(key.value, str) else None


def merge(all_reads: Iterable[Reads]) -> dict[str, frozenset[str] | None]:
    merged: dict[str, set[str] | None] = {}
    for reads in all_reads:
        for name, segments in reads.items():
            known = merged.setdefault(name, set())
            if segments is None:
                merged[name] = None
            elif known is not None:
                known.update(segments)
    return {name: None if segments is None else frozenset(segments) for name, segments in merged.items()}


def _undeclared(tree: nodes.Template) -> set[str]:
    if not any(tree.find(kind) for kind in _BINDERS):
        return {name.name for name in tree.find_all(nodes.Name)} - set(tree.environment.globals)  # type: ignore[union-attr]
    return meta.find_undeclared_variables(tree)


def _walk(node: nodes.Node, called: bool) -> Iterator[tuple[str, str | None]]:
    """Every root name with its first segment; `called`: the node is the target of a call."""
    if isinstance(node, nodes.Name):
        if node.ctx == "load":
            yield node.name, None
        return
    if isinstance(node, nodes.Call):
        yield from _walk_call(node)
        return
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        yield node.node.name, None if called and node.attr in _METHODS else node.attr
        return
    if isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name):
        constant = node.arg.value if isinstance(node.arg, nodes.Const) else None
        yield node.node.name, constant if isinstance(constant, str) else None
        yield from _walk(node.arg, called=False)
        return
    for child in node.iter_child_nodes():
        yield from _walk(child, called=False)


def _walk_call(node: nodes.Call) -> Iterator[tuple[str, str | None]]:
    target, first = node.node, node.args[0] if node.args else None
    if isinstance(target, nodes.Getattr) and target.attr == "get" and isinstance(target.node, nodes.Name):
        constant = first.value if isinstance(first, nodes.Const) else None
        yield target.node.name, constant if isinstance(constant, str) else None
        yield from _walk_all(node.args)
    else:
        yield from _walk(target, called=True)
        yield from _walk_all(node.args)
    yield from _walk_all(node.kwargs)
    yield from _walk_all(part for part in (node.dyn_args, node.dyn_kwargs) if part is not None)


def _walk_all(children: Iterable[nodes.Node]) -> Iterator[tuple[str, str | None]]:
    for child in children:
        yield from _walk(child, called=False)
