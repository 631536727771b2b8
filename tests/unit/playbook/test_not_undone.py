"""`noetls lint` names what nothing undoes, of steps that are undone and of the others."""

from __future__ import annotations

import pytest

from noetl_serverless.tools.plans import lint

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\nworkflow:\n"
POST = "{name: %s, kind: http, method: POST, url: 'http://x'}"
GET = "{name: %s, kind: http, url: 'http://x'}"
WAIT = "{name: %s, kind: wait, approval: manager}"


def found(*tasks: str, compensate: str = "{tool: {kind: noop}}") -> list[str]:
    named = ", ".join(task % f"t{number}" for number, task in enumerate(tasks))
    text = f"{HEAD}  - {{step: a, tool: [{named}], compensate: {compensate}}}\n"
    return [fault.message for fault in lint(text) if fault.code == "playbook.not_compensated"]


@pytest.mark.parametrize("tasks", [(POST, WAIT), (GET, POST, GET)])
def test_a_task_with_an_effect_before_others_is_named(tasks: tuple[str, ...]) -> None:
    first = f"t{tasks.index(POST)}"
    [message] = found(*tasks)
    assert f"nothing undoes the task '{first}' if a task after it fails" in message


@pytest.mark.parametrize("tasks", [(WAIT, POST), (GET, GET), (POST,)])
def test_an_effect_of_the_last_task_is_undone(tasks: tuple[str, ...]) -> None:
    assert found(*tasks) == []


def test_of_a_step_that_is_not_to_be_undone_nothing_is_said() -> None:
    assert found(POST, WAIT, compensate="none") == []
