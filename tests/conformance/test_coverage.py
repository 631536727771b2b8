"""Every row of the language is shown by a file, and every file shows a row: the table is coverage.toml."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from tests.conformance.case import FOLDER, Case, cases
from tests.conformance.rows import rows

TABLE: dict[str, Any] = tomllib.loads((FOLDER / "coverage.toml").read_text())
LANGUAGE: dict[str, list[str]] = TABLE["language"]
BEHAVIOURS: dict[str, list[str]] = TABLE["behaviours"]
NOT_YET: list[str] = TABLE["not_yet"]["rows"]
CASES: dict[str, Case] = {case.name: case for case in cases() if not case.is_to_come}


def test_every_row_of_the_language_has_a_file() -> None:
    known = set(rows())
    missing = sorted(known - LANGUAGE.keys() - set(NOT_YET))
    assert not missing, f"no file shows {missing}: add one, and name it in coverage.toml"


def test_no_row_is_about_what_the_language_does_not_have() -> None:
    strange = sorted((LANGUAGE.keys() | set(NOT_YET)) - set(rows()))
    assert not strange, f"coverage.toml has rows of what is gone: {strange}"


def test_no_row_is_both_shown_and_not_yet() -> None:
    assert not LANGUAGE.keys() & set(NOT_YET)


def test_every_file_is_in_a_row() -> None:
    listed = {name for table in (LANGUAGE, BEHAVIOURS) for names in table.values() for name in names}
    assert not CASES.keys() - listed, "files that are in no row of coverage.toml"
    assert not listed - CASES.keys(), "files that coverage.toml names and that do not exist"


@pytest.mark.parametrize("row", LANGUAGE)
def test_a_file_contains_what_its_row_says(row: str) -> None:
    word = rows().get(row, "")
    assert LANGUAGE[row], "a row needs a file"
    for name in LANGUAGE[row]:
        # of the file: what is expected is part of it, as the code of a fault
        assert word in CASES[name].path.read_text(), f"{name} does not contain {word!r}"
