"""Playbooks that hurt beside playbooks that do not: the first fail by themselves, with their reason and its place, and
the others, a schedule and timers go on as if they were alone."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e.faults import BrokenStack
from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e

# of each good kind
COPIES = 10
TIMERS = 3
# seconds for all of it, beside whatever else the machine does
PATIENCE = 90.0


@dataclass(frozen=True)
class FaultyPlaybook:
    """What the execution is to fail with: `code`, a part of its message, and the `step` and the line that it names."""

    name: str
    body: str
    code: str
    says: str
    line: int | None = None
    step: str = "hurt"

    @property
    def path(self) -> str:
        return f"poison/{self.name}"


def playbook(path: str, body: str, head: str = "") -> str:
    name = path.rpartition("/")[2]
    return f"apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: {name}, path: {path}}}\n{head}{body.lstrip()}"


def python(code: str, more: str = "") -> str:
    return f"workflow:\n  - step: hurt\n    tool: {{kind: python, code: {json.dumps(code)}}}\n{more}"


def sets(template: str) -> str:
    return f'    set: {{ctx.x: "{template}"}}\n'


DOUBLING = """
executor: {spec: {max_turns: 20}}
workflow:
  - step: head
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}
  - {step: left, tool: {kind: noop}, next: {arcs: [{step: head}]}}
  - {step: right, tool: {kind: noop}, next: {arcs: [{step: head}]}}
"""
NESTED = "result = []\nfor _ in range({}):\n    result = [result]"
ENTRY_LOOP = FaultyPlaybook(
    "entry_loop",
    """
workflow:
  - {step: hurt, loop: {in: "{{ [2 ** 70] }}", iterator: x}, tool: {kind: noop}}
""",
    "template.error",
    "[0]: an integer does not fit in 64 bits",
    5,
)
FAULTY_PLAYBOOKS = (
    FaultyPlaybook(
        "large_of_child",
        """
workflow:
  - step: hurt
    tool: {kind: playbook, path: poison/billion}
    set: {ctx.total: "{{ output.data.n * 1000000000000 }}"}
    next: {arcs: [{step: after}]}
  - {step: after, tool: {kind: noop}}
""",
        "template.error",
        "64 bits",
        7,
    ),
    FaultyPlaybook(
        "nul",
        python("result = 'AA=='", sets("{{ output.data | b64decode }}")),
        "template.error",
        "NUL",
        7,
    ),
    FaultyPlaybook("nan", python("result = 1", sets("{{ 1e308 * 10 - 1e308 * 10 }}")), "template.error", "NaN", 7),
    FaultyPlaybook("infinite", python("result = 1", sets("{{ 1e308 * 10 }}")), "template.error", "infinite", 7),
    FaultyPlaybook(
        "large_set", python("result = 1", sets("{{ 'x' * 70000 }}")), "value.invalid", "ctx.x would have 70002"
    ),
    FaultyPlaybook(
        "condition",
        python(
            "result = {'n': 1}",
            """    next: {arcs: [{step: after, when: "{{ output.data.n > nobody.knows }}"}]}
  - {step: after, tool: {kind: noop}}
""",
        ),
        "template.error",
        "'nobody' is not defined",
        7,
    ),
    ENTRY_LOOP,
    FaultyPlaybook(
        "for_ever",
        """
executor: {spec: {max_turns: 5}}
workflow:
  - {step: hurt, tool: {kind: noop}, next: {arcs: [{step: hurt}]}}
