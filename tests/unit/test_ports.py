"""The ports are typed protocols, and mypy holds every double in the tests to them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from mypy.main import process_options

PROJECT = Path(__file__).parents[2]
LIBRARY = PROJECT / "shared" / "noetl_serverless"
TESTS = PROJECT / "tests"
PORTS = ("EventStore", "Catalog", "KeyValue", "Notifier", "Invoker", "ResultStore", "Host", "SecretStore")
# what mypy says of a class that is no port, or is handed to one as if it were
CODES = {"arg-type", "assignment", "return-value", "override", "abstract", "attr-defined", "list-item", "dict-item"}

Signatures = dict[str, tuple[str, ...]]


@cache
def trees(folder: Path) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}


@cache
def classes(folder: Path) -> list[tuple[Path, ast.ClassDef]]:
    return [
        (path, node)
        for path, tree in trees(folder).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]


def signatures(node: ast.ClassDef) -> Signatures:
    """Its methods, each with the names of its parameters."""
    return {
        each.name: tuple(given.arg for given in (*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs))
        for each in node.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def name_of(node: ast.expr) -> str | None:
    """The last word of a name, without what it is subscripted by."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return name_of(value)
    return None


def bases(node: ast.ClassDef) -> set[str]:
    return {name for base in node.bases if (name := name_of(base)) is not None}


@cache
def ports() -> dict[str, Signatures]:
    tree = trees(LIBRARY)[LIBRARY / "ports.py"]
    return {node.name: signatures(node) for node in tree.body if isinstance(node, ast.ClassDef) and node.name in PORTS}


def stands_for(own: Signatures) -> list[str]:
    """The ports that have a class with these methods, whether it says so or not."""
    return [name for name, asked in ports().items() if asked.items() <= own.items()]


@cache
def implementations() -> frozenset[str]:
    """The names of the ports, of the library's classes that stand for one, and of all that derive from them."""
    known = {*PORTS, *(node.name for _, node in classes(LIBRARY) if stands_for(signatures(node)))}
    every = [node for folder in (LIBRARY, TESTS) for _, node in classes(folder)]
    while more := {node.name for node in every if bases(node) & known} - known:
        known |= more
    return frozenset(known)


def doubles(path: Path) -> set[str]:
    """The names of implementations, as a file means them: its own classes may have the names of others."""
    others = {node.name for where, node in classes(TESTS) if where == path and not bases(node) & implementations()}
    return set(implementations() - others)


def called(node: ast.AST | None) -> str | None:
    """The name of what is called, if it is a call."""
    return name_of(node.func) if isinstance(node, ast.Call) else None


def is_any(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def hidden(tree: ast.Module, names: set[str], ignored: set[int]) -> Iterator[int]:
    """The lines where what is called by one of the names becomes Any, is cast, or is not checked."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and is_any(node.annotation) and called(node.value) in names:
            yield node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_any(node.returns):
            given = (each.value for each in ast.walk(node) if isinstance(each, ast.Return | ast.Yield))
            if any(called(value) in names for value in given):
                yield node.lineno
        if called(node) == "cast" and isinstance(node, ast.Call) and any(called(value) in names for value in node.args):
            yield node.lineno
        if called(node) in names and isinstance(node, ast.Call) and node.lineno in ignored:
            yield node.lineno


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(PROJECT).as_posix()}:{line}"


def test_the_ports_are_protocols() -> None:
    found = {
        node.name: bases(node) for node in trees(LIBRARY)[LIBRARY / "ports.py"].body if isinstance(node, ast.ClassDef)
    }
    assert {name: found[name] for name in PORTS} == {name: {"Protocol"} for name in PORTS}


def test_mypy_checks_each_file_of_the_tests_as_it_checks_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    sources, options = process_options([])
    checked = {Path(source.path).resolve(): source.module for source in sources if source.path}
    assert [str(path) for path in (*trees(TESTS), *trees(LIBRARY)) if path not in checked] == []
    for path in trees(TESTS):
        here = options.clone_for_module(checked[path])
        assert not here.ignore_errors and here.follow_imports == "normal", path
        assert here.strict_optional and here.check_untyped_defs and here.disallow_untyped_defs, path
        assert not CODES & {code.code for code in here.disabled_error_codes}, path
        assert not [line for line in path.read_text().splitlines() if line.startswith(("# mypy:", "# type: ignore"))], (
            path
        )


def test_a_double_says_which_port_it_stands_for() -> None:
    found = [
        f"{place(path, node.lineno)}: {node.name} has the methods of {', '.join(names)}"
        for path, node in classes(TESTS)
        if node.name not in implementations() and (names := stands_for(signatures(node)))
    ]
    assert found == [], "mypy compares a class with a port where one is handed to the other, or derives from it"


def test_no_double_is_hidden_from_mypy() -> None:
    found = []
    for path, tree in trees(TESTS).items():
        lines = path.read_text().splitlines()
        ignored = {number for number, line in enumerate(lines, 1) if "# type: ignore" in line}
        found += [f"{place(path, line)}: {lines[line - 1].strip()}" for line in hidden(tree, doubles(path), ignored)]
    assert found == []
