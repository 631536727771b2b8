"""SIGKILL while executions wait, are paused, and undo what they have done; and a restart of the whole stack in a pause.

`SEED=7` kills in the same order again.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.e2e.faults import BrokenStack, broken_stack, eventually
from tests.log_rules import Finding
from tests.mock_api.server import MockApi, mock_api

pytestmark = pytest.mark.e2e

KILLS, SAGAS, WAITING, STEPS, ITEMS = 4, 2, 3, 3, 3
# other processes than those of workers, each killed once while signals are sent
OTHERS = ("control_plane server", "reconciler server", "postgres backend")
# seconds between two kills, and in which nothing of what is paused may happen
PAUSES, STILL = (0.1, 0.5), 2.5
PATIENT = "spec: {policy: {rules: [{when: \"{{ output.status == 'error' and output.error.retryable }}\", \
then: {do: retry, attempts: 30, backoff: fixed, delay: 0.2}}]}}"


def _http(url: str, method: str = "GET") -> str:
    return f'{{kind: http, method: {method}, url: "{{{{ workload.api }}}}/{url}", {PATIENT}}}'


def _claim(row: str) -> str:
    return _http(f"claims/{{{{ execution_id }}}}/{row}", "POST")


def _saga_step(number: int) -> str:
    return f"""
  - step: s{number}
    tool: {_claim(f"do-{number}")}
    compensate:
      tool:
        - {{name: slow, {_http("slow?delay=0.4")[1:-1]}}}
        - {{name: undo, {_claim(f"undo-{number}")[1:-1]}}}
    next: {{arcs: [{{step: s{number + 1}}}]}}"""


SAGA = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: saga, path: controlled/saga}}
workload: {{api: ""}}
workflow:
{"".join(map(_saga_step, range(STEPS)))}
  - step: s{STEPS}
    tool: {{kind: python, code: "raise ValueError('no truck')"}}
    compensate: none
"""
WAITS = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: waits, path: controlled/waits}}
workload: {{api: ""}}
workflow:
  - {{step: slow, tool: {_http("slow?delay=0.5")}, next: {{arcs: [{{step: early}}]}}}}
  - {{step: early, tool: {{kind: wait, signal: early}}, next: {{arcs: [{{step: each}}]}}}}
  - step: each
    loop: {{in: "{{{{ range({ITEMS}) | list }}}}", iterator: n, spec: {{mode: parallel, max_in_flight: 8}}}}
    tool: {{kind: wait, signal: item}}
    next: {{arcs: [{{step: all}}]}}
  - step: all
    tool:
      kind: python
      input: {{early: "{{{{ early }}}}", each: "{{{{ each.results }}}}"}}
      code: "result = [early, sorted(each)]"
      {PATIENT}
"""
PAUSED = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: paused, path: controlled/paused}}
workload: {{api: ""}}
workflow:
  - step: before
    tool: {_claim("before")}
    next: {{spec: {{mode: inclusive}}, arcs: [{{step: hold}}, {{step: ask}}]}}
  - {{step: hold, tool: {{kind: wait, for: 7}}, next: {{arcs: [{{step: after}}]}}}}
  - {{step: ask, tool: {{kind: wait, signal: go}}, next: {{arcs: [{{step: asked}}]}}}}
  - {{step: asked, tool: {_claim("asked")}}}
  - {{step: after, tool: {_claim("after")}}}
"""


@dataclass(slots=True)
class Ended:
    """`still`: what the log of the paused execution was when it was paused, and at the end of the pause; `effects`:
    those that it had until then."""

    api: MockApi
    sagas: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    paused: str = ""
    kills: int = 0
    killed: list[int | None] = field(default_factory=list)
    still: list[list[dict[str, Any]]] = field(default_factory=list)
    effects: set[str] = field(default_factory=set)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    seed = int(os.environ.get("SEED") or secrets.randbelow(2**32))
    print(f"SEED={seed}")
    rng = random.Random(seed)
    with mock_api() as api, broken_stack(lease=3, max_deliveries=50) as stack:
        for text in (SAGA, WAITS, PAUSED):
            stack.register(text)
        ended, workload = Ended(api), {"api": api.url}
        ended.paused = stack.execute("controlled/paused", workload)
        ended.waiting = [stack.execute("controlled/waits", workload) for _ in range(WAITING)]
        # before it is waited for
        for id in ended.waiting:
            _send(stack, id, "early", "e")
        eventually(lambda: {"hold", "ask"} <= _waits(stack, ended.paused))
        stack.call("POST", f"/api/executions/{ended.paused}/pause", {"reason": "a look"})
        ended.still.append(stack.log(ended.paused))
        ended.sagas = [stack.execute("controlled/saga", workload) for _ in range(SAGAS)]
        ended.kills = _kill_while_undoing(stack, rng, ended.sagas)
        for number, role in zip(range(ITEMS), OTHERS, strict=True):
            eventually(lambda: all("each" in _waits(stack, id) for id in ended.waiting))
            ended.killed.append(stack.kill(role, rng))
            for id in ended.waiting:
                _send(stack, id, "item", number)
        stack.wait(ended.sagas)
        stack.down()
        stack.up()
        # kept until it goes on, and it is not yet
        _send(stack, ended.paused, "go", None)
        time.sleep(STILL)
        ended.still.append(stack.log(ended.paused))
        ended.effects = set(api.keys(ended.paused))
        stack.call("POST", f"/api/executions/{ended.paused}/resume")
        everything = [*ended.sagas, *ended.waiting, ended.paused]
        ended.entries = stack.wait(everything)
        ended.logs = {id: stack.log(id) for id in everything}
        ended.findings = stack.audit(everything)
        yield ended


