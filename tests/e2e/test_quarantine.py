"""An execution that cannot be decided about, from the command line: found, understood, retried, dropped, cancelled."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.faults import BrokenStack
from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e

PATIENCE = 60.0
TEXT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: later, path: quarantine/later}
workflow:
  - step: wait
    tool:
      kind: python
      input: {attempt: "{{ _attempt }}"}
      code: "result = attempt"
      spec:
        policy:
          rules: [{when: "{{ output.data < 2 }}", then: {do: retry, attempts: 2, backoff: fixed, delay: 300}}]
    next: {arcs: [{step: after}]}
  - {step: after, tool: {kind: python, code: "result = 'well'"}}
"""
UNMATCHED = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: unmatched, path: quarantine/unmatched}
workflow:
  - {step: first, tool: {kind: noop}, next: {arcs: [{step: second, when: "{{ false }}"}]}}
  - {step: second, tool: {kind: noop}}
"""


class Spoiled:
    """An execution whose state cannot be read, as after a mistake in the engine."""

    def __init__(self, stack: BrokenStack) -> None:
        self.stack = stack
        self.id = stack.execute("quarantine/later")
        self._until("it waits for its timer", "SELECT FROM noetl.command WHERE execution_id = :id AND status = 'timer'")
        [[self._state]] = stack.query("SELECT state FROM noetl.execution WHERE execution_id = :id", id=self.id)
        self._write({"tokens": 5})
        stack.query("UPDATE noetl.command SET due_at = now() WHERE execution_id = :id", id=self.id)
        self._until("it is in quarantine", "SELECT FROM noetl.quarantine WHERE execution_id = :id")

    def mend(self) -> None:
        self._write(self._state)

    def _write(self, state: object) -> None:
        sql = "UPDATE noetl.execution SET state = CAST(:state AS json) WHERE execution_id = :id"
        self.stack.query(sql, state=json.dumps(state), id=self.id)

    def _until(self, what: str, sql: str) -> None:
        until = time.monotonic() + PATIENCE
        while not self.stack.query(sql, id=self.id):
            assert time.monotonic() < until, f"never: {what}\n{self.stack.stuck([self.id])}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def shared(stack: Stack) -> BrokenStack:
    found = BrokenStack(stack.data)
    found.register(TEXT)
    return found


@pytest.fixture
def spoiled(shared: BrokenStack) -> Iterator[Spoiled]:
    found = Spoiled(shared)
    yield found
    shared("cancel", found.id)


def test_every_command_says_in_words_what_happened_and_what_to_do(spoiled: Spoiled) -> None:
    noetls, id = spoiled.stack, spoiled.id
    for words in (("show", id), ("events", id), ("explain", id)):
        done = noetls(*words)
        assert done.status == 0, (words, done.err)
        assert "in quarantine: the engine could not decide how to continue" in done.out, words
        assert "the engine cannot decide what follows timer.fired: AttributeError" in done.out, words
        assert "(at engine/state.py:" in done.out, words
        assert f"noetls quarantine show {id}" in done.out, words
    assert f"started by operator {noetls.entry(id)['principal']['name']}" in noetls("show", id).out
    listed = noetls("quarantine", "list").out
    assert id in listed
    assert "quarantine/later" in listed
    shown = noetls("quarantine", "show", id).out
    assert "kept for a retry: 1 fact\n  timer.fired  wait" in shown
    for verb in ("quarantine retry", "quarantine drop", "cancel"):
        assert f"noetls {verb} {id}" in shown
    assert [entry["execution_id"] for entry in noetls.ask("quarantine", "list")] == [id]
    assert noetls.ask("quarantine", "show", id)["error"]["code"] == "engine.undecidable"


def test_a_retry_waits_for_the_fault_to_be_mended_and_then_goes_on(spoiled: Spoiled) -> None:
    refused = spoiled.stack("quarantine", "retry", spoiled.id)
    assert refused.status == 2
    assert "still cannot be read" in refused.err
    spoiled.mend()
    done = spoiled.stack("quarantine", "retry", spoiled.id)
    assert (done.status, done.out) == (0, f"execution {spoiled.id} continues: RUNNING\n")
    entry = spoiled.stack.wait([spoiled.id])[spoiled.id]
    assert (entry["status"], entry["result"]) == ("COMPLETED", {"data": "well"})
    assert spoiled.stack("quarantine", "list").out == "no executions are in quarantine\n"
    explained = spoiled.stack("explain", spoiled.id).out
    assert f"execution {spoiled.id}: completed" in explained, "it is told to its end"
    outputs = {
        words: spoiled.stack(*words, spoiled.id).out for words in (("show",), ("events",), ("explain",), ("cost",))
    }
    for words in (("show",), ("explain",)):
        assert re.search(r"was in quarantine from 20[^ ]+ to 20[^ ]+, then continued", outputs[words]), (
            words,
            outputs[words],
        )
    assert re.search(r"timer\.fired +wait +\(kept in quarantine until 20", outputs[("events",)])
    assert re.search(r"command\.issued +wait +\(caused by \d+\) +\(decided at 20", outputs[("events",)])
    assert "the wall time includes" in outputs[("cost",)]
    [wait] = spoiled.stack.ask("explain", spoiled.id, "wait")["steps"]
    times = [entry["at"] for entry in wait["chain"]]
    assert times == sorted(times), "it runs backwards"


def test_what_is_dropped_stays_failed(spoiled: Spoiled) -> None:
    done = spoiled.stack("quarantine", "drop", spoiled.id)
    assert (done.status, done.out) == (
        0,
        f"execution {spoiled.id} was dropped from quarantine; its status remains FAILED\n",
    )
    assert spoiled.stack.entry(spoiled.id)["status"] == "FAILED"
    assert spoiled.stack("quarantine", "show", spoiled.id).status == 2
    own = spoiled.stack.entry(spoiled.id)["principal"]["name"]
    dropped = f"was dropped from quarantine at 20[^ ]+ by operator {re.escape(own)}; its status does not change"
    for command in ("show", "events", "explain"):
        output = spoiled.stack(command, spoiled.id).out
        assert re.search(dropped, output), (command, output)
        assert "in quarantine: the engine could not decide" not in output, (command, output)
    assert spoiled.stack.ask("explain", spoiled.id)["quarantined"] is None


def test_cancelling_reports_that_it_left_quarantine(spoiled: Spoiled) -> None:
    done = spoiled.stack("cancel", spoiled.id)
    assert (done.status, done.out) == (
        0,
        "cancelled 1 execution; it is no longer in quarantine\n",
    )
    assert spoiled.stack.entry(spoiled.id)["status"] == "CANCELLED"
    assert spoiled.stack("cancel", spoiled.id).status == 1


def test_a_run_that_ends_in_silence_warns(shared: BrokenStack, tmp_path: Path) -> None:
    file = tmp_path / "unmatched.yaml"
    file.write_text(UNMATCHED)
    warning = "warning: routing.no_match: no arc of step 'first' was taken"
    ran = shared("run", str(file))
    assert ran.status == 0, ran.err
    assert warning in ran.out
    outcome = shared.run(file)
    assert [found["step"] for found in outcome["warnings"]] == ["first"]
    for command in ("show", "events", "explain"):
        assert warning in shared(command, outcome["execution_id"]).out, command
