from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.called_inputs import calls_of, faults_of
from noetl_serverless.playbook.load import load_playbook

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/caller}\nworkflow:\n"
SCHEMA: dict[str, Any] = {
    "properties": {"n": {"type": "integer"}, "o": {"properties": {"x": {"type": "string"}}}},
    "required": ["n"],
    "additionalProperties": False,
}


def said(step: str, schema: dict[str, Any] | None = SCHEMA, workload: dict[str, Any] | None = None) -> list[str]:
    [call] = calls_of(load_playbook(f"{HEAD}  - {step}\n"))
    return [f"{fault.column} {fault.message}" for fault in faults_of(call, workload or {}, schema)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("input: {n: 1}", []),
        ("input: {n: x}", ['/n: this must be an integer, not "x"']),
        ("input: {n: '{{ workload.n }}'}", []),
        ("input: {n: '{{ workload.n }}', o: {x: 1}}", ["/o/x: this must be a string, not 1"]),
        ("input: {n: 1, m: '{{ workload.m }}'}", []),
        ("input: {n: 1, m: 2}", ["/m: there is no property 'm'"]),
        ("input: {o: {}}", ["/n: 'n' is required"]),
        ("input: {n: x}, payload: {n: 1}", []),
        ("payload: '{{ workload.all }}'", []),
        ("input: {n: 1, ctx: {k: 1}}", []),
    ],
)
def test_what_stands_in_the_text_is_compared(given: str, found: list[str]) -> None:
    what = said(f"{{step: call, tool: {{kind: playbook, path: /t/child, {given}}}}}")
    assert [message.split("t/child: ", 1)[1] for message in what] == found


def test_the_place_is_that_of_the_value() -> None:
    [message] = said("{step: call, tool: {kind: playbook, path: t/child}, input: {n: x}}")
    assert message.startswith("68 "), "where the step's input has n"


def test_defaults_of_the_playbook_that_is_called_are_merged_before() -> None:
    step = "{step: call, tool: {kind: playbook, path: t/child, input: {o: {x: a}}}}"
    assert said(step, workload={"n": 1, "o": {"x": 1}}) == []


def test_a_schema_in_which_an_unknown_value_may_change_others_says_nothing() -> None:
    schema = {"if": {"properties": {"n": {"const": 1}}}, "then": {"required": ["m"]}}
    assert said("{step: call, tool: {kind: playbook, path: t/child, input: {n: '{{ 1 }}'}}}", schema) == []
    assert len(said("{step: call, tool: {kind: playbook, path: t/child, input: {n: 1}}}", schema)) == 1


def test_a_playbook_without_a_schema_takes_anything() -> None:
    assert said("{step: call, tool: {kind: playbook, path: t/child, input: {n: x}}}", None) == []


def test_a_path_that_a_template_makes_is_not_followed() -> None:
    text = f"{HEAD}  - {{step: call, tool: {{kind: playbook, path: '{{{{ workload.p }}}}'}}}}\n"
    assert calls_of(load_playbook(text)) == []
