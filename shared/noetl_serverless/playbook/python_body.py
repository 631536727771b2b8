"""Parses and compiles Python code; the only place that does, at registration and at run time.

Code with `return` or `await` outside any function is the body of a function. So that it otherwise means what it means
as a module, all names that it assigns are globals, and tracebacks show the author's lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import CodeType
from typing import Any

# as frames name it; so does tools.compiled_code, which must not import this module
FILE = "<code>"
# what a body returns at its end. `return` without a value is None
END = ...
# the name of the function, as tracebacks show it; no function of the code can have it
_BODY = "<module>"
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
# where to show what the author has not written
_START: Any = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0}
_AWAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def parse(code: str) -> ast.Module:
    """What `compile_module` takes; raises what `ast.parse` does."""
    module = ast.parse(code, FILE)
    nodes = list(nodes_of_scope(module))
    is_async = any(map(_awaits, nodes))
    if is_async or any(isinstance(node, ast.Return) for node in nodes):
        return _as_body(module, nodes, is_async)
    return module


def compile_module(module: ast.Module) -> CodeType:
    """The code to run: of the module, or of the function whose body it is, which has the flag CO_OPTIMIZED."""
    code = compile(module, FILE, "exec", dont_inherit=True)
    if not is_body(module):
        return code
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))


def compile_text(code: str) -> CodeType:
    """What `compile_module` gives for the code's text."""
    return compile_module(parse(code))


def is_body(module: ast.Module) -> bool:
    last = module.body[-1] if module.body else None
    return isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef) and last.name == _BODY


def nodes_of_scope(scope: ast.AST) -> Iterator[ast.AST]:
    """What a module or function is made of, with the functions and classes in it, but not what is inside them."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        waiting += _evaluated_outside(node) if isinstance(node, _SCOPES) else ast.iter_child_nodes(node)


def _evaluated_outside(scope: ast.AST) -> Iterator[ast.AST]:
    """The parts of a function or class that are evaluated where it is defined."""
    for field in ("decorator_list", "bases", "keywords"):
        yield from getattr(scope, field, ())
    if isinstance(arguments := getattr(scope, "args", None), ast.arguments):
        yield from arguments.defaults
        yield from (default for default in arguments.kw_defaults if default is not None)


def names_bound_by(node: ast.AST) -> Iterator[str]:
    """The names that a node itself gives a value to, or deletes, in its scope."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=other) if name != "*":
            yield other or name.partition(".")[0]
        case (
            ast.ExceptHandler(name=str(name))
            | ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
            | ast.MatchMapping(rest=str(name))
        ):
            yield name


def _awaits(node: ast.AST) -> bool:
    return isinstance(node, _AWAITS) or (isinstance(node, ast.comprehension) and bool(node.is_async))


def _as_body(module: ast.Module, nodes: list[ast.AST], is_async: bool) -> ast.Module:
    for node in nodes:
        if isinstance(node, ast.Yield | ast.YieldFrom):
            raise SyntaxError("'yield' outside function", (FILE, node.lineno, node.col_offset + 1, None))
    for node in (module, *nodes):
        _remove_annotations(node)
    names = sorted({name for node in nodes for name in names_bound_by(node)})
    start = [ast.Global(names, **_START)] if names else []
    # has whatever fields a function has in this version of Python
    function = ast.parse("async def f(): ..." if is_async else "def f(): ...").body[0]
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    function.name = _BODY
    futures = [statement for statement in module.body if _is_future(statement)]
    statements = [statement for statement in module.body if not _is_future(statement)]
    function.body = [*start, *statements, ast.Return(ast.Constant(END, **_START), **_START)]
    module.body = [*futures, function]
    return module


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _remove_annotations(node: ast.AST) -> None:
    """From assignments to names in its blocks, since a global cannot have an annotation."""
    if isinstance(node, _SCOPES):
        return
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            block[:] = map(_without_annotation, block)


def _without_annotation(statement: ast.stmt) -> ast.stmt:
    match statement:
        case ast.AnnAssign(target=ast.Name(), value=None):
            return ast.copy_location(ast.Pass(), statement)
        case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
            return ast.copy_location(ast.Assign([target], value), statement)
    return statement
