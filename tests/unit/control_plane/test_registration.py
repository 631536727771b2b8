from __future__ import annotations

import base64

import pytest

from noetl_serverless.control_plane.registration import as_text, document_of
from noetl_serverless.errors import InvalidPlaybook

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: hello, path: demo/hello, labels: {team: a}}
workload: {n: 1}
workflow:
  - step: start
    tool: {kind: noop}
    next: {arcs: [{step: end}]}
  - step: end
    tool: {kind: noop}
"""


def test_the_catalog_keeps_path_metadata_and_workload() -> None:
    document = document_of(PLAYBOOK)
    assert (document.path, document.kind, document.steps) == ("demo/hello", "Playbook", 2)
    assert document.meta == {"name": "hello", "path": "demo/hello", "labels": {"team": "a"}}
    assert document.payload == {"n": 1}
    assert document.content == PLAYBOOK


def test_base64_is_decoded() -> None:
    encoded = base64.encodebytes(PLAYBOOK.encode()).decode()
    assert document_of(encoded).content == PLAYBOOK


@pytest.mark.parametrize("text", [PLAYBOOK, "kind: x", "notbase64!", "abc", "////"])
def test_what_is_not_base64_of_a_text_is_left_alone(text: str) -> None:
    assert as_text(text) == text


def test_a_task_of_the_workbook_that_no_step_uses_may_be_incomplete() -> None:
    text = PLAYBOOK + "workbook: [{name: call, tool: {kind: playbook, return_step: end}}]\n"
    assert document_of(text).steps == 2
    with pytest.raises(InvalidPlaybook) as caught:
        document_of(text.replace("tool: {kind: noop}\n    next", "tool: {kind: workbook, name: call}\n    next"))
    assert [(fault.pointer, fault.message.partition(":")[0]) for fault in caught.value.faults] == [
        ("/workbook/0/tool", "the field 'path' is required")
    ]


def test_a_fault_in_a_tool_is_reported_with_its_line() -> None:
    text = PLAYBOOK.replace("tool: {kind: noop}\n    next", "tool: {kind: http, url: x, methud: GET}\n    next")
    with pytest.raises(InvalidPlaybook) as caught:
        document_of(text)
    [fault] = caught.value.faults
    assert (fault.pointer, fault.line) == ("/workflow/0/tool/methud", 7)


@pytest.mark.parametrize(
    ("tool", "pointer", "line", "column"),
    [
        ("{kind: http, url: x, auth: {credential: k, headr: X}}", "/workflow/0/tool/auth/headr", 7, 54),
        ("\n      kind: duckdb\n      command: x\n      auth:\n        pg: {}", "/workflow/0/tool/auth", 10, 7),
        ("\n      kind: python\n      code: x\n      bogus:\n        a: b", "/workflow/0/tool/bogus", 10, 7),
        ("\n      kind: python\n      code: x\n      deps:\n        a: b", "/workflow/0/tool/deps", 10, 7),
    ],
)
def test_a_field_that_is_not_there_is_reported_once_at_its_key(tool: str, pointer: str, line: int, column: int) -> None:
    text = PLAYBOOK.replace("tool: {kind: noop}\n    next", f"tool: {tool}\n    next")
    with pytest.raises(InvalidPlaybook) as caught:
        document_of(text)
    [fault] = caught.value.faults
    assert (fault.pointer, fault.line, fault.column) == (pointer, line, column)


def test_a_fault_inside_a_field_is_reported_once() -> None:
    tool = "tool: {kind: python, code: x = 1, libs: {a b: json}, auth: x}"
    text = PLAYBOOK.replace("tool: {kind: noop}\n    next", f"{tool}\n    next")
    with pytest.raises(InvalidPlaybook) as caught:
        document_of(text)
    assert [fault.pointer for fault in caught.value.faults] == [
        "/workflow/0/tool/libs/a b",
        "/workflow/0/tool/auth",
    ]


def test_a_kind_that_is_not_supported_yet_is_refused_once_by_name_and_line() -> None:
    text = PLAYBOOK.replace("step: end\n    tool: {kind: noop}", "step: end\n    tool: [{kind: snowflake}]")
    with pytest.raises(InvalidPlaybook, match=r"snowflake.*not supported yet") as caught:
        document_of(text)
    [fault] = caught.value.faults
    assert fault.line == 10


def test_a_playbook_for_one_machine_is_refused_in_a_cloud_with_its_line() -> None:
    text = PLAYBOOK + "executor: {profile: local}\n"
    assert document_of(text).path == document_of(PLAYBOOK, is_local=False).path
    with pytest.raises(InvalidPlaybook, match="profile: local is for a stack on one machine") as caught:
        document_of(text, is_local=False)
    (fault,) = caught.value.faults
    assert (fault.pointer, fault.line) == ("/executor/profile", text.count("\n"))


def test_all_faults_come_at_once_in_the_order_of_the_text() -> None:
    text = PLAYBOOK.replace("{step: end}", "{step: nowhere}").replace(
        "{kind: noop}\n    next", "{kind: nope}\n    next"
    )
    with pytest.raises(InvalidPlaybook) as caught:
        document_of(text)
    lines = [fault.line or 0 for fault in caught.value.faults]
    assert lines == sorted(lines)
    assert {7, 8} <= set(lines)


@pytest.mark.parametrize("text", ["", "a: [", "just text", "- 1", "\x00"])
def test_what_is_no_playbook_at_all_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlaybook):
        document_of(text)
