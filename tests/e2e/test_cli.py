"""What the command line prints and with which status it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.serving import serving

pytestmark = pytest.mark.e2e

# words of a command line -> its status, out, err and json
Command = Callable[..., Any]

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: {name}, path: test/{name}}}\n"
GOOD = (
    HEAD.format(name="good")
    + """
workload: {n: 2}
workflow:
  - step: start
    tool:
      kind: python
      input: {n: "{{ workload.n }}"}
      code: |
        result = {"rows": [{"i": i, "square": i * i} for i in range(n)]}
"""
)
BAD = HEAD.format(name="bad") + "workflow:\n  - step: start\n    tool: {kind: noop}\n    next: {arcs: [{step: gone}]}\n"
FAILING = (
    HEAD.format(name="failing")
    + """
workflow:
  - step: start
    tool:
      kind: python
      code: |
        raise ValueError("as it should")
"""
)
SLEEPING = (
    HEAD.format(name="sleeping")
    + """
workflow:
  - step: start
    tool:
      kind: python
      code: |
        import time
        time.sleep(600)
"""
)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "playbook.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def site() -> Iterator[str]:
    class Scripts(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"row, = context['table']['rows']\nreturn {'text': f\"total: {row['total']}\"}\n")

        def log_message(self, *_: object) -> None:
            return

    with serving(Scripts) as url:
        yield url


def test_a_run_gives_one_document(stack: Command, file: Callable[[str], str]) -> None:
    done = stack("run", file(GOOD), "--json", "--set", "n=3")
    assert done.status == 0, done.err
    assert done.json.keys() == {
        *("execution_id", "status", "result", "duration_ms", "error", "warnings", "quarantined", "failed_items"),
    }
    assert done.json["status"] == "COMPLETED"
    assert done.json["result"] == {"rows": [{"i": i, "square": i * i} for i in range(3)]}
    assert done.json["error"] is None
    assert isinstance(done.json["duration_ms"], int)


def test_a_run_for_people_shows_steps_and_a_table(stack: Command, file: Callable[[str], str]) -> None:
    done = stack("run", file(GOOD))
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("✓ start")
    assert lines[1].startswith("COMPLETED in")
    assert any(line.split() == ["i", "square"] for line in lines)


def test_a_failed_run_ends_with_1(stack: Command, file: Callable[[str], str]) -> None:
    done = stack("run", file(FAILING), "--json")
    assert done.status == 1
    assert done.json["status"] == "FAILED"
    assert done.json["error"]["message"] == "ValueError: as it should"
    result = stack("run", file(FAILING))
    assert result.status == 1
    assert "ValueError: as it should" in result.out


def test_a_playbook_with_a_mistake_ends_with_2_and_its_place(stack: Command, file: Callable[[str], str]) -> None:
    name = file(BAD)
    result = stack("run", name)
    assert result.status == 2
    assert f"{name}:7:" in result.err
    assert "gone" in result.err
    done = stack("register", name, "--json")
    assert done.status == 2
    assert done.json["code"] == "playbook.invalid"
    assert done.json["errors"][0]["line"] == 7


@pytest.mark.parametrize(
    "words",
    [
        ("run", "no/such"),
        ("run", "missing.yaml"),
        ("run", "test/x", "--payload", "{"),
        ("run", "test/x", "--set", "x"),
        ("show", "1"),
        ("events", "1"),
        ("cancel", "1"),
        ("credential", "delete", "nobodys"),
        ("credential", "set", "empty", "--type", "bearer"),
        ("schedule", "create", "s", "no/such", "--every", "60"),
        ("schedule", "create", "s", "no/such"),
        ("schedule", "trigger", "nobodys"),
    ],
)
def test_wrong_use_ends_with_2_and_a_problem(stack: Command, words: tuple[str, ...]) -> None:
    done = stack(*words, "--json")
    assert done.status == 2
    assert {"type", "title", "detail", "code"} <= done.json.keys()
    result = stack(*words)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    assert result.out == ""


def test_registered_playbooks_run_by_path(stack: Command, file: Callable[[str], str]) -> None:
    [entry] = stack("register", file(GOOD), "--json").json
    assert entry["path"] == "test/good"
    assert any(row["path"] == "test/good" for row in stack("list", "--json").json)
    done = stack("run", "test/good", "--version", str(entry["version"]), "--payload", '{"n": 1}', "--json")
    assert done.json["result"] == {"rows": [{"i": 0, "square": 0}]}


def test_a_registered_script_stays_what_it_was(stack: Command, tmp_path: Path, site: str) -> None:
    name = str(tmp_path / "scripts.yaml")
    Path(name).write_text(
        HEAD.format(name="scripts")
        + f"""
