"""What users check the engine with: replay, diff, digest, capsules, explain, cost, each on the real stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.file_server import FileServer, served
from tests.e2e.stack import PLAYBOOKS, Stack

from noetl_serverless.plurals import counted

FLAGSHIP = PLAYBOOKS / "flight_delays.yaml"
PATH = "examples/flight_delays"

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: {name}, path: trust/{name}}}\n"
PARENT = (
    HEAD.format(name="parent")
    + """
workflow:
  - step: many
    loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel}}
    tool: {kind: playbook, path: trust/child, input: {n: "{{ iter.n }}"}, return_step: square}
    next: {arcs: [{step: sum}]}
  - step: sum
    tool: {kind: python, input: {many: "{{ many.results }}"}, code: "result = sum(item['y'] for item in many)"}
"""
)
CHILD = (
    HEAD.format(name="child")
    + """
workload: {n: 1}
workflow:
  - {step: square, tool: {kind: python, input: {n: "{{ workload.n }}"}, code: "result = {'y': n * n}"}}
"""
)
SECRETIVE = (
    HEAD.format(name="secretive")
    + """
workflow:
  - step: leak
    tool: {kind: python, code: "result = {'it': 'is', 'value': 'my-own-' + 'credential'}"}
"""
)
WAITING = (
    HEAD.format(name="waiting")
    + """
workflow:
  - step: split
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: slow}, {step: quick}]}
  - step: slow
    tool:
      kind: python
      code: |
        raise ValueError("again")
      spec:
        policy:
          rules:
            - when: "{{ output.status == 'error' }}"
              then: {do: retry, attempts: 3, backoff: fixed, delay: 600}
    next: {arcs: [{step: both}]}
  - {step: quick, tool: {kind: noop}, next: {arcs: [{step: both}]}}
  - {step: both, tool: {kind: noop}}
"""
)
BUDGETED = (
    HEAD.format(name="budgeted")
    + """
executor: {spec: {budget: {max_invocations: 4, max_cost_usd: 5}}}
workflow:
  - step: again
    tool: {kind: noop}
    set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
    next: {arcs: [{step: again, when: "{{ ctx.n < 9 }}"}]}
