"""Pipelined durability on the real stack: the same log in fewer commits, and a worker that is killed in mid-chain."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from tests.audit import events_of
from tests.e2e.faults import TOGETHER, BrokenStack, broken_stack, eventually
from tests.e2e.stack import Stack

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest
from noetl_serverless.worker.drain.speculative_run import MAX_UNREPORTED_STEPS

pytestmark = pytest.mark.e2e

STEPS = 100
TURNS = 200
EXECUTIONS = 4
KILLS = 3
# each turn leaves a line in a file: that it ran can be seen, however often it did
TURNING = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: turning, path: pipelined/turning}
executor: {spec: {durability: pipelined}}
workload: {turns: 10, file: /dev/null}
workflow:
  - {step: begin, tool: {kind: noop}, set: {ctx.i: 0}, next: {arcs: [{step: turn}]}}
  - step: turn
    tool:
      kind: python
      input: {i: "{{ ctx.i }}", file: "{{ workload.file }}"}
      code: |
        import time
        time.sleep(0.005)
        with open(file, "a") as out:
            out.write(f"{i}\\n")
        result = {"i": i + 1}
    set: {ctx.i: "{{ output.data.i }}"}
    next: {arcs: [{step: turn, when: "{{ ctx.i < workload.turns }}"}, {step: end}]}
  - {step: end, tool: {kind: python, input: {i: "{{ ctx.i }}"}, code: "result = {'i': i}"}}
"""


def chain(durability: str) -> str:
    steps = []
    for number in range(1, STEPS + 1):
        given = f"{{{{ s{number - 1}.n }}}}" if number > 1 else "{{ 0 }}"
        tool = {"kind": "python", "code": "result = {'n': n + 1}", "input": {"n": given}}
        following = {"next": {"arcs": [{"step": f"s{number + 1}"}]}} if number < STEPS else {}
        steps.append({"step": f"s{number}", "tool": tool, **following})
    return json.dumps(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": "chain", "path": f"pipelined/{durability}"},
            "executor": {"spec": {"durability": durability}},
            "workflow": steps,
        }
    )


def test_a_chain_leaves_the_same_log_in_fewer_commits(stack: Stack) -> None:
    found = BrokenStack(stack.data)
    logs, commits = {}, {}
    for durability in ("step", "pipelined"):
        found.register(chain(durability))
        execution_id = found.execute(f"pipelined/{durability}")
        assert found.wait([execution_id])[execution_id]["result"] == {"data": {"n": STEPS}}
        # what was written together bears one transaction's number
        sql = "SELECT count(DISTINCT e.xmin::text) FROM noetl.event e WHERE execution_id = :id"
        ((commits[durability],),) = found.query(sql, id=int(execution_id))
        logs[durability] = (execution_id, events_of(found.log(execution_id)))
        assert found.audit([execution_id]) == []

    for _, events in logs.values():
        types = [event.type for event in events]
        assert types == [e.STARTED, e.ISSUED, *[e.CALL_DONE, e.ISSUED] * (STEPS - 1), e.CALL_DONE, e.COMPLETED]
    # the playbooks themselves differ, and with them the first entry
    digests = {
        digest(execution_id, [event for event in events if event.type != e.STARTED]).value
        for execution_id, events in logs.values()
    }
    assert len(digests) == 1
    assert commits["step"] == STEPS + 1
    assert commits["pipelined"] < STEPS


@pytest.mark.parametrize(("processes", "role"), [("together", TOGETHER), ("separate", "worker server")])
def test_a_worker_killed_in_mid_chain_loses_nothing_and_decides_nothing_twice(
    processes: str, role: str, tmp_path: Path
) -> None:
    with broken_stack(lease=3, max_deliveries=50, processes=processes) as stack:
        stack.register(TURNING)
        files = [tmp_path / f"turns {number}" for number in range(EXECUTIONS)]
        ids = [stack.execute("pipelined/turning", {"turns": TURNS, "file": str(file)}) for file in files]
        for _ in range(KILLS):
            lines = sum(len(_turns(file)) for file in files)
            eventually(partial(_longer, files, lines + 20))
            pid = stack.kill(role, random.Random(7))
            assert pid is not None
            stack.seconds_until_back(role, pid)
            time.sleep(0.2)
        ended = stack.wait(ids)

        assert [ended[id]["result"] for id in ids] == [{"data": {"i": TURNS}}] * EXECUTIONS
        for id, file in zip(ids, files, strict=True):
            types = Counter(event["event_type"] for event in stack.log(id))
            assert types[e.CALL_DONE] == types[e.ISSUED] == TURNS + 2
            turns = Counter(_turns(file))
            assert set(turns) == set(range(TURNS))
            # what ran again is what had not been reported, and what was running
            assert turns.total() - TURNS <= KILLS * (MAX_UNREPORTED_STEPS + 1)
        assert stack.audit(ids) == []
        assert stack.query("SELECT count(*) FROM noetl.outstanding") == [[0]]


def _longer(files: list[Path], lines: int) -> bool:
    return sum(len(_turns(file)) for file in files) > lines


def _turns(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []
