"""Templates in Python code, which is run as it is written."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import Final

_TEMPLATE: Final = re.compile(r"\{\{[-+]?\s*([A-Za-z_]\w*)[^{}]*\}\}")
# set comprehensions and literals of them: `{{ x }}` is a set of a set, which Python cannot make
_SETS: Final = (ast.Set, ast.SetComp, ast.Dict)


def templates_in_code(code: str, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """(line from 1, template) of what is a template by `names`, those that templates can read, or that can be nothing
    else in Python. Nothing for code that does not compile."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return
    formatted = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Set(elts=[inner]) if isinstance(inner, _SETS):
                yield node.lineno, ast.get_source_segment(code, node) or "{{ ... }}"
            case ast.Constant(value=str(text)) if id(node) not in formatted:
                for found in _TEMPLATE.finditer(text):
                    if found[1] in names:
                        yield node.lineno, found[0]
