"""The whole of it on a toy: what is noticed, what survives, and that nothing is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .report import Report
from .run import UnknownPackage, Wanted, run
from .toy import BLIND, SOURCES, WANTED, toy
from .tree import Layout

pytestmark = pytest.mark.slow


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return toy(tmp_path / "toy")


Judged = Callable[..., tuple[Report, list[str]]]


@pytest.fixture
def judged(layout: Layout, tmp_path: Path) -> Judged:
    def judged(wanted: Wanted = WANTED) -> tuple[Report, list[str]]:
        said: list[str] = []
        return run(layout, wanted, tmp_path / "build", "python -m tests.mutants", said.append), said

    return judged


def status_of(report: Report) -> dict[str, str]:
    return {verdict.fault.mutated or verdict.fault.name: verdict.status for _, verdict in report.verdicts}


def test_what_tests_look_at_is_noticed_and_the_rest_survives(judged: Judged, layout: Layout) -> None:
    report, said = judged()
    found = status_of(report)
    assert found["return held <= LIMIT"] == found["return held >= LIMIT"] == "noticed"
    # a constant runs on import alone, in no test
    assert found["LIMIT = 4"] == "noticed"
    # the only test that would tell fails without a fault too
    assert found["return fence > known"] == "survived"
    assert any("test_that_fails_anyway" in line for line in said), said
    assert found["return 2"] == "survived"
    # and it is told
    assert any("kind fence survived at shared/toy/worker/counting.py:9" in line for line in report.failures)
    assert any(line.startswith("worker: ") and line.endswith("more than 10%") for line in report.failures)
    # a test that hangs has noticed
    hung = [verdict for _, verdict in report.verdicts if verdict.late]
    assert {verdict.fault.mutated for verdict in hung} >= {"left += 1", "pass"}
    assert {verdict.status for verdict in hung} == {"noticed"}
    assert all("test_a_countdown_ends" in verdict.by for verdict in hung)
    # the checkout is as it was
    assert {name: (layout.root / name).read_text() for name in SOURCES} == SOURCES


def test_a_package_that_is_not_there_is_refused(judged: Judged, tmp_path: Path) -> None:
    with pytest.raises(UnknownPackage, match=r"^no such package: ledger, stores; there are __init__, worker$"):
        judged(replace(WANTED, packages=("stores", "worker", "ledger")))
    assert not (tmp_path / "build").exists()


def test_a_package_is_one_of_the_table_too(judged: Judged, layout: Layout) -> None:
    table = layout.root / "tests/mutants/planted.toml"
    table.parent.mkdir()
    table.write_text(
        "[[fault]]\nname = 'one'\nkind = 'other'\nfile = 'tests/unit/worker/test_counting.py'\n"
        "find = 'countdown(3) == 0'\nreplace = 'countdown(3) == 1'\n"
        "tests = ['tests/unit/worker/test_counting.py::test_a_countdown_ends']\n"
    )
    report, _ = judged(replace(WANTED, packages=("tests",)))
    assert [(verdict.fault.name, verdict.status) for _, verdict in report.verdicts] == [("one", "noticed")]


def test_an_equivalent_is_listed_with_its_reason_and_not_judged(judged: Judged, layout: Layout) -> None:
    (layout.root / "tests/mutants").mkdir()
    (layout.root / "tests/mutants/equivalent.toml").write_text(
        "[[equivalent]]\n"
        'file = "shared/toy/worker/counting.py"\n'
        'function = "nobody_calls"\n'
        'original = "return 1"\n'
        'mutated = "return 2"\n'
        'reason = "nobody calls it"\n'
    )
    report, _ = judged(replace(WANTED, tests=BLIND))
    assert status_of(report)["return 2"] == "equivalent"
    assert "`return 2`. nobody calls it" in report.markdown()


def test_the_table_is_held_against_the_tests_it_names(judged: Judged, layout: Layout, tmp_path: Path) -> None:
    test = "tests/unit/worker/test_counting.py"
    entries = [
        ("seen", "counting.py", "held < LIMIT", "held <= LIMIT", [f"{test}::test_claims_end_at_the_limit"]),
        ("seen in SQL", "query.sql", "true", "false", [test]),
        ("not seen", "counting.py", "fence >= known", "fence > known", [f"{test}::test_a_newer_fence_holds"]),
        # one of two notices
        ("half seen", "limits.py", "3", "4", [test, f"{test}::test_a_countdown_ends"]),
        ("broken on import", "limits.py", "LIMIT", "LIMITED", [test]),
        ("of no such test", "limits.py", "3", "5", [f"{test}::test_that_was_renamed"]),
        ("moved", "counting.py", "held < LIMITS", "", [test]),
    ]
    table = layout.root / "tests/mutants/planted.toml"
    table.parent.mkdir()
    table.write_text(
        "".join(
            f"[[fault]]\nname = {name!r}\nkind = 'other'\nfile = 'shared/toy/worker/{file}'\n"
            f"find = {find!r}\nreplace = {other!r}\ntests = {tests!r}\n"
            for name, file, find, other, tests in entries
        )
    )
    report, _ = judged(replace(WANTED, generated=0))
    assert {verdict.fault.name: verdict.status for _, verdict in report.verdicts} == {
        "seen": "noticed",
        "seen in SQL": "noticed",
        "not seen": "survived",
        "half seen": "survived",
        "broken on import": "wrong",
        "of no such test": "wrong",
    }
    assert any("'moved': what is to be found occurs 0 times" in error for error in report.errors), report.errors
    report.write(tmp_path / "report")
    document = json.loads((tmp_path / "report/report.json").read_text())
    assert document["packages"]["worker"] == {"planted": 6, "noticed": 2, "survived": 2, "wrong": 2}


def test_lines_are_gathered_again_only_where_something_changed(judged: Judged, layout: Layout) -> None:
    wanted = replace(WANTED, generated=1, planted=False)
    assert sum(line.startswith("lines of") for line in judged(wanted)[1]) == 3
    assert sum(line.startswith("lines of") for line in judged(wanted)[1]) == 0
    path = layout.root / "tests/unit/worker/test_broken.py"
    path.write_text(path.read_text() + "\n")
    assert [line.split(":")[0] for line in judged(wanted)[1] if line.startswith("lines of")] == [
        "lines of tests/unit/worker/test_broken.py"
    ]
    path = layout.root / "shared/toy/worker/counting.py"
    path.write_text(path.read_text() + "\n")
    assert sum(line.startswith("lines of") for line in judged(wanted)[1]) == 2


def test_only_what_was_changed_since_a_revision(judged: Judged, layout: Layout) -> None:
    path = layout.root / "shared/toy/worker/counting.py"
    path.write_text(path.read_text().replace("held < LIMIT", "held + 0 < LIMIT"))
    report, _ = judged(replace(WANTED, base="HEAD", tests=BLIND))
    assert {verdict.fault.first for _, verdict in report.verdicts} == {5}


def test_a_process_of_a_test_reports_its_lines_too(judged: Judged, layout: Layout) -> None:
    (layout.root / "tests/unit/worker/test_process.py").write_text(
        "import subprocess\n"
        "import sys\n"
        "\n"
        "\n"
        "def test_in_a_process():\n"
        "    code = 'from toy.worker.counting import nobody_calls; print(nobody_calls())'\n"
        "    assert subprocess.check_output([sys.executable, '-c', code]) == b'1\\n'\n"
    )
    path = layout.root / "shared/toy/worker/counting.py"
    path.write_text(path.read_text().replace("return 1", "return 2 - 1"))
    report, _ = judged(replace(WANTED, base="HEAD"))
    by = {verdict.fault.mutated: verdict.by for _, verdict in report.verdicts}
    assert by["return 2 + 1"] == "tests/unit/worker/test_process.py::test_in_a_process"


def test_what_fails_once_beside_a_busy_machine_has_noticed_nothing(
    judged: Judged, layout: Layout, tmp_path: Path
) -> None:
    path = layout.root / "tests/integration/test_now_and_then.py"
    path.parent.mkdir()
    path.write_text(
        "from pathlib import Path\n"
        "\n"
        "from toy.worker.counting import nobody_calls\n"
        "\n"
        "\n"
        "def test_now_and_then():\n"
        "    nobody_calls()\n"
        f"    times = Path({str(tmp_path / 'times')!r})\n"
        "    times.write_text(times.read_text() + '.' if times.exists() else '.')\n"
        "    assert len(times.read_text()) != 2\n"
    )
    path = layout.root / "shared/toy/worker/counting.py"
    path.write_text(path.read_text().replace("return 1", "return 5"))
    report, _ = judged(replace(WANTED, base="HEAD", generated=1))
    assert [verdict.status for _, verdict in report.verdicts] == ["survived"]
    assert (tmp_path / "times").read_text() == "...", "gathered, failed, and tried again"
