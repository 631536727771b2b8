"""The faults that can be generated for a Python file, and a sample of them."""

from __future__ import annotations

import difflib
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

from .operators import replacements

# what is only said, or only read by the type checker
_LOG = m.Call(func=m.Attribute(value=m.Name(m.MatchRegex("_?log(ger)?")), attr=m.DoNotCare()))
_TYPING = m.Call(func=m.Name("cast") | m.Name("TypeVar") | m.Name("NewType") | m.Name("getLogger") | m.Name("field"))
_TYPE_CHECKING = m.If(test=m.Name("TYPE_CHECKING"))
_DUNDER_ALL = m.Assign(targets=[m.AssignTarget(target=m.Name("__all__"))])
_ALIAS = m.Assign(
    value=m.Subscript(value=m.Name(m.MatchRegex("dict|list|tuple|type|Callable|Literal|Annotated")))
    | m.Call(func=m.Attribute(attr=m.Name("getLogger")) | m.Name("TypeVar"))
)
_SILENT = {"__repr__", "__str__"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One change of one file. `first` and `last` are the lines of the statement (or the head of the block) that
    is changed."""

    file: str
    function: str
    first: int
    last: int
    original: str
    mutated: str
    text: str
    name: str = ""
    kind: str = ""
    tests: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.file}:{self.first}"

    def diff(self, before: str) -> str:
        lines = difflib.unified_diff(before.splitlines(), self.text.splitlines(), lineterm="", n=1)
        return "\n".join(list(lines)[2:])


@dataclass(frozen=True, slots=True)
class Spot:
    """A node that can be changed, and how."""

    node: cst.CSTNode
    others: tuple[cst.CSTNode, ...]
    function: str
    first: int
    last: int


class Source:
    """A Python file, and the spots where a fault could be planted."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self.module = wrapper.module
        finder = _Finder()
        wrapper.visit(finder)
        self.spots = finder.spots

    def fault(self, spot: Spot, other: cst.CSTNode) -> Fault | None:
        """None where the change yields the same text, or none that compiles."""
        changed_module = self.module.deep_replace(spot.node, other)
        assert isinstance(changed_module, cst.Module)
        text = changed_module.code
        original, mutated = changed(self.text, text)
        if original == mutated:
            return None
        try:
            compile(text, self.file, "exec")
        except SyntaxError:
            return None
        return Fault(self.file, spot.function, spot.first, spot.last, original, mutated, text)

    def faults(self) -> Iterator[Fault]:
        for spot in self.spots:
            for other in spot.others:
                if fault := self.fault(spot, other):
                    yield fault


def sample(sources: Iterable[Source], size: int, seed: str, lines: dict[str, set[int]] | None = None) -> list[Fault]:
    """At most one fault for a statement, as long as there are statements left: else the strings of one table would
    make up half the sample. With `lines`, only what stands on them."""
    chance = random.Random(seed)
    statements: defaultdict[tuple[str, int], list[tuple[Source, Spot, cst.CSTNode]]] = defaultdict(list)
    for source in sources:
        for spot in source.spots:
            if lines is None or lines.get(source.file, set()) & set(range(spot.first, spot.last + 1)):
                statements[source.file, spot.first] += [(source, spot, other) for other in spot.others]
    rounds = [statements[key] for key in sorted(statements)]
    for changes in rounds:
        chance.shuffle(changes)
    chosen: list[Fault] = []
    while rounds and len(chosen) < size:
        chance.shuffle(rounds)
        for changes in rounds:
            if len(chosen) == size:
                break
            if fault := _first(changes):
                chosen.append(fault)
        rounds = [changes for changes in rounds if changes]
    return sorted(chosen, key=lambda fault: (fault.file, fault.first, fault.mutated))


def _first(changes: list[tuple[Source, Spot, cst.CSTNode]]) -> Fault | None:
    while changes:
        source, spot, other = changes.pop()
        if fault := source.fault(spot, other):
            return fault
    return None


def changed(before: str, after: str) -> tuple[str, str]:
    """The lines that were taken out and those that were put in, without their indentation."""
    removed, added = [], []
    for line in difflib.ndiff(before.splitlines(), after.splitlines()):
        if line.startswith("- "):
            removed.append(line[2:].strip())
        elif line.startswith("+ "):
            added.append(line[2:].strip())
    return "\n".join(removed), "\n".join(added)


_STATEMENTS = (cst.SimpleStatementLine, cst.BaseCompoundStatement, cst.ExceptHandler, cst.MatchCase)


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        self.spots: list[Spot] = []
        self._names: list[cst.ClassDef | cst.FunctionDef] = []
        self._statements: list[tuple[cst.CSTNode, tuple[int, int]]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _said_only(node):
            return False
        if isinstance(node, _STATEMENTS):
            self._statements.append((node, self._span(node)))
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._names.append(node)
        if others := tuple(replacements(node)):
            function = ".".join(one.name.value for one in self._names)
            self.spots.append(Spot(node, others, function, *self._statements[-1][1]))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._statements and self._statements[-1][0] is original_node:
            self._statements.pop()
        if self._names and self._names[-1] is original_node:
            self._names.pop()

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        """A simple statement's lines, or the lines of a block's head."""
        whole = self.get_metadata(PositionProvider, node)
        if isinstance(node, cst.SimpleStatementLine):
            return whole.start.line, whole.end.line
        if isinstance(node, cst.Match):
            return whole.start.line, whole.start.line
        body = self.get_metadata(PositionProvider, node.body)  # type: ignore[attr-defined]
        return whole.start.line, max(whole.start.line, body.start.line - 1)


def _said_only(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom | cst.Assert | cst.TypeAlias):
        return True
    if isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString):
        return True
    if isinstance(node, cst.FunctionDef) and node.name.value in _SILENT:
        return True
    return m.matches(node, _LOG | m.Expr(value=_LOG) | _TYPING | _TYPE_CHECKING | _DUNDER_ALL | _ALIAS)