"""
)


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with served(PLAYBOOKS / "data") as server:
        yield server


@pytest.fixture(scope="module")
def flagship(stack: Stack, files: FileServer) -> str:
    """The id of a run of the flagship that has ended."""
    return str(stack.run(FLAGSHIP, {"data_url": files.url})["execution_id"])


@pytest.fixture(scope="module")
def capsule(stack: Stack, flagship: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("capsule") / "run.noetl"
    packed = stack.ask("export", flagship, "-o", str(file))
    assert packed["results_left_out"] == 0
    return str(file)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., str]:
    """The flagship with texts replaced; each must be there."""

    def edit(*changes: tuple[str, str]) -> str:
        text = FLAGSHIP.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "edited.yaml"
        file.write_text(text)
        return str(file)

    return edit


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        file = tmp_path / "playbook.yaml"
        file.write_text(text)
        return str(file)

    return write


def offline(stack: Stack, *words: str, status: int = 0) -> Any:
    """What a command prints that is told of no stack."""
    done = stack(*words, "--json", data=False)
    assert done.status == status, f"exit {done.status}\n{done.out}\n{done.err}"
    return done.json


def wait_for(stack: Stack, execution: str, kind: str) -> None:
    for _ in range(100):
        if any(event["event_type"] == kind for event in stack.events(execution)):
            return
    raise AssertionError(f"no {kind} came")


# -- replay


def test_the_state_is_rebuilt_as_of_any_event_and_instant(stack: Stack, flagship: str) -> None:
    whole = stack.ask("replay", flagship)
    assert whole["surfaces"]["execution"]["status"] == "COMPLETED"
    assert whole["event_count"] == len(stack.events(flagship))
    eighth = stack.ask("replay", flagship, "--at", "8")
    assert {row["step"]: row["status"] for row in eighth["surfaces"]["steps"]}["load"] == "running"
    began = stack.events(flagship)[0]["timestamp"]
    assert stack.ask("replay", flagship, "--at", began)["surfaces"]["execution"]["status"] == "RUNNING"
    shown = stack("replay", flagship, "--at", "8")
    assert "RUNNING  as of event 8" in shown.out
    assert stack("replay", flagship, "--at", "yesterday").status == 2


def test_the_projections_are_what_the_log_says_before_and_after_a_rebuild(stack: Stack, flagship: str) -> None:
    assert stack.ask("replay", flagship, "--validate") == {"execution_id": flagship, "valid": True, "differences": []}
    (rebuilt,) = stack.ask("rebuild", "--execution", flagship)
    assert rebuilt == {"execution_id": flagship, "leases": 0, "differences": []}
    assert stack.ask("replay", flagship, "--validate")["valid"]
    assert flagship in {entry["execution_id"] for entry in stack.ask("rebuild", "--all")}
    assert "the projections match the log" in stack("replay", flagship, "--validate").out


# -- diff


def test_with_its_own_playbook_nothing_differs(stack: Stack, flagship: str, capsule: str) -> None:
    assert stack.ask("diff", flagship)["empty"]
    assert offline(stack, "diff", capsule)["empty"]
    assert stack.ask("diff", flagship, "--playbook", str(FLAGSHIP))["empty"]


def test_a_higher_threshold_ends_elsewhere(stack: Stack, flagship: str, edited: Callable[..., str]) -> None:
    """Edit 1: alert only from 45 % on. The run of the blizzard would have been calm."""
    file = edited(("alert_percent: 25", "alert_percent: 45"))
    found = stack.ask("diff", flagship, "--playbook", file, status=1)
    assert [run["step"] for run in found["added"]] == ["calm"]
    assert [run["step"] for run in found["removed"]] == ["alert"]
    (rerouted,) = found["rerouted"]
    assert (rerouted["step"], rerouted["recorded"], rerouted["now"]) == ("compare", ["alert"], ["calm"])
    assert rerouted["because"] == [{"where": "workload.alert_percent", "recorded": 25, "now": 45}]
    changed = {entry["step"]: [change["where"] for change in entry["changes"]] for entry in found["reparameterised"]}
    assert changed == {"compare": ["workload.alert_percent"], "report": ["ctx.because", "ctx.verdict"]}
    assert found["ending"]["now"]["status"] == "completed"
    shown = stack("diff", flagship, "--playbook", file)
    assert shown.status == 1
    assert "~ compare leads to calm, not to alert" in shown.out
    assert "- alert is removed, after compare#1" in shown.out


def test_another_check_of_the_rows_shows_the_lines_that_changed(
    stack: Stack, flagship: str, edited: Callable[..., str]
) -> None:
    """Edit 2: stricter about delays. The decisions stay, what `check` would run does not."""
    file = edited(("-180 <= delay <= 2880", "-120 <= delay <= 1440"), ("least_rows: 1000", "least_rows: 4000"))
    found = stack.ask("diff", flagship, "--playbook", file, status=1)
    assert not (found["added"] or found["removed"] or found["rerouted"])
    (entry,) = found["reparameterised"]
    assert entry["step"] == "check"
    assert {change["where"] for change in entry["changes"]} == {"tool.code", "workload.least_rows"}
    assert (found["divergence"]["step"], found["divergence"]["event"]) == ("check", "command.issued")
    lines = stack("diff", flagship, "--playbook", file).out.splitlines()
    assert any(line.lstrip().startswith("- if not all(-180 <= delay <= 2880") for line in lines)
    assert any(line.lstrip().startswith("+ if not all(-120 <= delay <= 1440") for line in lines)


def test_a_step_in_between_makes_the_rest_uncertain_unless_it_is_assumed_to_go_well(
    stack: Stack, flagship: str, edited: Callable[..., str]
) -> None:
    """Edit 3: an audit between load and the queries, fewer queries at once."""
    audit = """  - step: audit
    tool: {kind: postgres, auth: workspace, command: SELECT count(*)::int AS flights FROM flights}
    next: {arcs: [{step: by_carrier}]}

  - step: by_carrier
