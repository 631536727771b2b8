"""`noetls lint`: mistakes, and what is allowed but hardly meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.main import app
from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.errors import InvalidPlaybook

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: a, path: t/a}\nworkflow:\n"
UNREACHED = HEAD + "  - {step: a, tool: {kind: noop}}\n  - {step: b, tool: {kind: noop}}\n"
WRONG = HEAD + "  - {step: a, tool: {kind: noop}, next: {arcs: [{step: nowhere}]}}\n"


@pytest.fixture
def lint(tmp_path: Path) -> Callable[..., Result]:
    def run(text: str, *words: str) -> Result:
        (tmp_path / "a.yaml").write_text(text)
        return CliRunner().invoke(app, ["lint", str(tmp_path / "a.yaml"), *words])

    return run


def test_a_warning_is_printed_with_its_place_and_is_no_mistake(lint: Callable[..., Result]) -> None:
    done = lint(UNREACHED)
    assert done.exit_code == 0
    warning, last = done.output.splitlines()
    assert warning.endswith("a.yaml:6:12: warning: no arc leads from 'a' to the step 'b' [playbook.unreachable]")
    assert last == "no errors, 1 warning"


def test_with_strict_a_warning_is_an_error(lint: Callable[..., Result]) -> None:
    done = lint(UNREACHED, "--strict")
    assert (done.exit_code, done.output.splitlines()[-1]) == (1, "1 error")
    assert ": error: no arc leads" in done.output
    assert lint(HEAD + "  - {step: a, tool: {kind: noop}}\n", "--strict").exit_code == 0


def test_as_json_each_finding_is_an_object_with_the_same_keys(lint: Callable[..., Result]) -> None:
    [warning] = json.loads(lint(UNREACHED, "--json").output)
    assert Path(warning.pop("file")).name == "a.yaml"
    assert warning == {
        "line": 6,
        "column": 12,
        "pointer": "/workflow/1/step",
        "code": "playbook.unreachable",
        "severity": "warning",
        "message": "no arc leads from 'a' to the step 'b'",
    }
    done = lint(WRONG, "--json")
    [error] = json.loads(done.output)
    assert (done.exit_code, error["severity"], error["code"]) == (1, "error", "playbook.unknown_step")
    assert json.loads(lint(HEAD + "  - {step: a, tool: {kind: noop}}\n", "--json").output) == []


def test_it_refuses_what_registration_refuses_in_the_fields_of_a_tool_and_warns_at_the_same_time(
    lint: Callable[..., Result],
) -> None:
    text = UNREACHED + "  - {step: c, tool: {kind: http, ulr: x}}\n"
    found = {finding["code"]: finding for finding in json.loads(lint(text, "--json").output)}
    with pytest.raises(InvalidPlaybook) as refused:
        document_of(text)
    errors = [(fault.code, fault.line, fault.message) for fault in refused.value.faults]
    assert errors and errors == [
        (code, finding["line"], finding["message"]) for code, finding in found.items() if finding["severity"] == "error"
    ]
    assert found["playbook.unreachable"]["severity"] == "warning"


def test_an_older_form_is_a_warning(lint: Callable[..., Result]) -> None:
    done = lint(HEAD + "  - {step: a, tool: {kind: python, args: {x: 1}, code: 'result = x'}}\n")
    assert (done.exit_code, "warning:" in done.output, "[playbook.older_form]" in done.output) == (0, True, True)


def test_standard_input_is_read(lint: Callable[..., Result]) -> None:
    done = CliRunner().invoke(app, ["lint", "-"], input=WRONG)
    assert done.exit_code == 1
    assert done.output.startswith("<standard input>:5:56: error: there is no step 'nowhere'")


def test_what_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        done = CliRunner().invoke(app, ["lint", str(path)])
        assert (done.exit_code, str(path) in done.stderr.replace("\n", "")) == (2, True)


def test_a_delay_that_is_not_waited_is_warned_of_as_the_playbooks_page_says(lint: Callable[..., Result]) -> None:
    rules = "rules: [{when: '{{ false }}', then: {do: retry, backoff: none, delay: 5}}]"
    done = lint(HEAD + "  - step: a\n    tool: {kind: noop, spec: {policy: {" + rules + "}}}\n")
    assert (done.exit_code, "no effect because backoff is none" in " ".join(done.output.split())) == (0, True), (
        done.output
    )


def test_a_file_that_cannot_be_read_hides_no_mistake_of_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "b.yaml").write_text(WRONG)
    done = CliRunner().invoke(app, ["lint", str(tmp_path), "--json"])
    errors = [(Path(error["file"]).name, error["message"]) for error in json.loads(done.output)]
    assert (done.exit_code, errors) == (1, [("a.yaml", "not UTF-8 text"), ("b.yaml", "there is no step 'nowhere'")])
    assert "a.yaml: error: not UTF-8 text [cli.usage]" in CliRunner().invoke(
        app, ["lint", str(tmp_path)]
    ).output.replace("\n", "")


def test_scripts_beside_a_playbook_are_checked_and_those_at_a_url_are_not(
    lint: Callable[..., Result], tmp_path: Path
) -> None:
    text = (
        HEAD
        + """\
  - step: a
    tool: [{kind: python, script: {uri: a.py}}, {kind: duckdb, script: {uri: "https://127.0.0.1:1/a.sql"}}]
