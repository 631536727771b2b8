"""What a run costs in events: two for each sequential step, two for each frame of a loop, however many items it has.

playbook.initialized stands with the first command.issued; each step's call.done with what it leads to; the last one's
with playbook.completed. So `steps` steps in a row make 2 * steps + 2 events. A loop adds loop.opened and loop.done,
and for each frame (a run of items that one worker takes at once) a command.issued and a frame.committed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.audit import events_of
from tests.e2e.faults import BrokenStack
from tests.e2e.stack import Stack
from tests.log_rules import audit_log

pytestmark = pytest.mark.e2e

EXECUTIONS = 40
STEPS = 10
ITEMS = 1000


def chain(steps: int) -> str:
    lines = ["apiVersion: noetl.io/v2", "kind: Playbook", "metadata: {name: chain, path: counts/chain}", "workflow:"]
    for number in range(1, steps + 1):
        before = f"step_{number - 1}.value" if number > 1 else "0"
        lines += [
            f"  - step: step_{number}",
            f"    tool: {{kind: python, input: {{n: '{{{{ {before} }}}}'}}, code: \"result = {{'value': n + 1}}\"}}",
            *([f"    next: {{arcs: [{{step: step_{number + 1}}}]}}"] if number < steps else []),
        ]
    return "\n".join(lines) + "\n"


LOOP = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: loop, path: counts/loop}
workload: {count: 1000}
workflow:
  - step: each
    loop: {in: "{{ range(workload.count) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 16}}
    tool: {kind: python, input: {n: "{{ iter.n }}"}, code: "result = 3 * n"}
"""


@pytest.fixture(scope="module")
def counted(stack: Stack) -> BrokenStack:
    found = BrokenStack(stack.data)
    found.register(chain(STEPS))
    found.register(LOOP)
    return found


def test_forty_linear_executions_have_two_events_for_each_step_and_two_more(counted: BrokenStack) -> None:
    ids = [counted.execute("counts/chain") for _ in range(EXECUTIONS)]
    ended = counted.wait(ids)

    expected = ["playbook.initialized", "command.issued"]
    expected += ["call.done", "command.issued"] * (STEPS - 1) + ["call.done", "playbook.completed"]
    assert len(expected) == 2 * STEPS + 2
    for execution_id in ids:
        assert ended[execution_id]["result"] == {"data": {"value": STEPS}}
        assert [event["event_type"] for event in counted.log(execution_id)] == expected
    rows = counted.query(
        """SELECT execution_id::text, count(*) FROM noetl.event
        WHERE execution_id = ANY (CAST(:ids AS bigint[])) GROUP BY 1""",
        ids=[int(id) for id in ids],
    )
    assert {count for _, count in rows} == {2 * STEPS + 2}
    assert len(rows) == EXECUTIONS
    assert counted.audit(ids) == []


def test_a_thousand_items_cost_frames_and_each_counts_once(counted: BrokenStack) -> None:
    execution_id = counted.execute("counts/loop", {"count": ITEMS})
    counted.wait([execution_id])
    log = counted.log(execution_id)

    kinds = Counter(event["event_type"] for event in log)
    frames = kinds["frame.committed"]
    assert kinds == {
        "playbook.initialized": 1,
        "loop.opened": 1,
        "command.issued": frames,
        "frame.committed": frames,
        "loop.done": 1,
        "playbook.completed": 1,
    }
    # the first sixteen travel alone, to see how long one takes; then many go together
    assert frames < ITEMS / 4
    assert audit_log(execution_id, events_of(log)) == []
    assert counted.audit([execution_id]) == []
    assert facts_of_items(log) == {item: (3 * item, "ok") for item in range(ITEMS)}


def facts_of_items(log: list[dict[str, Any]]) -> dict[int, tuple[Any, str]]:
    """item -> its result, and how it ended; AssertionError if the log tells of one twice."""
    facts: dict[int, tuple[Any, str]] = {}
    for payload in (event["payload"] for event in log if event["event_type"] == "frame.committed"):
        items = range(payload["start"], payload["end"])
        assert len(payload["data"]) == len(items) == payload["ok"]
        assert not facts.keys() & set(items)
        facts.update({item: (result, "ok") for item, result in zip(items, payload["data"], strict=True)})
    return facts


def test_eight_times_the_items_have_not_eight_times_the_events(counted: BrokenStack) -> None:
    ids = [counted.execute("counts/loop", {"count": count}) for count in (500, 4000)]
    counted.wait(ids)
    small, large = (len(counted.log(id)) for id in ids)

    # how many go into a frame depends on how fast the machine is by then
    assert large < 8 * small