"""
    file = edited(
        ("        - {step: by_carrier}\n", "        - {step: audit}\n"),
        ("  - step: by_carrier\n", audit),
        ("max_in_flight: 8", "max_in_flight: 4"),
    )
    found = stack.ask("diff", flagship, "--playbook", file, status=1)
    assert [(run["step"], run["after"]) for run in found["added"]] == [("audit", ["load#1"])]
    assert found["removed"] == []
    assert [(entry["step"], entry["now"]) for entry in found["rerouted"]] == [("load", ["audit"])]
    assert found["undetermined"]["audit#1"] == "no outcome was recorded"
    assert {"by_carrier#1", "compare#1", "report#1"} <= found["undetermined"].keys()
    assumed = stack.ask("diff", flagship, "--playbook", file, "--assume-ok", status=1)
    assert list(assumed["undetermined"]) == ["audit#1"]
    changed = {entry["step"]: [change["where"] for change in entry["changes"]] for entry in assumed["reparameterised"]}
    assert changed == {"by_carrier": ["loop.max_in_flight"]}
    assert assumed["ending"]["now"] == assumed["ending"]["recorded"]


def test_a_gate_over_all_recent_executions(stack: Stack, flagship: str, edited: Callable[..., str]) -> None:
    same = stack.ask("diff", "--since", "1h", "--path", PATH, "--playbook", str(FLAGSHIP))
    assert flagship in {entry["execution_id"] for entry in same["executions"]}
    assert (same["differing"], same["checked"]) == (0, len(same["executions"]))
    file = edited(("ctx.disrupted_percent >= workload.alert_percent", "ctx.disrupted_percent > 90"))
    other = stack.ask("diff", "--since", "1h", "--path", PATH, "--playbook", file, status=1)
    assert other["differing"] >= 1
    shown = stack("diff", "--since", "1h", "--path", PATH, "--playbook", file)
    assert shown.status == 1
    assert f"{counted(other['checked'], 'execution')}, {other['differing']} differ" in shown.out


def test_a_registered_version_decides_too(stack: Stack, write: Callable[[str], str]) -> None:
    text = HEAD.format(name="versions") + "workflow:\n  - {step: a, tool: {kind: python, code: result = 1}}\n"
    execution = stack.run(write(text))["execution_id"]
    stack.ask("register", write(text.replace("result = 1", "result = 2")))
    assert stack.ask("diff", execution, "--version", "1")["empty"]
    (entry,) = stack.ask("diff", execution, "--version", "2", status=1)["reparameterised"]
    assert entry["changes"] == [{"where": "tool.code", "recorded": "result = 1", "now": "result = 2"}]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("5", "--since", "7d"),
        ("--since", "7d"),
        ("--since", "soon", "--path", "x"),
        ("5", "--path", "x"),
        ("5",),
        ("5", "--playbook", "missing.yaml"),
        ("5", "--playbook", "x.yaml", "--version", "1"),
        ("missing.noetl",),
    ],
)
def test_a_diff_of_nothing_is_wrong_use(stack: Stack, words: tuple[str, ...]) -> None:
    done = stack("diff", *words, "--json")
    assert done.status == 2
    assert done.json["detail"]


def test_a_version_with_a_mistake_is_reported_with_its_line(
    stack: Stack, capsule: str, edited: Callable[..., str]
) -> None:
    file = edited(("        - {step: by_carrier}\n", "        - {step: by_carriers}\n"))
    done = stack("diff", capsule, "--playbook", file, data=False)
    assert done.status == 2
    assert f"{file}:" in done.err and "by_carriers" in done.err


# -- digest


def test_two_runs_with_the_same_answers_have_the_same_digest(stack: Stack, flagship: str, files: FileServer) -> None:
    again = str(stack.run(FLAGSHIP, {"data_url": files.url})["execution_id"])
    digest = stack.ask("digest", flagship)["digest"]
    assert stack.ask("digest", again)["digest"] == digest
    assert stack.ask("digest", again, "--verify", digest)["matches"]
    other = str(stack.run(FLAGSHIP, {"data_url": files.url, "late_minutes": 60})["execution_id"])
    assert not stack.ask("digest", other, "--verify", digest, status=1)["matches"]
    assert stack("digest", other, "--verify", digest).status == 1
    assert stack.ask("digest", flagship, "--raw")["digest"] != stack.ask("digest", again, "--raw")["digest"]


def test_a_digest_is_verified_offline_too(stack: Stack, flagship: str, capsule: str) -> None:
    for raw in ((), ("--raw",)):
        digest = stack.ask("digest", flagship, *raw)["digest"]
        assert offline(stack, "digest", capsule, "--verify", digest)["matches"]
    assert stack("digest", capsule, "--verify", "12345", data=False).status == 2
    other = stack("digest", capsule, "--verify", "c1:abc", data=False)
    assert f"the digest of the execution, {other.out.split()[0]}, differs from the expected one, c1:abc" in other.out
    assert "by_carrier#1" in stack("digest", capsule, "--entries", data=False).out


# -- capsules


def test_a_capsule_is_replayed_and_run_again_without_a_stack(stack: Stack, flagship: str, capsule: str) -> None:
    assert offline(stack, "replay", capsule)["checksums"] == stack.ask("replay", flagship)["checksums"]
    assert offline(stack, "replay", capsule, "--at", "8")["last_event_id"] == 8
    again = offline(stack, "rerun", capsule, "--stub")
    assert again["same"] and again["missing"] == []
    assert again["digest"]["recorded"] == again["digest"]["now"] == stack.ask("digest", flagship)["digest"]
    assert offline(stack, "rerun", capsule) == again, "recorded answers are the default"
    assert stack("replay", capsule, "--validate", data=False).status == 2


def test_a_rerun_by_another_version_says_where_it_parts(stack: Stack, capsule: str, edited: Callable[..., str]) -> None:
    file = edited(("alert_percent: 25", "alert_percent: 45"))
    again = offline(stack, "rerun", capsule, "--stub", "--playbook", file, status=1)
    assert (again["status"], again["same"]) == ("COMPLETED", False)
    assert again["first_difference"] == {"recorded": "compare#1", "now": "compare#1"}


def test_children_come_along(stack: Stack, write: Callable[[str], str], tmp_path: Path) -> None:
    stack.ask("register", write(CHILD))
    outcome = stack.run(write(PARENT))
    assert outcome["result"] == 14
    file = str(tmp_path / "family.noetl")
    packed = stack.ask("export", outcome["execution_id"], "-o", file)
    assert packed["executions"] == 4
    assert offline(stack, "rerun", file, "--stub")["same"]
    assert offline(stack, "cost", file)["with_children"]["executions"] == 4
    live = stack.ask("rerun", outcome["execution_id"], "--stub")
    assert live["same"]


def test_no_stored_credential_gets_into_a_capsule(stack: Stack, write: Callable[[str], str], tmp_path: Path) -> None:
    stack.ask("credential", "set", "own", "--type", "bearer", "--set", "token=my-own-credential")
    try:
        outcome = stack.run(write(SECRETIVE))
        file = tmp_path / "secretive.noetl"
        packed = stack.ask("export", outcome["execution_id"], "-o", str(file))
    finally:
        stack.ask("credential", "delete", "own")
    assert packed["masked"] >= 1
    leaked = offline(stack, "replay", str(file))
    assert "my-own-credential" not in json.dumps(leaked)
    assert leaked["surfaces"]["execution"]["result"]["data"]["value"] == "***"


# -- explain


def test_why_a_step_ran_and_another_did_not(stack: Stack, flagship: str, capsule: str) -> None:
    (alert,) = stack.ask("explain", flagship, "alert")["steps"]
    (condition,) = [condition for entry in alert["chain"] for condition in entry.get("asked", ())]
    assert (condition["holds"], condition["target"]) == (True, "alert")
    assert condition["values"] == {"ctx.disrupted_percent": 39.2, "workload.alert_percent": 25}
    (calm,) = offline(stack, "explain", capsule, "calm")["steps"]
    assert calm["status"] == "skipped"
    shown = stack("explain", capsule, "calm", data=False)
    assert "ctx.disrupted_percent = 39.2" in shown.out
    assert stack("explain", capsule, "nowhere", data=False).status == 2
    assert len(offline(stack, "explain", capsule)["steps"]) == 9


def test_why_an_execution_waits(stack: Stack, write: Callable[[str], str]) -> None:
    execution = stack.start(write(WAITING), {})
    try:
        wait_for(stack, execution, "timer.set")
        waits = stack.ask("explain", execution)["waits"]
        assert {(wait["for"], wait["step"]) for wait in waits} == {("timer", "slow"), ("join", "both")}
        (slow,) = stack.ask("explain", execution, "slow")["steps"]
        assert slow["status"] == "delayed"
        assert any("continues in 600 s, with attempt 2" in entry["text"] for entry in slow["chain"])
        assert stack.ask("replay", execution, "--validate")["valid"]
        assert stack.ask("diff", execution)["empty"]
        (rebuilt,) = stack.ask("rebuild", "--execution", execution)
        assert rebuilt["differences"] == []
    finally:
        stack.ask("cancel", execution)
    assert stack.ask("diff", execution)["empty"]


# -- cost


def test_what_a_run_used_and_what_it_costs(stack: Stack, flagship: str, capsule: str, tmp_path: Path) -> None:
    found = stack.ask("cost", flagship)
    steps = {row["step"]: row for row in found["steps"]}
    assert steps["by_carrier"]["invocations"] >= 1
    assert steps["check"]["bytes"]["disk"] > 100_000
    assert found["total"]["cost"] > sum(row["cost"] for row in found["steps"]) * 0.99 > 0
    assert found["prices"]["date"] == "2025-06-01"
    other = offline(stack, "cost", capsule, "--prices", "gcp-2025-06")
    assert other["prices"]["provider"] == "gcp"
    table = tmp_path / "prices.yaml"
    table.write_text("name: mine\n")
    assert stack("cost", capsule, "--prices", str(table), data=False).status == 2
    assert "prices: aws-2025-06 of 2025-06-01" in stack("cost", flagship).out


def test_a_budget_stops_before_the_step_that_would_exceed_it(stack: Stack, write: Callable[[str], str]) -> None:
    outcome = stack.run(write(BUDGETED), status=1)
    assert outcome["error"]["code"] == "budget.exceeded"
    assert "it would be invocation 5; the limit is 4" in outcome["error"]["message"]
    assert stack.ask("cost", outcome["execution_id"])["total"]["invocations"] == 4
    assert stack.ask("diff", outcome["execution_id"])["empty"]
