"""Rules of the tree that no linter knows: no circle between files, no banned word, no file for its own sake."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from vulture import Vulture

from noetl_serverless.packaging.closure import imports_of

# a module of fewer lines that only one other imports belongs into that one
MIN_LINES = 30
# arguments of a record that may go by position
MAX_POSITIONAL = 4
# where exceptions are listed
RULES = "tests/structure/rules.toml"
_PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """`place` is a path below the package's parent, with a line where there is one."""

    rule: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}: {self.message}"


class Module:
    def __init__(self, path: Path, parent: Path) -> None:
        self.path = path
        self.place = path.relative_to(parent).as_posix()
        parts = path.relative_to(parent).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.text = path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def imports(self, known: Mapping[str, Module]) -> set[str]:
        """The modules of the package that it imports, also those that it imports late or for types alone."""
        imports = imports_of(self.tree, self.name, self.is_package, lazily=True, for_types=True)
        found = {f"{name}.{member}" if f"{name}.{member}" in known else name for name, member in imports}
        return {name for name in found if name in known and name != self.name}

    def identifiers(self) -> Iterator[tuple[str, int]]:
        """Its own name, and each name in it, with the line."""
        yield (self.path.parent if self.is_package else self.path).stem, 1
        for node in ast.walk(self.tree):
            line = getattr(node, "lineno", 1)
            for field in ("id", "attr", "name", "arg", "asname", "kwarg", "rest"):
                if isinstance(name := getattr(node, field, None), str):
                    yield name, line
            if isinstance(node, ast.Global | ast.Nonlocal):
                yield from ((name, line) for name in node.names)

    def records(self) -> Iterator[str]:
        """Its dataclasses and named tuples, by name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef) and any(
                "dataclass" in ast.unparse(each) or "NamedTuple" in ast.unparse(each)
                for each in (*node.decorator_list, *node.bases)
            ):
                yield node.name

    def long_calls(self) -> Iterator[tuple[str, int]]:
        """The name and line of each call with more than MAX_POSITIONAL positional arguments. `cls` is the class that
        it stands in."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef):
                yield from ((node.name, line) for name, line in _long_calls(node) if name == "cls")
        yield from _long_calls(self.tree)


def _long_calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > MAX_POSITIONAL:
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name, node.lineno


class TextFile:
    """A file of SQL or Terraform: its identifiers are the words outside comments and strings."""

    _IGNORED = re.compile(r"--[^\n]*|#[^\n]*|//[^\n]*|'[^'\n]*'|\"(?:[^\"\\\n]|\\.)*\"")
    _NAMES = re.compile(r"[A-Za-z_]\w*")

    def __init__(self, path: Path, parent: Path) -> None:
        self.place = path.relative_to(parent).as_posix()
        self._text = path.read_text()

    def identifiers(self) -> Iterator[tuple[str, int]]:
        """Each name, with the line; a quoted label of a Terraform block is a name, too."""
        for number, line in enumerate(self._text.splitlines(), 1):
            labels = re.findall(r'"([\w-]+)"', line) if line.rstrip().endswith("{") else []
            for name in (*labels, *self._NAMES.findall(self._IGNORED.sub("", line))):
                yield name, number


def text_files(folder: Path, parent: Path, *suffixes: str) -> dict[str, TextFile]:
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in suffixes and ".terraform" not in path.parts]
    return {path.as_posix(): TextFile(path, parent) for path in found}


def modules_of(package: Path) -> dict[str, Module]:
    modules = (Module(path, package.parent) for path in sorted(package.rglob("*.py")))
    return {module.name: module for module in modules}


