"""Finds what a function's code can import, lazy imports included, in the source and without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "noetl_serverless"


@dataclass(slots=True)
class Closure:
    # of our own package, by dotted name
    modules: set[str] = field(default_factory=set)
    # top-level names of all other imports
    others: set[str] = field(default_factory=set)


class Importer:
    """Follows imports below `root`, the folder that holds our package; never into `excluded` subpackages."""

    def __init__(self, root: Path, excluded: Sequence[str]) -> None:
        self._root = root
        self._excluded = tuple(excluded)

    def of_script(self, text: str) -> Closure:
        found = Closure()
        return self._follow(self._ours(imports_of(ast.parse(text), "", False, lazily=True), found), found, lazily=True)

    def of_modules(self, modules: Sequence[str], *, lazily: bool) -> Closure:
        """Without `lazily`: what loading the modules imports, but not what calling their functions may import later."""
        return self._follow([*modules], Closure(), lazily=lazily)

    def _follow(self, waiting: list[str], found: Closure, *, lazily: bool) -> Closure:
        while waiting:
            module = waiting.pop()
            if module in found.modules or self._is_excluded(module):
                continue
            path = self.path(module)
            if path is None:
                continue
            found.modules.add(module)
            # importing a submodule also imports its parent packages
            waiting.extend(_parents(module))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imports = imports_of(tree, module, path.name == "__init__.py", lazily=lazily)
            waiting.extend(self._ours(imports, found))
        return found

    def path(self, module: str) -> Path | None:
        """The file of a module or package of ours."""
        base = self._root.joinpath(*module.split("."))
        return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)

    def _ours(self, imports: Iterator[tuple[str, str]], found: Closure) -> list[str]:
        ours = []
        for name, member in imports:
            top = name.partition(".")[0]
            if top == PACKAGE:
                # for `from a import b` both a and a.b, since b may be a module
                ours += [name, f"{name}.{member}"] if member else [name]
            else:
                found.others.add(top)
        return ours

    def _is_excluded(self, module: str) -> bool:
        return any(module == excluded or module.startswith(f"{excluded}.") for excluded in self._excluded)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def imports_of(
    tree: ast.Module, module: str, is_package: bool, *, lazily: bool, for_types: bool = False
) -> Iterator[tuple[str, str]]:
    """("a", "b") for `from a import b`, and ("a", "") for `import a`, with `a` dotted and absolute; `for_types` adds
    those that only a type checker sees."""
    package = module if is_package else module.rpartition(".")[0]
    for node in _nodes(tree, lazily, for_types):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from ((base, alias.name) for alias in node.names)


def _nodes(tree: ast.AST, lazily: bool, for_types: bool) -> Iterator[ast.AST]:
    """Every node; without `for_types`, none that only a type checker sees; without `lazily`, only those that run on
    import."""
    for child in ast.iter_child_nodes(tree):
        if not lazily and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not for_types and isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from _nodes(other, lazily, for_types)
            continue
        yield child
        yield from _nodes(child, lazily, for_types)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
