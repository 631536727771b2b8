"""Workers that hang, die of their command, or are told to stop: leases, fences and the limit of deliveries."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.faults import BrokenStack, broken_stack, eventually

pytestmark = pytest.mark.e2e

DELIVERIES = 3
# goes on when the file is there; each run leaves its mark
GATED = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: gated, path: lease/gated}
workload: {folder: /nowhere}
workflow:
  - step: gate
    tool:
      kind: python
      input: {folder: "{{ workload.folder }}"}
      code: |
        import os, pathlib, time
        place = pathlib.Path(folder)
        (place / f"run-{os.getpid()}").touch()
        while not (place / "open").exists():
            time.sleep(0.02)
        result = {"runs": len(list(place.glob("run-*")))}
    next: {arcs: [{step: after}]}
  - step: after
    tool: {kind: python, input: {runs: "{{ gate.runs }}"}, code: "result = {'runs': runs}"}
"""
SLOW = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: slow, path: lease/slow}
workload: {folder: /nowhere}
workflow:
  - step: slow
    tool:
      kind: python
      input: {folder: "{{ workload.folder }}"}
      code: |
        import os, pathlib, time
        (pathlib.Path(folder) / f"run-{os.getpid()}").touch()
        time.sleep(4)
        result = "done"
"""
# its worker is killed each time: task code itself cannot, where Landlock keeps its signals from others
KILLS_ITS_WORKER = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: poison, path: lease/poison}
workload: {folder: /nowhere}
workflow:
  - step: before
    tool: {kind: noop}
    next: {arcs: [{step: deadly}]}
  - step: deadly
    tool:
      kind: python
      input: {folder: "{{ workload.folder }}"}
      code: |
        import os, pathlib, time
        (pathlib.Path(folder) / f"run-{os.getpid()}").touch()
        time.sleep(60)
    next: {arcs: [{step: never}]}
  - step: never
    tool: {kind: noop}
"""
RESCUED = KILLS_ITS_WORKER.replace("lease/poison", "lease/rescued").replace(
    "[{step: never}]", "[{step: never, when: \"{{ event.name == 'call.error' }}\"}]"
)


@pytest.fixture(scope="module")
def short() -> Iterator[BrokenStack]:
    """Leases of two seconds."""
    with broken_stack(lease=2, max_deliveries=DELIVERIES) as stack:
        for text in (GATED, SLOW, KILLS_ITS_WORKER, RESCUED):
            stack.register(text)
        yield stack


@pytest.fixture(scope="module")
def long() -> Iterator[BrokenStack]:
    """Leases that nobody waits for."""
    with broken_stack(lease=3600) as stack:
        stack.register(GATED)
        yield stack


def runs(folder: Path) -> int:
    return len(list(folder.glob("run-*")))


def kill_each_worker(stack: BrokenStack, folder: Path) -> None:
    for number in range(DELIVERIES):
        eventually(lambda number=number: runs(folder) > number)  # type: ignore[misc]
        stack.kill("worker server", random.Random(0))


def of_type(log: list[dict[str, Any]], kind: str, step: str) -> list[dict[str, Any]]:
    return [event for event in log if event["event_type"] == kind and event["step"] == step]


def command(stack: BrokenStack, execution_id: str) -> tuple[str, int, int, str]:
    """(status, fence, deliveries, worker) of what is out."""
    rows = stack.query(
        "SELECT status, fence, deliveries, worker FROM noetl.outstanding WHERE execution_id = :id", id=execution_id
    )
    return tuple(rows[0]) if rows else ("", 0, 0, "")


# -- a worker that hangs


def test_a_worker_that_hangs_loses_its_lease_and_its_late_report_is_refused(short: BrokenStack, tmp_path: Path) -> None:
    execution_id = short.execute("lease/gated", {"folder": str(tmp_path)})
    eventually(lambda: runs(tmp_path))
    _, fence, _, worker = command(short, execution_id)
    hung = short.server("worker")
    os.kill(hung, signal.SIGSTOP)
    try:
        eventually(lambda: command(short, execution_id)[0] == "pending")
        with short.another_worker() as other:
            other.invoke()
            eventually(lambda: runs(tmp_path) == 2)
            (tmp_path / "open").touch()
            short.wait([execution_id])
            log = short.log(execution_id)
    finally:
        os.kill(hung, signal.SIGCONT)
    # the first one's task has ended long since, and it wants to say so, unless it sees by its own clock that it is late
    eventually(lambda: short.said("worker", "a stale outcome", "the lease of a command was lost", "a lease expired"))

    (done,) = of_type(log, "call.done", "gate")
    assert done["payload"]["data"] == {"runs": 2}
    assert done["payload"]["meta"]["worker"] != worker
    assert done["payload"]["meta"]["fence"] > fence
    assert short.log(execution_id) == log
    assert short.audit([execution_id]) == []
    assert short.report(worker, execution_id, "gate#1", fence) == "stale"
    assert short.log(execution_id) == log


