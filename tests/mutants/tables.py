"""The two tables that are kept by hand: faults to plant, and faults that change nothing.

A line of either that no longer fits the code is an error, so that the tables follow the code when it moves.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .generate import Fault, Source, changed
from .kinds import KINDS
from .tree import Layout

PLANTED = "tests/mutants/planted.toml"
EQUIVALENT = "tests/mutants/equivalent.toml"


class TableError(Exception):
    """A table and the code do not fit."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    file: str
    function: str
    original: str
    mutated: str
    reason: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.file, self.function, self.original, self.mutated


def planted(layout: Layout, table: str = PLANTED) -> tuple[list[Fault], list[str]]:
    """The faults that can be planted, and what is wrong with the others."""
    entries = _entries(layout.root / table, "fault")
    faults, errors = [], []
    twice = {name for name, times in Counter(entry.get("name") for entry in entries).items() if times > 1}
    for number, entry in enumerate(entries, 1):
        try:
            faults.append(_planted(layout, entry, number))
        except TableError as error:
            errors.append(f"{table}: {error}")
    return faults, errors + [f"{table}: the name {name!r} is given twice" for name in sorted(map(str, twice))]


def _planted(layout: Layout, entry: dict[str, Any], number: int) -> Fault:
    title = f"fault {number}, {entry.get('name', 'without a name')!r}"
    for key, kind in {"name": str, "kind": str, "file": str, "find": str, "replace": str, "tests": list}.items():
        if not isinstance(entry.get(key), kind) or (key != "replace" and not entry[key]):
            raise TableError(f"{title}: {key!r} is missing, empty or no {kind.__name__}")
    if entry["kind"] not in KINDS:
        raise TableError(f"{title}: kind {entry['kind']!r} is none of {', '.join(sorted(KINDS))}")
    path = layout.root / entry["file"]
    if not path.is_file():
        raise TableError(f"{title}: there is no file {entry['file']}")
    text = path.read_text()
    if (times := text.count(entry["find"])) != 1:
        raise TableError(f"{title}: what is to be found occurs {times} times in {entry['file']}, not once")
    for test in entry["tests"]:
        if not (layout.root / test.partition("::")[0]).exists():
            raise TableError(f"{title}: there is no test {test}")
    after = text.replace(entry["find"], entry["replace"])
    original, mutated = changed(text, after)
    first = text[: text.index(entry["find"])].count("\n") + 1
    last = first + entry["find"].count("\n")
    if path.suffix == ".py":
        try:
            compile(after, entry["file"], "exec")
        except SyntaxError as error:
            raise TableError(f"{title}: what is planted does not compile: {error}") from error
    return Fault(
        entry["file"], "", first, last, original, mutated, after, entry["name"], entry["kind"], tuple(entry["tests"])
    )


def equivalents(layout: Layout, table: str = EQUIVALENT) -> tuple[list[Equivalent], list[str]]:
    found, errors = [], []
    for number, entry in enumerate(_entries(layout.root / table, "equivalent"), 1):
        title = f"{table}: equivalent {number}, in {entry.get('file')}"
        keys = ("file", "function", "original", "mutated", "reason")
        if missing := [key for key in keys if not isinstance(entry.get(key), str)]:
            errors.append(f"{title}: {', '.join(missing)} is missing")
            continue
        if not entry["reason"].strip():
            errors.append(f"{title}: it gives no reason")
            continue
        one = Equivalent(*(entry[key].strip("\n") for key in keys))
        path = layout.root / one.file
        if not path.is_file() or one.key not in _keys(Source(one.file, path.read_text()), one):
            errors.append(f"{title}: no fault like it can be generated in {one.function or 'the module'} any more")
            continue
        found.append(one)
    return found, errors


def _keys(source: Source, one: Equivalent) -> Iterator[tuple[str, str, str, str]]:
    """Of the faults in the statements that have the lines which it changes: to generate one takes long."""
    lines = [line.strip() for line in source.text.splitlines()]
    wanted = set(one.original.splitlines())
    for spot in source.spots:
        if spot.function == one.function and wanted <= set(lines[spot.first - 1 : spot.last]):
            for other in spot.others:
                if fault := source.fault(spot, other):
                    yield key_of(fault)


def key_of(fault: Fault) -> tuple[str, str, str, str]:
    return fault.file, fault.function, fault.original, fault.mutated


def _entries(path: Path, name: str) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return list(tomllib.loads(path.read_text()).get(name, []))
