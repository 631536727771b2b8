"""How much Python compiles of a code: of a short one it can be a great deal, in time and in memory.

The body of a `finally` is compiled once for each way out of its `try`, so that nested ones multiply. A function costs
something in each function around it, as do the names in it. A pattern costs the square of the names that it captures, a
call that of its keywords.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

from .python_body import FILE, compile_module, is_body, parse

# Of a step's code: measured, this takes a quarter of a second and 100 MB to compile. Ordinary code of 100 kB has 21,000
# in the median, and 62,000 at most of a thousand modules.
MAX_SIZE = 300_000

_Kind = Literal["module", "scope", "class", "pattern", "context", "guarded", "finally"]

# tuples, since a union would be made anew for each node
_EXITS = (ast.Return, ast.Break, ast.Continue)
_TRIES = (ast.Try, ast.TryStar)
_WITHS = (ast.With, ast.AsyncWith)
_CAPTURES = (ast.MatchAs, ast.MatchStar, ast.MatchMapping)
_DECLARATIONS = (ast.Global, ast.Nonlocal)
# the most frequent, which are no part and cost nothing else
_PLAIN = (ast.expr_context, ast.Name, ast.Constant, ast.Attribute)
# what Python has a table of names for; the last ones are of Python 3.12
_SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ClassDef,
    ast.GeneratorExp,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    *(getattr(ast, name) for name in ("TypeAlias", "TypeVar", "ParamSpec", "TypeVarTuple") if hasattr(ast, name)),
)
# Measured, in the time of a node, which is about half a microsecond.
# For each function that a name is passed through:
_NAME_COST = 4
# for each way out of a `with`, and of an `except`:
_EXIT_COST = 4
# for each function, one for so many names that it could use, and for so many characters of its function's name:
_NAMES_PER_NODE = 32
_CHARACTERS_PER_NODE = 64
# for each call, class and pattern, one for so many pairs of keywords, as each is compared with each:
_PAIRS_PER_NODE = 20


@dataclass(slots=True)
class _Part:
    """What is counted together, to be added to the part around it."""

    outer: _Part | None
    kind: _Kind
    size: int = 0
    # returns, breaks and continues, with those that stay inside
    exits: int = 0
    scopes: int = 0
    names: int = 0
    # of a pattern
    captures: int = 0
    # of a scope's name
    characters: int = 0
    # what each way out of a context has to leave
    contexts: int = 0
    # by a `finally`
    guarded: _Part | None = None

    def add_to_outer(self) -> None:
        """When all parts in it, and what it guards, have been added."""
        if self.outer is None:
            return
        copies = 1
        if self.guarded is not None:
            # one for the end of the `try`, one for exceptions
            copies = 2 + self.guarded.exits
        if self.kind in ("scope", "class"):
            usable = self.names if self.kind == "scope" else 0
            each = 1 + usable // _NAMES_PER_NODE + self.characters // _CHARACTERS_PER_NODE
            self.size += each * self.scopes
            # the names in a function of the module are its own or the module's
            if self.outer.kind != "module":
                self.size += _NAME_COST * self.names
            self.scopes += 1
            self.exits = 0
        self.size += self.captures**2 // 2 + _EXIT_COST * self.contexts * self.exits
        self.outer.size += copies * self.size
        self.outer.exits += copies * self.exits
        self.outer.scopes += copies * self.scopes
        self.outer.names += self.names


class CodeTooLarge(ValueError):
    """Compiling it would take too much."""

    def __init__(self) -> None:
        super().__init__(
            f"the code is too large to compile: Python makes more than {MAX_SIZE:,} nodes of it. "
            "Nest fewer functions, and fewer `finally` with `return`, `break` or `continue` in their `try`, "
            "capture fewer names in a pattern, or divide the code among steps"
        )


def check_compiles(code: str) -> ast.Module:
    """The parsed code. Raises what `compile` does, or CodeTooLarge before anything is compiled."""
    module = parse(code)
    if compiled_size(module, MAX_SIZE) > MAX_SIZE:
        raise CodeTooLarge
    try:
        compile_module(module)
    except RecursionError:
        if is_body(module):
            raise
        # before Python 3.13 a text may be nested deeper than a module
        compile(code, FILE, "exec", dont_inherit=True)
    return module


def compiled_size(module: ast.Module, limit: int) -> int:
    """In nodes that are compiled, or take as much as these; `limit` + 1 if there are more.

    This takes as long as the text is, whatever is made of it: parts are counted once, and multiplied.
    """
    parts = [_Part(None, "module")]
    waiting: list[tuple[ast.AST, _Part]] = [(module, parts[0])]
    nodes = 0
    while waiting:
        node, outer = waiting.pop()
        nodes += 1
        if nodes > limit:
            return limit + 1
        outer.size += 1
        opened = _opened(node, outer)
        parts += opened
        part = opened[-1] if opened else outer
        for field in node._fields:
            value = getattr(node, field, None)
            # a `finally` is a part beside what it guards
            belongs_to = opened[0] if field == "finalbody" and opened else part
            if isinstance(value, ast.AST):
                waiting.append((value, belongs_to))
            elif isinstance(value, list):
                waiting += ((item, belongs_to) for item in value if isinstance(item, ast.AST))
            if isinstance(value, str):
                part.names += 1
    # whatever a part waits for was opened after it
    for part in reversed(parts):
        part.add_to_outer()
    return min(parts[0].size, limit + 1)


def _opened(node: ast.AST, outer: _Part) -> list[_Part]:
    """The parts that a node is made of; its children belong to the last one."""
    if isinstance(node, _PLAIN):
        return []
    keywords: list[object] = getattr(node, "keywords", None) or getattr(node, "kwd_attrs", [])
    outer.size += len(keywords) ** 2 // 2 // _PAIRS_PER_NODE
    if isinstance(node, _EXITS):
        outer.exits += 1
    elif isinstance(node, _SCOPES):
        name = getattr(node, "name", "")
        # what a class defines its functions cannot use, but for its type parameters
        is_class = isinstance(node, ast.ClassDef) and not getattr(node, "type_params", [])
        kind: _Kind = "class" if is_class else "scope"
        return [_Part(outer, kind, characters=len(name) if isinstance(name, str) else 0)]
    elif isinstance(node, _TRIES) and node.finalbody:
        guarded = _Part(outer, "guarded")
        return [_Part(outer, "finally", guarded=guarded), guarded]
    elif isinstance(node, _WITHS):
        return [_Part(outer, "context", contexts=len(node.items))]
    elif isinstance(node, ast.ExceptHandler):
        return [_Part(outer, "context", contexts=1)]
    elif isinstance(node, ast.pattern):
        part = outer if outer.kind == "pattern" else _Part(outer, "pattern")
        part.captures += isinstance(node, _CAPTURES)
        return [] if part is outer else [part]
    elif isinstance(node, _DECLARATIONS):
        outer.size += len(node.names)
        outer.names += len(node.names)
    return []