""",
        "turns.exceeded",
        "began 5 times: executor.spec.max_turns",
    ),
    FaultyPlaybook("doubling", DOUBLING, "turns.exceeded", "began 20 times: executor.spec.max_turns", step="head"),
    FaultyPlaybook("deep", python(NESTED.format(300)), "value.invalid", "deeper than 112 levels", 6),
    FaultyPlaybook("less_deep", python(NESTED.format(150)), "value.invalid", "deeper than 112 levels", 6),
    FaultyPlaybook("nan_of_python", python("result = {'mean': float('nan')}"), "value.invalid", "mean: NaN", 6),
    FaultyPlaybook("bytes", python("result = b'abc'"), "value.invalid", "type bytes", 6),
    FaultyPlaybook("half", python("result = chr(0xd800)"), "value.invalid", "unpaired surrogate", 6),
)
BILLION = playbook("poison/billion", python("result = {'n': 10 ** 9}"))

# path -> the playbook, and what it ends with
GOOD: dict[str, tuple[str, Any]] = {
    "good/chain": (
        """
workflow:
  - step: first
    tool: {kind: python, code: "result = 1"}
    set: {ctx.n: "{{ output.data }}"}
    next: {arcs: [{step: second, when: "{{ ctx.n == 1 }}"}]}
  - {step: second, tool: {kind: python, input: {n: "{{ ctx.n }}"}, code: "result = n + 1"}}
""",
        2,
    ),
    "good/loop": (
        """
workflow:
  - step: each
    loop: {in: "{{ [1, 2, 3] }}", iterator: x, spec: {mode: parallel}}
    tool: {kind: python, input: {x: "{{ iter.x }}"}, code: "result = x * x"}
    next: {arcs: [{step: sum}]}
  - {step: sum, tool: {kind: python, input: {all: "{{ each.results }}"}, code: "result = sum(all)"}}
""",
        14,
    ),
    "good/parent": (
        """
workflow:
  - step: call
    tool: {kind: playbook, path: good/one}
    set: {ctx.n: "{{ output.data }}"}
    next: {arcs: [{step: after}]}
  - {step: after, tool: {kind: python, input: {n: "{{ ctx.n }}"}, code: "result = n * 10"}}
""",
        10,
    ),
    "good/back": (
        """
workflow:
  - step: again
    tool: {kind: noop}
    set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
    next: {arcs: [{step: again, when: "{{ ctx.n < 3 }}"}, {step: end}]}
  - {step: end, tool: {kind: python, input: {n: "{{ ctx.n }}"}, code: "result = n"}}
""",
        3,
    ),
    "good/one": (python("result = 1"), 1),
}
TIMER = """
workflow:
  - step: late
    tool:
      kind: python
      input: {attempt: "{{ _attempt }}"}
      code: "result = attempt"
      spec:
        policy:
          rules: [{when: "{{ output.data < 2 }}", then: {do: retry, attempts: 2, backoff: fixed, delay: 6}}]