def test_a_report_under_an_old_fence_is_refused_while_another_holds_the_command(
    short: BrokenStack, tmp_path: Path
) -> None:
    execution_id = short.execute("lease/gated", {"folder": str(tmp_path)})
    eventually(lambda: runs(tmp_path))
    _, fence, _, worker = command(short, execution_id)
    short.kill("worker server", random.Random(0))
    eventually(lambda: command(short, execution_id)[0] == "claimed" and command(short, execution_id)[1] > fence)

    assert short.report(worker, execution_id, "gate#1", fence) == "stale"
    assert short.entry(execution_id)["status"] == "RUNNING"
    (tmp_path / "open").touch()
    short.wait([execution_id])
    assert len(of_type(short.log(execution_id), "call.done", "gate")) == 1
    assert short.audit([execution_id]) == []


# -- a command that kills its worker


def test_a_command_that_kills_each_worker_is_given_up_with_a_clear_error(short: BrokenStack, tmp_path: Path) -> None:
    execution_id = short.execute("lease/poison", {"folder": str(tmp_path)})
    kill_each_worker(short, tmp_path)
    entry = short.wait([execution_id])[execution_id]

    assert entry["status"] == "FAILED"
    assert entry["error"]["code"] == "command.delivery_limit"
    assert entry["error"]["step"] == "deadly"
    assert f"delivered to {DELIVERIES} workers and none reported an outcome" in entry["error"]["message"]
    assert "crash its worker" in entry["error"]["message"]
    log = short.log(execution_id)
    assert len(of_type(log, "call.error", "deadly")) == 1
    assert not of_type(log, "command.issued", "never")
    assert short.audit([execution_id]) == []
    dead = short.query(
        "SELECT command_id, status, deliveries FROM noetl.outstanding WHERE execution_id = :id", id=execution_id
    )
    assert dead == [["deadly#1", "dead", DELIVERIES]]


def test_a_step_that_was_given_up_can_be_recovered_from(short: BrokenStack, tmp_path: Path) -> None:
    execution_id = short.execute("lease/rescued", {"folder": str(tmp_path)})
    kill_each_worker(short, tmp_path)
    entry = short.wait([execution_id])[execution_id]

    assert entry["status"] == "COMPLETED"
    assert of_type(short.log(execution_id), "call.done", "never")
    assert short.audit([execution_id]) == []


def test_those_who_ran_beside_it_end_as_they_should(short: BrokenStack, tmp_path: Path) -> None:
    """A slow command is in the hands of the workers that the other one kills, but not of the last."""
    deadly = tmp_path / "deadly"
    deadly.mkdir()
    neighbour = short.execute("lease/slow", {"folder": str(tmp_path)})
    eventually(lambda: runs(tmp_path))
    delivered_too_often = short.execute("lease/poison", {"folder": str(deadly)})
    kill_each_worker(short, deadly)
    ended = short.wait([neighbour, delivered_too_often])

    assert (ended[neighbour]["status"], ended[neighbour]["error"]) == ("COMPLETED", None)
    assert ended[delivered_too_often]["error"]["code"] == "command.delivery_limit"
    # how often it was in the hands of one that was killed depends on who claimed what; given up it never is
    assert 1 < runs(tmp_path) <= DELIVERIES
    assert short.audit([neighbour, delivered_too_often]) == []


# -- a worker that is told to stop


@pytest.mark.parametrize("role", ["arbiter", "server"])
def test_what_a_worker_gives_back_is_taken_up_at_once(long: BrokenStack, tmp_path: Path, role: str) -> None:
    places = [tmp_path / str(number) for number in range(2)]
    for place in places:
        place.mkdir()
    ids = [long.execute("lease/gated", {"folder": str(place)}) for place in places]
    eventually(lambda: all(map(runs, places)))
    first = long.server("worker")
    os.kill(long.pid("worker") if role == "arbiter" else first, signal.SIGTERM)  # type: ignore[arg-type]
    eventually(lambda: not psutil.pid_exists(first))
    eventually(lambda: all(runs(place) == 2 for place in places))
    # given back is not given up: no delivery is counted
    assert [command(long, id)[2] for id in ids] == [1, 1]
    for place in places:
        (place / "open").touch()

    # their leases are an hour long
    ended = long.wait(ids)
    assert {entry["status"] for entry in ended.values()} == {"COMPLETED"}
    assert long.audit(ids) == []
    for execution_id in ids:
        (done,) = of_type(long.log(execution_id), "call.done", "gate")
        (lost,) = done["payload"]["meta"]["lost"]
        assert lost["claimed_at"] <= lost["given_back_at"], "the log does not tell that it had begun before"


def test_what_ends_within_the_grace_is_reported(long: BrokenStack, tmp_path: Path) -> None:
    execution_id = long.execute("lease/gated", {"folder": str(tmp_path)})
    eventually(lambda: runs(tmp_path))
    os.kill(long.server("worker"), signal.SIGTERM)
    (tmp_path / "open").touch()

    entry = long.wait([execution_id])[execution_id]
    assert entry["result"] == {"data": {"runs": 1}}
    assert long.audit([execution_id]) == []
