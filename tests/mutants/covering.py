"""Which tests run which lines: gathered once for each test file, and kept while it and the sources are unchanged.

What is not seen: lines that run only in a process that is killed, that a server forks ahead, or that gets an
environment of its own; and SQL and HCL, for which the table of planted faults names its tests.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .generate import Fault
from .tree import Layout, Outcome, Tree

Item = TypeVar("Item")

# seconds for one test while its lines are gathered
LIMIT = 180.0

# what the first, the second and the last run of tests for one fault may take
STAGES = (3.0, 25.0)

SETTINGS = """[run]
data_file = {data}
parallel = true
source = {source}
context = ${{MUTANTS_TEST-}}
sigterm = true
disable_warnings = no-data-collected, module-not-measured, module-not-imported, couldnt-parse
"""


@dataclass(frozen=True, slots=True)
class Test:
    id: str
    seconds: float

    @property
    def file(self) -> str:
        return self.id.partition("::")[0]


class Covering:
    """The records of all test files, as far as they tell about some files of the product."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._folder = folder
        # file -> line -> the tests that run it
        self._tests: dict[str, dict[int, set[Test]]] = {}
        # file -> the lines that run outside of all tests, and the tests of those files that run them so
        self._imported: dict[str, set[int]] = {}
        self._importers: dict[str, set[Test]] = {}
        self._files = layout.files()
        self._digests: dict[str, str] = {}
        self.broken: list[str] = []

    def test_files(self, under: Sequence[str]) -> list[str]:
        return [
            name
            for name in self._files
            if Path(name).name.startswith("test_") and name.endswith(".py") and any(_below(name, one) for one in under)
        ]

    def stale(self, test_files: Iterable[str], sources: Sequence[str]) -> list[str]:
        return [name for name in test_files if not self._fresh(name, sources)]

    def gather(self, trees: Sequence[Tree], test_files: Sequence[str], say: Callable[[str], None]) -> None:
        done = iter(range(1, len(test_files) + 1))

        def one(tree: Tree, name: str) -> None:
            outcome = self._gather(tree, name)
            failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
            late = f", {outcome.late} took too long" if outcome.late else ""
            ended = f"{len(outcome.tests)} tests in {outcome.seconds:.0f} s{failed}{late}"
            say(f"lines of {name}: {ended}, {next(done)} of {len(test_files)}")

        share(trees, test_files, one)

    def load(self, test_files: Iterable[str], sources: Iterable[str]) -> None:
        wanted = set(sources)
        self._tests = {name: defaultdict(set) for name in wanted}
        self._imported = {name: set() for name in wanted}
        self._importers = {name: set() for name in wanted}
        self.broken = []
        for name in test_files:
            record = self._record(name)
            if record is None:
                continue
            self.broken += [id for id, (outcome, _) in record["tests"].items() if outcome == "failed"]
            tests = {
                number: Test(id, seconds)
                for number, (id, (outcome, seconds)) in enumerate(record["tests"].items())
                if outcome == "passed"
            }
            for file in wanted & record["lines"].keys():
                lines = self._tests[file]
                for line, numbers in record["lines"][file].items():
                    lines[int(line)].update(tests[number] for number in numbers if number in tests)
                    if -1 in numbers:
                        self._imported[file].add(int(line))
                self._importers[file].update(tests.values())

    def of(self, fault: Fault) -> list[Test]:
        """The tests that run the fault, the promising and quick ones first.

        A line that runs on import belongs to no test, or to those that happened to import it first: behind them come
        those that run other lines of the file, and the tests of the files that import it.
        """
        lines, span = self._tests.get(fault.file, {}), range(fault.first, fault.last + 1)
        direct: set[Test] = set().union(*(lines.get(line, set()) for line in span))
        if self._imported.get(fault.file, set()).intersection(span):
            near: set[Test] = direct.union(*lines.values())
            tiers = (direct, near - direct, self._importers[fault.file] - near)
            return [test for tier in tiers for test in self._ranked(fault, tier)]
        return self._ranked(fault, direct)

    def _ranked(self, fault: Fault, tests: set[Test]) -> list[Test]:
        return sorted(tests, key=lambda test: self._rank(fault, test))

    def _rank(self, fault: Fault, test: Test) -> tuple[float, str]:
        package = fault.file.removeprefix(self._layout.package + "/").partition("/")[0]
        beside = f"/{package}/" in test.id or f"/test_{Path(fault.file).stem}" in test.id
        return (test.seconds if beside else 0.2 + 3 * test.seconds, test.id)

    def _gather(self, tree: Tree, name: str) -> Outcome:
        tree.temporary.mkdir(mode=0o711, exist_ok=True)
        place = tree.temporary / "coverage"
        (place / "data").mkdir(parents=True)
        place.chmod(0o755)
        (place / "data").chmod(0o777)
        settings = place / "settings"
        source = tree.root / self._layout.package
        settings.write_text(SETTINGS.format(data=place / "data" / "lines", source=source))
        out = tree.temporary.with_name("lines.json")
        out.unlink(missing_ok=True)
        where = {
            "config": str(settings),
            "data": str(place / "data" / "lines"),
            "source": str(tree.root),
            "out": str(out),
        }
        outcome = tree.run([name], gather=where, limit=LIMIT)
        lines = json.loads(out.read_text()) if out.is_file() else {}
        # by number: the names would make up most of the record. -1 is what runs outside of all tests
        numbers = {id: number for number, id in enumerate(outcome.tests)}
        record = {
            "test": self._test_digest(name),
            "sources": {file: self._digest(file) for file, of in lines.items() if of},
            "tests": {id: (test["outcome"], test["seconds"]) for id, test in outcome.tests.items()},
            "lines": {
                file: {line: [numbers.get(id, -1) for id in ids] for line, ids in of.items()}
                for file, of in lines.items()
                if of
            },
        }
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        return outcome

    def _path(self, test_file: str) -> Path:
        return self._folder / (test_file.replace("/", "__") + ".json")

    def _record(self, test_file: str) -> dict | None:  # type: ignore[type-arg]
        try:
            return json.loads(self._path(test_file).read_text())  # type: ignore[no-any-return]
        except FileNotFoundError:
            return None

    def _fresh(self, test_file: str, sources: Sequence[str]) -> bool:
        record = self._record(test_file)
        if record is None or record["test"] != self._test_digest(test_file):
            return False
        return all(
            self._digest(file) == digest
            for file, digest in record["sources"].items()
            if any(_below(file, one) for one in sources)
        )

    def _test_digest(self, test_file: str) -> str:
        """Of the file and of what may stand behind it: the conftest files above, and modules beside it that are no
        tests themselves."""
        home = Path(test_file).parent
        behind = [test_file]
        for name in self._files:
            path = Path(name)
            above = path.name == "conftest.py" and path.parent in Path(test_file).parents
            beside = path.parent == home and path.suffix == ".py" and not path.name.startswith("test_")
            if above or beside:
                behind.append(name)
        return hashlib.sha256("".join(self._digest(name) for name in behind).encode()).hexdigest()

    def _digest(self, file: str) -> str:
        if file not in self._digests:
            self._digests[file] = hashlib.sha256((self._layout.root / file).read_bytes()).hexdigest()
        return self._digests[file]


def stages(tests: Sequence[Test], budget: float) -> Iterator[list[Test]]:
    """A short run, a longer one, and one for what is left within the budget: most faults are noticed by the first,
    which then need not import all test files."""
    spent = 0.0
    stage: list[Test] = []
    limits = [*STAGES, budget]
    for test in tests:
        if stage and spent + test.seconds > budget:
            continue
        while spent + test.seconds > limits[0] and len(limits) > 1:
            limits.pop(0)
            if stage:
                yield stage
            stage = []
        spent += test.seconds
        stage.append(test)
    if stage:
        yield stage


def share(trees: Sequence[Tree], items: Iterable[Item], work: Callable[[Tree, Item], None]) -> None:
    """Each tree takes the next item as soon as it is free. The first exception ends it all."""
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    wrong: list[BaseException] = []

    def take(tree: Tree) -> None:
        try:
            while not wrong:
                work(tree, waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=take, args=(tree,), daemon=True) for tree in trees]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as error:
        wrong.append(error)
    if wrong:
        raise wrong[0]


def _below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(folder.rstrip("/") + "/")