def circles(modules: Mapping[str, Module]) -> Iterator[Finding]:
    """The first circle of imports, if there is one."""
    graph = {name: module.imports(modules) for name, module in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        yield Finding("circle", modules[circle[0]].place, " -> ".join(reversed(circle)))


def banned_words(
    modules: Mapping[str, Module | TextFile], words: Mapping[str, str], exempt: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """Identifiers that hold a word that has a standard term; `words`: the word -> what to call it instead. `exempt`:
    the folder whose names may hold them -> why."""
    needed = set()
    for module in modules.values():
        folder = next((folder for folder in exempt or () if module.place.startswith(f"{folder}/")), None)
        seen = set()
        for name, line in module.identifiers():
            for piece in _PIECES.findall(name):
                word = next((form for form in _forms(piece.lower()) if form in words), None)
                if word is None or name in seen:
                    continue
                seen.add(name)
                if folder is None:
                    yield Finding("word", f"{module.place}:{line}", f"{name!r}: not {word!r}, but {words[word]}")
                needed.add(folder)
    for folder in exempt or ():
        if folder not in needed:
            yield Finding("word", folder, "has a reason in rules.toml, and needs none")


def _forms(word: str) -> Iterator[str]:
    """The word, and what it may be a form of."""
    yield word
    for ending, instead in (("ies", "y"), ("s", ""), ("es", ""), ("ed", ""), ("ied", "y"), ("ing", ""), ("ing", "e")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + instead


def fragments(modules: Mapping[str, Module], reasons: Mapping[str, str]) -> Iterator[Finding]:
    """Short modules with one importer, and reasons for what is none (any more). `reasons`: by the place of a module, or
    a pattern of places."""
    importers: dict[str, list[str]] = {name: [] for name in modules}
    for name, module in modules.items():
        for imported in module.imports(modules):
            importers[imported].append(name)
    short = {
        module.place: importers[name][0]
        for name, module in modules.items()
        if not module.is_package and len(importers[name]) == 1 and len(module.text.splitlines()) < MIN_LINES
    }
    for place, importer in short.items():
        if not any(fnmatch(place, pattern) for pattern in reasons):
            message = f"under {MIN_LINES} lines, only {importer} imports it: put it there, or say why not in {RULES}"
            yield Finding("fragment", place, message)
    for pattern in reasons:
        if not any(fnmatch(place, pattern) for place in short):
            yield Finding("fragment", pattern, f"has a reason in {RULES}, and needs none")


def banned_attributes(
    modules: Mapping[str, Module], attributes: Mapping[str, str], exempt: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    """Reads of an attribute that the library has its own way for; `attributes`: the attribute -> what to use instead.
    `exempt`: the attribute -> the module that may read it -> why."""
    for attribute, instead in attributes.items():
        allowed = exempt.get(attribute, {})
        reads = {
            module.place: node.lineno
            for module in modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and node.attr == attribute
        }
        for place, line in reads.items():
            if place not in allowed:
                yield Finding("attribute", f"{place}:{line}", f".{attribute}: {instead}")
        for place in allowed.keys() - reads.keys():
            yield Finding("attribute", place, f"has a reason in {RULES} for .{attribute}, and needs none")


def dead_names(
    paths: Sequence[Path], parent: Path, reached: Mapping[str, str], wire: str, entry_points: Sequence[str] = ()
) -> Iterator[Finding]:
    """Names below `paths` that nothing there uses. `reached`: the name -> who uses it all the same. Fields of models
    below the folder `wire` are read by whoever reads an answer, and `entry_points` by whoever loads them."""
    vulture = Vulture(ignore_names=list(entry_points))
    with contextlib.redirect_stdout(io.StringIO()):
        vulture.scavenge([str(path) for path in paths])
    unused = [
        (item.filename.relative_to(parent).as_posix(), item)
        for item in vulture.get_unused_code(min_confidence=60)
        if not item.filename.is_relative_to(parent / wire)
    ]
    for place, item in unused:
        if item.name not in reached:
            message = f"nothing uses the {item.typ} {item.name!r}: delete it, or say who does in {RULES}"
            yield Finding("dead", f"{place}:{item.first_lineno}", message)
    for name in reached.keys() - {item.name for _, item in unused}:
        yield Finding("dead", RULES, f"{name!r} has a reason, and needs none")


def positional_calls(modules: Mapping[str, Module]) -> Iterator[Finding]:
    """Records that are made of many values whose names one does not see."""
    records = {name for module in modules.values() for name in module.records()}
    for module in modules.values():
        for name, line in module.long_calls():
            if name in records:
                message = f"{name} is given more than {MAX_POSITIONAL} values by position: name them"
                yield Finding("positional", f"{module.place}:{line}", message)
