"""A line of a table that no longer fits the code says so; and those of this project fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .tables import EQUIVALENT, PLANTED, equivalents, planted
from .tree import Layout

ROOT = Path(__file__).parents[2]

ENTRY = {
    "name": "'a'",
    "kind": "'fence'",
    "file": "'a.py'",
    "find": "'a < b'",
    "replace": "'a > b'",
    "tests": "['test_a.py::test_a']",
}


def table(tmp_path: Path, *entries: dict[str, str]) -> Layout:
    (tmp_path / "a.py").write_text("def f(a, b):\n    return a < b, a == a\n")
    (tmp_path / "test_a.py").touch()
    path = tmp_path / PLANTED
    path.parent.mkdir(parents=True)
    path.write_text("".join("[[fault]]\n" + "".join(f"{k} = {v}\n" for k, v in entry.items()) for entry in entries))
    return Layout(tmp_path)


def test_an_entry_is_a_fault(tmp_path: Path) -> None:
    (fault,), errors = planted(table(tmp_path, ENTRY))
    assert errors == []
    assert (fault.name, fault.kind, fault.place, fault.tests) == ("a", "fence", "a.py:2", ("test_a.py::test_a",))
    assert fault.text == "def f(a, b):\n    return a > b, a == a\n"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"find": "'a'"}, "occurs 4 times in a.py, not once"),
        ({"find": "'c'"}, "occurs 0 times in a.py, not once"),
        ({"find": "''"}, "'find' is missing, empty or no str"),
        ({"replace": "'a ><'"}, "does not compile"),
        ({"kind": "'odd'"}, "kind 'odd' is none of bound, exit, fence"),
        ({"file": "'b.py'"}, "there is no file b.py"),
        ({"tests": "[]"}, "'tests' is missing, empty or no list"),
        ({"tests": "['test_b.py::test_a']"}, "there is no test test_b.py::test_a"),
    ],
)
def test_an_entry_that_does_not_fit_is_an_error(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    faults, (error,) = planted(table(tmp_path, ENTRY | changes))
    assert faults == []
    assert "fault 1, 'a'" in error and expected in error


def test_a_name_is_given_once(tmp_path: Path) -> None:
    _, errors = planted(table(tmp_path, ENTRY, ENTRY))
    assert errors == [f"{PLANTED}: the name 'a' is given twice"]


@pytest.mark.parametrize(
    ("function", "original", "reason", "expected"),
    [
        ("f", "return a < b, a == a", "'because'", None),
        ("g", "return a < b, a == a", "'because'", "no fault like it can be generated in g any more"),
        ("f", "return a < c", "'because'", "no fault like it can be generated in f any more"),
        ("f", "return a < b, a == a", "' '", "it gives no reason"),
        ("f", "return a < b, a == a", "1", "reason is missing"),
    ],
)
def test_an_equivalent_is_held_against_the_code(
    tmp_path: Path, function: str, original: str, reason: str, expected: str | None
) -> None:
    layout = table(tmp_path)
    (tmp_path / EQUIVALENT).write_text(
        f"[[equivalent]]\nfile = 'a.py'\nfunction = '{function}'\noriginal = '{original}'\n"
        f"mutated = 'return a <= b, a == a'\nreason = {reason}\n"
    )
    found, errors = equivalents(layout)
    if expected is None:
        assert (len(found), errors) == (1, [])
    else:
        assert found == [] and len(errors) == 1 and expected in errors[0]


def test_the_tables_of_this_project_fit_its_code() -> None:
    assert planted(Layout(ROOT))[1] == []
    assert equivalents(Layout(ROOT))[1] == []


def test_what_is_planted_uses_names_that_exist(tmp_path: Path) -> None:
    """Otherwise a test would detect the NameError, not the fault."""
    faults = [fault for fault in planted(Layout(ROOT))[0] if fault.file.endswith(".py")]
    for number, fault in enumerate(faults):
        (tmp_path / f"planted_{number}.py").write_text(fault.text)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E9,F821",
        "--output-format",
        "json",
        ".",
    ]
    found = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).stdout)
    wrong = [f"{faults[int(Path(each['filename']).stem.split('_')[1])].name}: {each['message']}" for each in found]
    assert not wrong, f"faults that are none: {wrong}"