"""


@dataclass(frozen=True)
class Crowd:
    """What ran at once: executions by the path of their playbook, and how each ended."""

    stack: BrokenStack
    ids: dict[str, list[str]]
    entries: dict[str, dict[str, Any]]
    runs: dict[str, list[dict[str, Any]]]

    def of(self, path: str) -> list[dict[str, Any]]:
        return [self.entries[id] for id in self.ids[path]]


@pytest.fixture(scope="module")
def crowd(stack: Stack) -> Crowd:
    """Poisons among the good ones, in turn, with a schedule of either kind and timers."""
    found = BrokenStack(stack.data)
    found.register(BILLION)
    found.register(playbook("good/timer", TIMER))
    for path, (body, _) in GOOD.items():
        found.register(playbook(path, body))
    for faulty in FAULTY_PLAYBOOKS:
        found.register(playbook(faulty.path, faulty.body))
    for name, path in (("good", "good/one"), ("bad", ENTRY_LOOP.path)):
        schedule = {"name": f"poisoned-{name}", "playbook_path": path, "interval_seconds": 1}
        found.call("POST", "/api/schedules", schedule)
    ids: dict[str, list[str]] = {"good/timer": [found.execute("good/timer") for _ in range(TIMERS)]}
    waiting = iter(FAULTY_PLAYBOOKS)
    for path in [*GOOD] * COPIES:
        ids.setdefault(path, []).append(found.execute(path))
        if (other := next(waiting, None)) is not None:
            ids.setdefault(other.path, []).append(found.execute(other.path))
    entries = found.wait((id for each in ids.values() for id in each), PATIENCE)
    runs = {name: _runs(found, f"poisoned-{name}") for name in ("good", "bad")}
    entries |= found.wait([run["execution_id"] for each in runs.values() for run in each], PATIENCE)
    return Crowd(found, ids, entries, runs)


def _runs(found: BrokenStack, schedule: str) -> list[dict[str, Any]]:
    """Its runs, three at least; it is deleted."""
    until = time.monotonic() + PATIENCE
    while True:
        runs = [run for run in found.call("GET", f"/api/schedules/{schedule}")["runs"] if run["status"] != "open"]
        if len(runs) >= 3 or time.monotonic() > until:
            found.call("DELETE", f"/api/schedules/{schedule}")
            return runs
        time.sleep(0.2)


@pytest.mark.parametrize("path", GOOD)
def test_the_good_end_as_they_would_alone(crowd: Crowd, path: str) -> None:
    entries = crowd.of(path)
    assert len(entries) == COPIES
    assert [(entry["status"], entry["result"]) for entry in entries] == [
        ("COMPLETED", {"data": GOOD[path][1]})
    ] * COPIES


def test_timers_fire(crowd: Crowd) -> None:
    assert [(entry["status"], entry["result"]) for entry in crowd.of("good/timer")] == [
        ("COMPLETED", {"data": 2})
    ] * TIMERS
    for id in crowd.ids["good/timer"]:
        assert "timer.fired" in [event["event_type"] for event in crowd.stack.log(id)], "it was not slept in a worker"


@pytest.mark.parametrize("name", ["good", "bad"])
def test_schedules_start_run_after_run(crowd: Crowd, name: str) -> None:
    runs = crowd.runs[name]
    assert len(runs) >= 3, f"schedule {name} started {len(runs)} runs only"
    assert {run["status"] for run in runs} == {"started"}
    ends = {crowd.entries[run["execution_id"]]["status"] for run in runs}
    assert ends == {"COMPLETED" if name == "good" else "FAILED"}
    assert {crowd.entries[run["execution_id"]]["principal"]["kind"] for run in runs} == {"schedule"}


@pytest.mark.parametrize("faulty", FAULTY_PLAYBOOKS, ids=lambda faulty: faulty.name)
def test_each_faulty_playbook_fails_with_its_reason_and_place(crowd: Crowd, faulty: FaultyPlaybook) -> None:
    (entry,) = crowd.of(faulty.path)
    assert entry["status"] == "FAILED", entry
    error = entry["error"]
    assert (error["code"], error["step"]) == (faulty.code, faulty.step), error
    assert faulty.says in error["message"], error
    assert error.get("line", error.get("at")) == faulty.line, error
    assert not entry["quarantined"], "that is for faults of the engine"


def test_faulty_playbooks_can_be_cancelled(crowd: Crowd) -> None:
    for faulty in FAULTY_PLAYBOOKS:
        (id,) = crowd.ids[faulty.path]
        answer = crowd.stack.call("POST", f"/api/executions/{id}/cancel", {})
        assert answer["status"] == "already_completed", "it has ended by itself"


def test_nothing_stays_behind(crowd: Crowd) -> None:
    mine = {int(id) for id in crowd.entries}
    for table in ("inbox", "quarantine"):
        left = {row[0] for row in crowd.stack.query(f"SELECT execution_id FROM noetl.{table}")}
        assert not left & mine, f"noetl.{table} still holds something of {left & mine}"
    out = crowd.stack.query("SELECT execution_id, command_id, status FROM noetl.outstanding WHERE status <> 'dead'")
    assert not [row for row in out if row[0] in mine]


def test_the_logs_keep_all_rules(crowd: Crowd) -> None:
    assert crowd.stack.audit([id for faulty in FAULTY_PLAYBOOKS for id in crowd.ids[faulty.path]]) == []
