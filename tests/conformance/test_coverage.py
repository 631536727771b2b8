"""Every row of the language is shown by a file, and every file shows a row: the table is coverage.toml."""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import Any

import pytest
from tests.conformance.case import FOLDER, Case, cases
from tests.conformance.rows import rows

TABLE: dict[str, Any] = tomllib.loads((FOLDER / "coverage.toml").read_text())
LANGUAGE: dict[str, list[str]] = TABLE["language"]
BEHAVIOURS: dict[str, list[str]] = TABLE["behaviours"]
ELSEWHERE: dict[str, dict[str, str]] = TABLE["elsewhere"]
NOT_YET: list[str] = TABLE["not_yet"]["rows"]
CASES: dict[str, Case] = {case.name: case for case in cases() if not case.is_to_come}


def test_every_row_of_the_language_has_a_file() -> None:
    known = set(rows())
    missing = sorted(known - LANGUAGE.keys() - ELSEWHERE.keys() - set(NOT_YET))
    assert not missing, f"no file shows {missing}: add one, and name it in coverage.toml"


def test_no_row_is_about_what_the_language_does_not_have() -> None:
    strange = sorted((LANGUAGE.keys() | ELSEWHERE.keys() | set(NOT_YET)) - set(rows()))
    assert not strange, f"coverage.toml has rows of what is gone: {strange}"


def test_no_row_is_in_two_tables() -> None:
    listed = Counter([*LANGUAGE, *ELSEWHERE, *NOT_YET])
    assert not [row for row, times in listed.items() if times > 1]


@pytest.mark.parametrize("row", ELSEWHERE)
def test_a_row_that_no_playbook_can_show_is_tested_elsewhere(row: str) -> None:
    entry = ELSEWHERE[row]
    assert entry["why"], f"{row}: say why no playbook can show it"
    text = (FOLDER.parent / entry["shown_by"]).read_text()
    word = rows()[row].removesuffix(":")
    assert f'"{word}"' in text, f"{row}: tests/{entry['shown_by']} does not name {word!r}"


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
