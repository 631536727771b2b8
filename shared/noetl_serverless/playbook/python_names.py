"""What Python code reads besides its input: `input_data` and `args`, its whole input, and `context`, the execution."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from .python_body import is_body, names_bound_by, nodes_of_scope
from .reads import Reads, merge
from .scope import RESERVED, VARIABLES

# both mean the whole input, as a dict
INPUT_NAMES = ("input_data", "args")
CONTEXT = "context"
# what it has under names of their own; all other names are those of steps and tasks, and keys of iter, ctx and workload
SCOPES_OF_CONTEXT = ("workload", "ctx", "iter", "execution_id")
# in place of all names, of which there may be many in each of many steps
EVERYTHING = "*"
# how many keys in a row it matters which they are: that of a scope, and one in it
_KEYS = 2
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

# the first keys by which a value is read, as far as they are constant
Keys = tuple[str, ...]


def input_names_in(code: str, module: ast.Module) -> tuple[str, ...]:
    """Those of INPUT_NAMES that the code reads."""
    return tuple(name for name in INPUT_NAMES if name in code and keys_read(code, module, name) is not None)


def keys_read(code: str, module: ast.Module, name: str) -> frozenset[Keys] | None:
    """How the code reads a global `name` that it does not define itself; None if it does not.

    An argument of this name of its function `main` counts as the global.
    """
    if name not in code:
        return None
    top = _top_of(module)
    if any(name in names_bound_by(node) for node in nodes_of_scope(top)):
        return None
    loads = list(_loads(top, name))
    if not loads and not any(_is_main(node) and name in _arguments(node) for node in nodes_of_scope(top)):
        return None
    parents = {child: parent for parent in ast.walk(module) for child in ast.iter_child_nodes(parent)} if loads else {}
    return frozenset(_keys(load, parents) for load in loads)


def context_reads(keys: Collection[Keys], steps: Collection[str], labels: Collection[str]) -> Reads:
    """What the context must hold for code that reads it by these keys, or EVERYTHING; `labels`: the names of the step's
    tasks."""
    if () in keys:
        return {EVERYTHING: None}
    return merge(_reads_of(path, steps, labels) for path in keys)


def _reads_of(path: Keys, steps: Collection[str], labels: Collection[str]) -> Reads:
    first = path[0]
    if first in ("workload", "ctx", "iter"):
        return {first: frozenset(path[1:]) or None}
    if first in steps or first in labels or first == "execution_id":
        return {first: None}
    if first in RESERVED:
        return {}
    values: Reads = {scope: frozenset({first}) for scope in ("workload", "ctx", "iter")}
    return {**values, VARIABLES: frozenset(path[1:]) or None} if first == VARIABLES else values


def _top_of(module: ast.Module) -> ast.AST:
    """What holds the code's own statements."""
    return module.body[-1] if is_body(module) else module


def _loads(top: ast.AST, name: str) -> Iterator[ast.Name]:
    """Where the global is read: not in a function that has this name for something of its own."""
    waiting = [top]
    while waiting:
        for node in nodes_of_scope(waiting.pop()):
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                yield node
            elif isinstance(node, ast.ClassDef) or _is_main(node) or _can_see(node, name):
                waiting.append(node)


def _can_see(node: ast.AST, name: str) -> bool:
    """Whether it is a function in which the name means the global."""
    if not isinstance(node, _FUNCTIONS) or name in _arguments(node):
        return False
    nodes = list(nodes_of_scope(node))
    if any(isinstance(each, ast.Global) and name in each.names for each in nodes):
        return True
    return not any(name in names_bound_by(each) for each in nodes)


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "main"


def _arguments(function: ast.AST) -> list[str]:
    if not isinstance(function, _FUNCTIONS):
        return []
    return [node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)]


def _keys(load: ast.AST, parents: dict[ast.AST, ast.AST]) -> Keys:
    """`context["ctx"].get("x")` reads it by the keys ctx and x."""
    found: list[str] = []
    node = load
    while len(found) < _KEYS:
        match parents.get(node):
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key)), ctx=ast.Load()) as parent if (
                value is node
            ):
                found.append(key)
                node = parent
            case ast.Attribute(attr="get") as method if (get := _key_of_get(method, parents)) is not None:
                node, key = get
                found.append(key)
            case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()]):
                found.append(key)
                break
            case _:
                break
    return tuple(found)


def _key_of_get(method: ast.AST, parents: dict[ast.AST, ast.AST]) -> tuple[ast.AST, str] | None:
    """The call `x.get("key")`, and its key."""
    match parents.get(method):
        case ast.Call(func=function, args=[ast.Constant(value=str(key)), *_]) as call if function is method:
            return call, key
    return None
