"""What is stored outlives the code that wrote it: a form that changes has another version, or is noticed here."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from .forms import FILE, OLD_FILE, changes, declared_by, forms_of, unversioned
from .release import Release, new_release

HOW = "if it is meant, `make upgrade-forms` writes it down"
WIRE = "on the wire the release before refuses a field that it does not know: send it only to who has asked for it"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(FILE.read_text())
    return document


@pytest.fixture(scope="module")
def before() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(OLD_FILE.read_text())
    return document


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return new_release(tmp_path)


def told(lines: list[str]) -> str:
    return "\n".join(
        ["a form has changed; " + HOW, *([WIRE] if any(" wire " in line for line in lines) else []), *lines]
    )


def test_what_the_code_declares_is_written_down(release: Release, recorded: dict[str, Any]) -> None:
    declared = declared_by(release)
    same = {section: {name: recorded[section].get(name) for name in form} for section, form in declared.items()}
    lines = changes(same, declared)
    assert not lines, told(lines)


@pytest.mark.e2e
def test_what_stands_in_the_store_is_written_down(release: Release, recorded: dict[str, Any]) -> None:
    lines = changes(recorded, forms_of(release))
    assert not lines, told(lines)


def test_what_differs_from_the_release_before_has_a_higher_version(
    recorded: dict[str, Any], before: dict[str, Any]
) -> None:
    wrong = unversioned(before, recorded)
    assert not wrong, "\n".join(wrong)


# -- the comparison itself


def test_a_field_that_comes_or_goes_or_has_another_type_is_a_change(before: dict[str, Any]) -> None:
    after = copy.deepcopy(before)
    form = after["events"]["call.done"]
    form[".meta.mood"] = ["string"]
    del form[".meta.worker"]
    form[".bytes"] = ["string"]
    assert changes(before, after) == [
        "- events call.done .bytes: number",
        "+ events call.done .bytes: string",
        "+ events call.done .meta.mood: string",
        "- events call.done .meta.worker: string",
    ]


def test_an_event_and_a_table_that_are_new_are_changes(before: dict[str, Any]) -> None:
    after = copy.deepcopy(before)
    after["events"]["mood.set"] = {".": ["object"]}
    after["schema"]["tables"]["mood"] = {"id": "bigint not null"}
    assert changes(before, after) == ["+ events mood.set: . object", "+ schema tables mood: id bigint not null"]


def test_what_is_seen_only_sometimes_may_be_missing(before: dict[str, Any]) -> None:
    sometimes = copy.deepcopy(before)
    sometimes["events"]["call.done"][".meta.deliveries"] = ["number?"]
    assert changes(sometimes, before) == []
    assert changes(before, sometimes) == ["+ events call.done .meta.deliveries: number?"]


@pytest.mark.parametrize("section", ["events", "values", "schema"])
def test_a_change_needs_a_higher_version_of_its_own_section(section: str, before: dict[str, Any]) -> None:
    after = copy.deepcopy(before)
    after[section]["mood"] = {".": ["object"]}
    (wrong,) = unversioned(before, after)
    assert wrong.startswith(f"the {section} are not what")
    after["versions"].update({"schema": "0099_mood"} if section == "schema" else {"forms": 99})
    assert unversioned(before, after) == []


def test_a_migration_that_is_out_stays_as_it_is(before: dict[str, Any]) -> None:
    after = copy.deepcopy(before)
    after["schema"]["migrations"]["0001_log"] = "0" * 64
    after["versions"]["schema"] = "0099_mood"
    assert unversioned(before, after) == [
        "the migration 0001_log is out, and was changed: add a migration; one that is out stays as it is"
    ]
