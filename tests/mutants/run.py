"""One run: the faults, the tests that cover them, a verdict on each."""

from __future__ import annotations

import ast
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from .changed_lines import changed_lines
from .covering import Covering, share
from .generate import Fault, Source, sample
from .judge import EQUIVALENT, Verdict, judge, judge_planted
from .kinds import kind_of
from .report import Report
from .tables import equivalents, key_of, planted
from .tree import Layout, Tree

Say = Callable[[str], None]


class UnknownPackage(ValueError):
    """The message names the packages that there are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. No packages: all of them. `generated` of each, at most; `base`: only lines changed since."""

    packages: tuple[str, ...] = ()
    generated: int = 200
    planted: bool = True
    seed: int = 1
    base: str | None = None
    jobs: int = 2
    # seconds of tests for one fault
    budget: float = 90.0
    # seconds that a test may take beyond a multiple of what it took
    patience: float = 10.0
    tests: tuple[str, ...] = ("tests/unit", "tests/integration", "tests/hostile", "tests/simulation")


def run(layout: Layout, wanted: Wanted, build: Path, command: str, say: Say) -> Report:
    """Raises UnknownPackage."""
    report = Report(command, datetime.now(UTC).isoformat(timespec="seconds"), jobs=wanted.jobs)
    report.simulated = simulated(layout)
    alike, wrong = equivalents(layout)
    report.errors += wrong
    table, wrong = planted(layout)
    report.errors += wrong
    check_packages(layout, wanted, table)
    lines = changed_lines(layout, wanted.base) if wanted.base else None
    chosen = generated(layout, wanted, lines)
    table = [fault for fault in table if wanted.planted and selected(layout, wanted, lines, fault)]
    reasons = {one.key: one.reason for one in alike}
    for fault in chosen:
        if reason := reasons.get(key_of(fault)):
            report.add(package_of(layout, fault.file), Verdict(fault, EQUIVALENT, reason))
    chosen = [fault for fault in chosen if key_of(fault) not in reasons]
    say(f"{len(chosen)} generated faults, {len(table)} of the table")
    began = time.monotonic()
    left = {id(fault) for fault in (*chosen, *table)}
    try:
        with trees(layout, wanted.jobs) as copies:
            covering = Covering(layout, build / "coverage")
            if chosen:
                sources = sorted({fault.file for fault in chosen})
                folders = sorted({str(Path(layout.package) / package_of(layout, name)) for name in sources})
                test_files = covering.test_files(wanted.tests)
                covering.gather(copies, covering.stale(test_files, [*folders, *sources]), say)
                covering.load(test_files, sources)
                if covering.broken:
                    names = ", ".join(covering.broken)
                    say(f"{len(covering.broken)} tests fail without a fault and are left out: {names}")
            began = time.monotonic()

            def one(tree: Tree, fault: Fault) -> None:
                if fault.name:
                    verdict = judge_planted(tree, fault)
                else:
                    verdict = judge(tree, fault, covering.of(fault), wanted.budget, wanted.patience)
                report.add(package_of(layout, fault.file), verdict)
                left.discard(id(fault))
                what = fault.name or fault.mutated[:60]
                say(f"{verdict.status:9} {verdict.seconds:5.1f} s  {fault.place} {what!r}  {verdict.by}")

            # mixed, so that a run that is broken off tells of every package
            random.Random(wanted.seed).shuffle(chosen)
            share(copies, [*table, *chosen], one)
    except KeyboardInterrupt:
        say("broken off")
    report.seconds = time.monotonic() - began
    report.unfinished = len(left)
    report.verdicts.sort(key=lambda pair: (pair[0], pair[1].fault.file, pair[1].fault.first, pair[1].fault.mutated))
    return report


def check_planted(layout: Layout, wanted: Wanted, tests: Sequence[str]) -> list[str]:
    """The tests of the table that fail although nothing is planted."""
    failing: list[str] = []

    def one(tree: Tree, test: str) -> None:
        if tree.run([test], limit=120.0).exit != 0:
            failing.append(test)

    with trees(layout, wanted.jobs) as copies:
        share(copies, sorted(set(tests)), one)
    return sorted(failing)


def check_packages(layout: Layout, wanted: Wanted, table: Sequence[Fault]) -> None:
    known = {*packages(layout), *(package_of(layout, fault.file) for fault in table)}
    if unknown := sorted(set(wanted.packages) - known):
        raise UnknownPackage(f"no such package: {', '.join(unknown)}; there are {', '.join(sorted(known))}")


def generated(layout: Layout, wanted: Wanted, lines: dict[str, set[int]] | None) -> list[Fault]:
    chosen: list[Fault] = []
    for package, files in packages(layout).items():
        if not wanted.generated or (wanted.packages and package not in wanted.packages):
            continue
        if lines is not None:
            files = [file for file in files if file in lines]
        sources = [Source(file, (layout.root / file).read_text()) for file in files]
        chosen += sample(sources, wanted.generated, f"{wanted.seed}:{package}", lines)
    return [replace(fault, kind=kind_of(fault.original, fault.mutated, fault.function, fault.file)) for fault in chosen]


def packages(layout: Layout) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in layout.files():
        if name.startswith(layout.package + "/") and name.endswith(".py"):
            found.setdefault(package_of(layout, name), []).append(name)
    return found


def package_of(layout: Layout, file: str) -> str:
    """Below the package its first folder or module, elsewhere the first folder."""
    return file.removeprefix(layout.package + "/").partition("/")[0].removesuffix(".py")


def selected(layout: Layout, wanted: Wanted, lines: dict[str, set[int]] | None, fault: Fault) -> bool:
    if wanted.packages and package_of(layout, fault.file) not in wanted.packages:
        return False
    return lines is None or bool(lines.get(fault.file, set()) & set(range(fault.first, fault.last + 1)))


def simulated(layout: Layout) -> list[str]:
    """The names in the simulation's own table."""
    path = layout.root / "tests/simulation/mutants.py"
    if not path.is_file():
        return []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MUTANTS":
            return [
                name.id
                for name in ast.walk(node)
                if isinstance(name, ast.Name) and name.id.islower() and "_" in name.id
            ]
    return []


@contextmanager
def trees(layout: Layout, jobs: int) -> Iterator[list[Tree]]:
    """Copies in a folder of the system's, whose path is short enough for sockets and open to servers without root."""
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    folder.chmod(0o711)
    copies: list[Tree] = []
    try:
        for number in range(jobs):
            copies.append(Tree(layout, folder / str(number)))
        yield copies
    finally:
        for tree in copies:
            tree.stop()
        shutil.rmtree(folder, ignore_errors=True)
