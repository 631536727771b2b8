"""down and up, and the death of the supervisor: what was under way goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.faults import BrokenStack, broken_stack, eventually, lives
from tests.e2e.file_server import served
from tests.e2e.stack import PLAYBOOKS
from tests.e2e.test_event_counts import STEPS, chain
from tests.e2e.test_lease import GATED, runs

pytestmark = pytest.mark.e2e

TIMER = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: timer, path: restart/timer}
workflow:
  - step: late
    tool:
      kind: python
      input: {attempt: "{{ _attempt }}"}
      code: "result = {'again': attempt > 1}"
      spec:
        policy:
          rules:
            - when: "{{ not output.data.again }}"
              then: {do: retry, attempts: 3, backoff: fixed, delay: 8}
"""


@pytest.fixture(scope="module")
def restarted() -> Iterator[BrokenStack]:
    """Leases of an hour: what is not handed back is not seen again in this test."""
    with broken_stack(lease=3600) as stack:
        for text in (chain(STEPS), GATED, TIMER, (PLAYBOOKS / "flight_delays.yaml").read_text()):
            stack.register(text)
        yield stack


@pytest.fixture(scope="module")
def orphaned() -> Iterator[BrokenStack]:
    """Leases of three seconds."""
    with broken_stack(lease=3) as stack:
        for text in (chain(STEPS), GATED):
            stack.register(text)
        yield stack


def test_running_executions_go_on_after_down_and_up(restarted: BrokenStack, tmp_path: Path) -> None:
    places = [tmp_path / str(number) for number in range(4)]
    for place in places:
        place.mkdir()
    with served(PLAYBOOKS / "data") as files:
        late = [restarted.execute("restart/timer") for _ in range(2)]
        eventually(lambda: all("timer.set" in kinds(restarted, id) for id in late))
        # more than there are python processes: some run, some wait in the worker
        gated = [restarted.execute("lease/gated", {"folder": str(place)}) for place in places]
        eventually(lambda: any(map(runs, places)))
        others = [restarted.execute("examples/flight_delays", {"data_url": files.url}) for _ in range(3)]
        others += [restarted.execute("counts/chain") for _ in range(20)]
        before = {id: restarted.log(id) for id in [*gated, *late, *others]}
        restarted.down()
        assert restarted.layout.running() is None
        for place in places:
            (place / "open").touch()
        restarted.up()
        ended = restarted.wait(before)

    assert {id: entry["error"] for id, entry in ended.items() if entry["status"] != "COMPLETED"} == {}
    for execution_id, log in before.items():
        assert restarted.log(execution_id)[: len(log)] == log
    assert restarted.audit(before) == []


def test_executions_go_on_after_the_supervisor_was_killed(orphaned: BrokenStack, tmp_path: Path) -> None:
    running = [orphaned.execute("lease/gated", {"folder": str(tmp_path)})]
    eventually(lambda: runs(tmp_path))
    running += [orphaned.execute("counts/chain") for _ in range(20)]
    run = orphaned.running
    os.kill(run["pid"], signal.SIGKILL)
    eventually(lambda: not lives(run["pid"]))
    # what it left behind is on its way out, and is ended by the next one
    orphaned.up()
    assert not any(lives(pid) for pid in run["pids"].values())
    (tmp_path / "open").touch()
    ended = orphaned.wait(running)

    assert {entry["status"] for entry in ended.values()} == {"COMPLETED"}
    assert orphaned.audit(running) == []


def test_an_execution_is_started_once_though_the_stack_goes_down_in_between(orphaned: BrokenStack) -> None:
    first = orphaned.execute("counts/chain", key="once")
    orphaned.down()
    orphaned.up()
    assert orphaned.execute("counts/chain", key="once") == first
    orphaned.wait([first])
    assert orphaned.audit([first]) == []


def kinds(stack: BrokenStack, execution_id: str) -> set[str]:
    return {event["event_type"] for event in stack.log(execution_id)}