workload: {{n: 3}}
workflow:
  - step: square
    tool:
      kind: python
      libs: [math]
      script: {{uri: lib/square.py, source: {{type: file}}}}
    next: {{arcs: [{{step: total}}]}}
  - step: total
    tool:
      - {{name: table, kind: duckdb, input: {{rows: "{{{{ square.rows }}}}"}}, script: {{uri: lib/total.sql}}}}
      - {{name: text, kind: python, script: {{uri: {site}/text.py}}}}
"""
    )
    (tmp_path / "lib").mkdir()
    square = tmp_path / "lib" / "square.py"
    square.write_text("n = context['workload']['n']\nreturn {'rows': [{'i': math.prod([i, i])} for i in range(n)]}\n")
    (tmp_path / "lib" / "total.sql").write_text("SELECT CAST(sum(i) AS INT) AS total FROM rows\n")

    def result(*words: str) -> Any:
        done = stack("run", *words, "--json")
        assert done.status == 0, done.out + done.err
        return done.json["result"]["text"]

    [entry] = stack("register", name, "--json").json
    assert result("test/scripts") == "total: 5"
    square.write_text("return {'rows': [{'i': 100}]}\n")
    assert result("test/scripts", "--set", "n=4") == "total: 14", "the script of the registered version has changed"
    assert result(name) == "total: 100"
    assert result("test/scripts", "--version", str(entry["version"])) == "total: 5"
    [again] = stack("register", name, "--json").json
    assert again["version"] == entry["version"] + 1
    (tmp_path / "lib" / "total.sql").unlink()
    refused = stack("register", name)
    assert (refused.status, "there is no script 'lib/total.sql' below" in refused.err) == (2, True), refused.err


def test_of_several_playbooks_the_refused_ones_keep_no_other_from_being_registered(
    stack: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(HEAD.format(name="several_a") + "workflow:\n  - {step: one, tool: {kind: noop}}\n")
    (tmp_path / "b.yaml").write_text(HEAD.format(name="several_b") + "workflow:\n  - {step: one, tol: {kind: noop}}\n")
    (tmp_path / "c.yml").write_text(HEAD.format(name="several_c") + "workflow:\n  - {step: one, tool: {kind: noop}}\n")
    (tmp_path / "d.yaml").write_text("workflow: []\n")
    done = stack("register", str(tmp_path))
    assert done.status == 2
    assert done.out.splitlines() == ["test/several_a version 1", "test/several_c version 1"]
    assert "b.yaml" in done.err and "'tol'" in done.err and "d.yaml" in done.err, done.err
    again = stack("register", str(tmp_path), "--json")
    assert [("version" in entry, "problem" in entry) for entry in again.json] == [
        (True, False),
        (False, True),
        (True, False),
        (False, True),
    ]


def test_a_tool_of_the_catalog_is_called_compared_deleted_and_restored(stack: Command, tmp_path: Path) -> None:
    call = "workflow:\n  - {step: one, tool: {kind: tool, path: test/cube, input: {n: 3}}}\n"
    cube = HEAD.format(name="cube").replace("kind: Playbook", "kind: Tool") + (
        "input: {type: object, properties: {n: {type: integer}}, required: [n]}\n"
        "tool: {kind: python, code: 'result = n ** 3'}\n"
    )
    (tmp_path / "calls.yaml").write_text(HEAD.format(name="calls") + call)
    (tmp_path / "cube.yaml").write_text(cube)
    (tmp_path / "wrong.yaml").write_text(cube.replace("cube", "wrong").replace("integer", "whole"))
    done = stack("catalog", "register", str(tmp_path))
    assert done.out.splitlines() == ["test/cube version 1", "test/calls version 1"]
    assert (done.status, "wrong.yaml:4:46: JSON Schema: this must be one of" in done.err) == (2, True), done.err
    ran = stack("run", "test/calls", "--json").json
    assert ran["result"] == 27
    explained = stack("explain", ran["execution_id"])
    assert "one is the tool test/cube version 1 of the catalog" in explained.out

    (tmp_path / "cube.yaml").write_text(cube.replace("** 3", "** 3.0"))
    assert stack("register", str(tmp_path / "cube.yaml")).out == "test/cube version 2\n"
    assert stack("run", "test/calls", "--json").json["result"] == 27, "a later version of the tool changes nothing"
    compared = stack("catalog", "diff", "test/cube", "1")
    assert (compared.status, "+tool: {kind: python, code: 'result = n ** 3.0'}" in compared.out) == (1, True)

    assert stack("catalog", "delete", "test/cube").out == "test/cube versions 1, 2 deleted\n"
    assert stack("run", "test/calls", "--json").json["result"] == 27, "nor does it if the tool is deleted"
    assert stack("diff", ran["execution_id"]).status == 0
    capsule = str(tmp_path / "run.capsule")
    assert stack("export", ran["execution_id"], "-o", capsule).status == 0
    assert stack("rerun", capsule, "--stub", "--json").json["same"]
    gone = stack("register", str(tmp_path / "calls.yaml"))
    assert (gone.status, "noetls catalog restore test/cube" in gone.err) == (2, True), gone.err
    assert stack("catalog", "restore", "test/cube", "--version", "1").out == "test/cube version 1 restored\n"
    kept = stack("catalog", "versions", "test/cube", "--deleted", "--json").json
    assert [(one["version"], one["deleted_at"] is None) for one in kept] == [(2, False), (1, True)]
    assert stack("catalog", "get", "test/cube").out == cube


def test_a_registered_playbook_is_dry_run_by_path_and_starts_nothing(
    stack: Command, file: Callable[[str], str]
) -> None:
    [entry] = stack("register", file(GOOD), "--json").json

    def listed() -> list[str]:
        # those that other tests have left running grow older meanwhile
        return [execution["execution_id"] for execution in stack("executions", "--json").json]

    before = listed()
    done = stack("run", entry["path"], "--dry-run", "--version", str(entry["version"]), "--json")
    assert [path["status"] for path in done.json["paths"]] == ["completed"], done.err
    assert listed() == before


def test_executions_are_listed_shown_and_logged(stack: Command, file: Callable[[str], str]) -> None:
    execution = stack("run", file(GOOD), "--json").json["execution_id"]
    assert stack("executions", "--json", "--limit", "1").json[0]["execution_id"] == execution
    own = stack("show", execution, "--json").json["principal"]

    def listed(*words: str) -> bool:
        return execution in [entry["execution_id"] for entry in stack("executions", "--json", *words).json]

    started = f"{own['kind']}:{own['name']}"
    assert listed("--status", "completed", "--playbook", "test", "--since", "10m", "--principal", started)
    for words in (("--status", "FAILED"), ("--playbook", "other"), ("--until", "10m"), ("--principal", "nobody")):
        assert not listed(*words), words
    assert stack("executions", "--since", "yesterday").status == 2
    assert stack("show", execution, "--json").json["status"] == "COMPLETED"
    assert "✓" in stack("show", execution).out
    events = stack("events", execution, "--json").json
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert events[-1]["event_type"] == "playbook.completed"
    assert stack("events", execution, "--follow").out.count("\n") == 4


def test_a_sub_playbook_says_who_started_it_and_is_listed_below_it(stack: Command, file: Callable[[str], str]) -> None:
    stack("register", file(GOOD))
    calling = HEAD.format(name="calling") + "workflow:\n  - {step: call, tool: {kind: playbook, path: test/good}}\n"
    parent = stack("run", file(calling), "--json").json["execution_id"]
    [child] = stack("executions", "--parent", parent, "--json").json
    assert (child["path"], child["parent_execution_id"]) == ("test/good", parent)
    assert f"a sub-playbook of execution {parent}" in stack("show", child["execution_id"]).out
    assert "a sub-playbook of" not in stack("show", parent).out
    assert stack("executions", "--parent", child["execution_id"], "--json").json == []


def test_cancelling_what_runs_and_what_has_ended(stack: Command, file: Callable[[str], str]) -> None:
    started = stack("run", file(SLEEPING), "--no-wait", "--json")
    assert started.status == 0
    execution = started.json["execution_id"]
    done = stack("cancel", execution, "--json", "--reason", "enough")
    assert (done.status, done.json["status"]) == (0, "cancelled")
    assert stack("show", execution, "--json").json["status"] == "CANCELLED"
    again = stack("cancel", execution, "--json")
    assert (again.status, again.json["status"]) == (1, "already_completed")


def test_a_run_that_somebody_cancels_ends_with_1(stack: Command, file: Callable[[str], str]) -> None:
    playbook = file(SLEEPING.replace("sleeping", "interrupted"))
    with ThreadPoolExecutor() as threads:
        running = threads.submit(stack, "run", playbook, "--json")
        found: list[str] = []
        while not found and not running.done():
            entries = stack("executions", "--limit", "5", "--json").json
            found = [entry["execution_id"] for entry in entries if entry["path"] == "test/interrupted"]
        for execution in found:
            stack("cancel", execution)
        done = running.result()
    assert (done.status, done.json["status"]) == (1, "CANCELLED"), done.err


def test_credentials_are_kept_without_being_shown(stack: Command) -> None:
    secret = json.dumps({"token": "s3cr3t-value"})
    done = stack("credential", "set", "mine", "--type", "bearer", "--value", "@-", "--json", input=secret)
    assert done.status == 0, done.err
    listed = stack("credential", "list", "--json")
    assert "mine" in {entry["name"] for entry in listed.json}
    assert "s3cr3t-value" not in done.out + listed.out
    assert stack("credential", "delete", "mine", "--json").status == 0
    assert "mine" not in {entry["name"] for entry in stack("credential", "list", "--json").json}


def test_schedules_from_creation_to_deletion(stack: Command, file: Callable[[str], str]) -> None:
    stack("register", file(GOOD))
    made = stack("schedule", "create", "nightly", "test/good", "--cron", "0 3 * * *", "--set", "n=1", "--json")
    assert made.status == 0, made.err
    assert made.json["enabled"] is True
    assert made.json["next_run_at"]
    assert stack("schedule", "disable", "nightly", "--json").json["next_run_at"] is None
    assert stack("schedule", "enable", "nightly", "--json").json["enabled"] is True
    triggered = stack("schedule", "trigger", "nightly", "--json").json
    assert (
        stack("events", triggered["execution_id"], "--follow", "--json").json[-1]["event_type"] == "playbook.completed"
    )
    assert [entry["name"] for entry in stack("schedule", "list", "--json").json] == ["nightly"]
    assert stack("schedule", "delete", "nightly").status == 0
    assert stack("schedule", "list", "--json").json == []


def test_lint_needs_no_stack(stack: Command, file: Callable[[str], str]) -> None:
    assert stack("lint", file(GOOD), data=False).status == 0
    done = stack("lint", file(BAD), "--json", data=False)
    assert done.status == 1
    assert (done.json[0]["severity"], done.json[0]["line"]) == ("error", 7)


def test_status_names_every_part_and_no_password(stack: Command) -> None:
    done = stack("status", "--json")
    assert done.status == 0
    assert done.json["status"] == "running"
    workers = {"worker", "worker_cpu", "worker_io", "worker_gpu"}
    assert {"postgres", "nats", "gateway", "control_plane", "reconciler"} | workers == done.json["parts"].keys()
    secrets = json.loads((Path(done.json["data"]) / "secrets.json").read_text())
    assert not any(secret in done.out for secret in secrets.values())