def _send(stack: BrokenStack, id: str, name: str, data: Any) -> None:
    """Twice under one key."""
    for _ in range(2):
        headers = {"Idempotency-Key": f"{name} {data}"}
        stack.call("POST", f"/api/executions/{id}/signals/{name}", {"data": data}, headers)


def _waits(stack: BrokenStack, id: str) -> set[str]:
    """The steps that have begun to wait."""
    return {event["step"] for event in stack.log(id) if event["event_type"] == "wait.started"}


def _kill_while_undoing(stack: BrokenStack, rng: random.Random, ids: list[str]) -> int:
    """Kill workers that hold a compensation, one after the other; how many."""
    kills, lasts = 0, stack.patience()
    while kills < KILLS and lasts() and any(stack.entry(id)["status"] == "RUNNING" for id in ids):
        rows = stack.query(
            """SELECT DISTINCT worker FROM noetl.outstanding WHERE execution_id = ANY (:ids) AND worker IS NOT NULL
            AND command_id LIKE '%.compensate#%'""",
            ids=[int(id) for id in ids],
        )
        if rows:
            with contextlib.suppress(ProcessLookupError):
                # the second part of a worker's name is its pid
                os.kill(int(rng.choice(sorted(rows))[0].split(":")[1]), signal.SIGKILL)
                kills += 1
        time.sleep(rng.uniform(*PAUSES))
    return kills


def test_processes_were_killed_while_something_was_undone_and_signals_were_sent(ended: Ended) -> None:
    assert ended.kills == KILLS, "the sagas ended before"
    assert all(ended.killed)


def test_each_step_is_undone_once_and_the_latest_first(ended: Ended) -> None:
    names = [f"s{number}" for number in reversed(range(STEPS))]
    for id in ended.sagas:
        entry = ended.entries[id]
        assert (entry["status"], entry["error"]["code"]) == ("FAILED", "python.exception")
        assert entry["error"]["compensation"] == {"done": names, "failed": []}
        begun = [
            event["step"]
            for event in ended.logs[id]
            if event["event_type"] == "command.issued" and ".compensate" in event["step"]
        ]
        assert begun == [f"{name}.compensate" for name in names]
        keys = ended.api.keys(id)
        undone = [row for row in keys if row.startswith("undo-")]
        assert undone == [f"undo-{number}" for number in reversed(range(STEPS))], "in the order of their effects"
        assert {row: several for row, several in keys.items() if len(several) != 1} == {}, "an effect under two keys"


def test_no_signal_is_lost_and_none_is_taken_twice(ended: Ended) -> None:
    for id in ended.waiting:
        entry = ended.entries[id]
        assert entry["status"] == "COMPLETED", entry["error"]
        assert entry["result"]["data"] == ["e", list(range(ITEMS))]
        types = [event["event_type"] for event in ended.logs[id]]
        assert (types.count("signal.received"), types.count("wait.ended")) == (1 + ITEMS, 1 + ITEMS)


def test_what_is_paused_stays_so_over_a_restart_of_the_stack(ended: Ended) -> None:
    paused, later = ended.still
    new = [event["event_type"] for event in later[len(paused) :]]
    assert (later[: len(paused)], new) == (paused, ["signal.received", "wait.ended", "command.issued"])
    assert ended.effects == {"before"}, "a step was run in the pause"
    assert ended.entries[ended.paused]["status"] == "COMPLETED"
    assert {row: len(keys) for row, keys in ended.api.keys(ended.paused).items()} == {
        "before": 1,
        "asked": 1,
        "after": 1,
    }


def test_the_logs_show_that_nothing_was_lost_or_decided_twice(ended: Ended) -> None:
    assert ended.findings == []
