"""Warnings about plain scalars that readers of YAML 1.1 and of YAML 1.2 take for different values."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from noetl_serverless.playbook.document import MAX_SURPRISES, read_document
from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.yaml_readings import CODE
from noetl_serverless.tools.plans import load_checked

from .playbooks import playbook

WORKFLOW = "workflow: [{step: a, tool: {kind: noop, result: '{{ workload }}'}}]\n"


def surprises(value: str) -> list[str]:
    """The messages about `value` as it is written in a list."""
    document = read_document(f"x: [{value}]\n")
    assert not document.faults
    return [fault.message for fault in document.surprises]


@pytest.mark.parametrize("word", ["yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"])
def test_words_that_are_booleans_only_in_yaml_1_1(word: str) -> None:
    read = "true" if yaml.safe_load(word) else "false"
    assert surprises(word) == [f"{word} is read as {read}: write {read}, or '{word}' in quotes if the text is meant"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("012", "10"),
        ("-012", "-10"),
        ("007", "7"),
        ("0_7", "7"),
        ("1_000", "1000"),
        ("1_000.5", "1000.5"),
        ("01.50", "1.5"),
        ("0b11", "3"),
        ("0x1_f", "31"),
        ("-0x1f", "-31"),
    ],
)
def test_numbers_that_are_others_or_none_in_yaml_1_2(text: str, read: str) -> None:
    assert surprises(text) == [f"{text} is read as {read}: write {read}, or '{text}' in quotes if the text is meant"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("08", "8"), ("-09", "-9"), ("0o17", "15"), ("1e3", "1000.0"), ("+1.5e3", "1500.0"), ("-.5", "-0.5")],
)
def test_texts_that_are_numbers_in_yaml_1_2(text: str, number: str) -> None:
    (message,) = surprises(text)
    assert message == (
        f"{text} is read as a text here, and as the number {number} by YAML 1.2: write '{text}' in quotes, or {number}"
    )


@pytest.mark.parametrize("text", ["1:30", "22:22", "-1:30", "12:30:00", "1:30.5", "0:30.5"])
def test_texts_that_are_numbers_to_the_base_60_in_yaml_1_1(text: str) -> None:
    assert isinstance(yaml.safe_load(text), int | float)
    (message,) = surprises(text)
    assert message == (
        f"{text} is read as a text here, and as a number to the base 60 by YAML 1.1: write '{text}' in quotes"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("true", "True", "FALSE", "null", "~", "Null", "y", "n", "yEs", "not", "none", "onward"),
        *("0", "-0", "+7", "12", "0.5", "-1.5", ".5", "1.", "0x1f", "1.5e3", "1e-06", "1.5e+3"),
        *("2024-01-31", "2024-01-31T12:30:00Z", "1.2.3", "10.0.0.1", "1:60", "01:30", "a:1", "1-2", "+", "e3"),
        *("'yes'", '"012"', "! 012", "!!str no", "!!int '012'", "1e999", "0" * 41),
        # nobody writes it, and it would take long to evaluate
        "1" + ":30" * 20,
    ],
)
def test_what_every_reader_takes_for_the_same(text: str) -> None:
    assert surprises(text) == []


def test_keys_and_blocks_are_texts() -> None:
    assert not read_document("on: |\n  yes\n012: >-\n  012\n1:30: 'no'\n").surprises


def test_the_warning_is_where_the_value_is() -> None:
    text = playbook(f"workload:\n  country: no\n  codes: [7, 012]\n{WORKFLOW}")
    found = [(finding.code, finding.line, finding.column, finding.pointer) for finding in lint(text)]
    assert found == [(CODE, 5, 12, "/workload/country"), (CODE, 6, 14, "/workload/codes/1")]
    assert {finding.severity for finding in lint(text)} == {"warning"}


def test_what_an_alias_repeats_is_reported_once() -> None:
    assert len(read_document("a: &a {b: no}\nc: *a\nd: {<<: *a}\n").surprises) == 1


def test_registration_does_not_mind_even_if_strict() -> None:
    loaded = load_checked(playbook(f"workload: {{country: no}}\n{WORKFLOW}"), strict=True)
    country: Any = loaded.plan.workload["country"]
    assert country is False and not loaded.document.warnings


def test_an_older_form_elsewhere_keeps_the_warning() -> None:
    text = playbook("workload: {country: no}\nworkflow: [{step: a, args: {w: '{{ workload }}'}, tool: {kind: noop}}]\n")
    assert {"playbook.older_form", CODE} <= {finding.code for finding in lint(text)}


def test_not_all_of_very_many_are_listed() -> None:
    assert len(read_document(f"x: [{'no, ' * 1000}]\n").surprises) == MAX_SURPRISES