"""
    )
    (tmp_path / "a.py").write_text("return context['ctx']")
    assert lint(text).output == "no errors\n"
    (tmp_path / "a.py").write_text("x = 1\ny =")
    [error] = json.loads(lint(text, "--json").output)
    assert (error["message"], error["line"]) == ("Python: invalid syntax (line 2 of a.py)", 6)


def test_a_script_that_is_not_there_is_an_error_among_the_others(lint: Callable[..., Result], tmp_path: Path) -> None:
    text = WRONG + "  - {step: b, tool: {kind: python, args: {}, script: {uri: scr.py}}}\n"
    done = lint(text, "--json")
    other, missing, older = json.loads(done.output)
    assert (done.exit_code, other["code"], older["code"]) == (1, "playbook.unknown_step", "playbook.older_form")
    assert (missing["line"], missing["column"], missing["pointer"], missing["severity"]) == (
        6,
        60,
        "/workflow/1/tool/script/uri",
        "error",
    )
    assert missing["code"] == "playbook.script_missing"
    assert missing["message"].startswith(f"there is no script 'scr.py' below {tmp_path.resolve()}, the folder of the")
    # of a playbook that is no further read, too
    codes = [one["code"] for one in json.loads(lint(text.replace("metadata", "metadota"), "--json").output)]
    assert "playbook.script_missing" in codes
    assert "a.yaml:6:60: error: there is no script 'scr.py'" in CliRunner().invoke(app, ["lint", str(tmp_path)]).output


def test_nothing_is_reported_of_a_playbook_without_either(lint: Callable[..., Result]) -> None:
    assert lint(HEAD + "  - {step: a, tool: {kind: noop}}\n").output == "no errors\n"


def test_older_forms_are_listed_beside_errors(lint: Callable[..., Result]) -> None:
    done = lint(HEAD + "  - {step: a, tool: {kind: noop}, args: {}, next: {arcs: [{step: nowhere}]}}\n")
    assert done.exit_code == 1
    error, warning, last = done.output.splitlines()
    assert "error: there is no step 'nowhere'" in error
    assert "warning: an older form: 'args' is called 'input' today" in warning
    assert last == "1 error, 1 warning"


def test_a_pool_that_functions_yaml_does_not_have_is_a_warning(lint: Callable[..., Result]) -> None:
    step = "  - {{step: a, pool: {}, tool: {{kind: {}}}}}\n"
    assert lint(HEAD + step.format("gpu", "noop")).output == "no errors\n"
    done = lint(HEAD + step.format("attic", "noop"))
    assert done.exit_code == 0, "the deployment may have more pools"
    assert (
        "warning: on a laptop, the deployment has no pool 'attic'; it has cpu, gpu, io, shared; "
        "in a cloud, the deployment has no pool 'attic'; it has cpu, data, gpu, io, shared [playbook.unknown_pool]"
    ) in done.output


def test_what_a_pool_of_one_host_alone_lacks_is_said_of_that_host(lint: Callable[..., Result]) -> None:
    step = "  - {{step: a, pool: {}, tool: {{kind: duckdb, query: SELECT 1}}}}\n"
    assert "warning: in a cloud, duckdb needs the pool data: the" in lint(HEAD + step.format("io")).output
    assert (
        "warning: on a laptop, the deployment has no pool 'data'; it has cpu, gpu, io, shared [playbook.unknown_pool]"
    ) in lint(HEAD + step.format("data")).output


def test_the_input_of_a_playbook_in_the_same_folder_is_compared_with_its_schema(tmp_path: Path) -> None:
    head = "apiVersion: noetl.io/v2\nkind: Playbook\n"
    (tmp_path / "child.yaml").write_text(
        f"{head}metadata: {{name: c, path: t/child}}\nschemas: {{input: {{properties: {{n: {{type: integer}}}}}}}}\n"
        "workflow:\n  - step: one\n"
    )
    parent = tmp_path / "parent.yaml"
    parent.write_text(
        f"{head}metadata: {{name: p, path: t/parent}}\nworkflow:\n"
        "  - step: call\n    tool: {kind: playbook, path: t/child, input: {n: many}}\n"
    )
    done = CliRunner().invoke(app, ["lint", str(parent), "--json"])
    [found] = json.loads(done.output)
    assert (done.exit_code, found["code"], found["severity"], found["line"]) == (
        0,
        "playbook.unfit_value",
        "warning",
        6,
    )
    assert "t/child: /n: this must be an integer" in found["message"]
