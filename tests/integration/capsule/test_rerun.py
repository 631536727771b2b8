"""What was recorded runs once more, with the recording in place of the tools, and does the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.capsule import playbooks

from noetl_serverless.capsule.capsule import read, write
from noetl_serverless.capsule.rerun import rerun
from noetl_serverless.engine.digest import digest
from noetl_serverless.errors import InvalidRequest
from noetl_serverless.telemetry.masking import Masking

BODIES = {
    "chain": playbooks.CHAIN,
    "pipeline": playbooks.PIPELINE,
    "loop": playbooks.LOOP,
    "big loop": playbooks.LOOP.replace("size: 10", "size: 20000"),
    "parents": playbooks.PARENTS,
    "big": playbooks.BIG,
    "branches": playbooks.BRANCHES,
    "failing": playbooks.FAILING,
}


@pytest.fixture
def a_harness(harness: Any) -> Any:
    made = harness()
    made.catalog.add("t/child", playbooks.CHILD)
    return made


@pytest.mark.parametrize("name", BODIES)
async def test_a_recording_runs_again_from_its_file_and_does_the_same(
    a_harness: Any, name: str, tmp_path: Path
) -> None:
    recording = await a_harness.record(BODIES[name])
    file = tmp_path / "run.noetl"
    write(recording, file, Masking(), max_bytes=100_000_000, release="1")
    done = await rerun(read(file)[0])
    assert done.missing == []
    assert done.first_difference() == (None, None)
    assert done.same
    assert done.status == ("failed" if name == "failing" else "completed")


@pytest.mark.parametrize("delay", ["0.01", "60"])
async def test_a_call_that_was_retried_answers_what_it_answered_last(
    a_harness: Any, delay: str, tmp_path: Path
) -> None:
    body = playbooks.FLAKY.replace("DELAY", delay)
    recording = await a_harness.record(body, file=str(tmp_path / "count"))
    done = await rerun(recording)
    assert done.same
    assert done.calls == 1


async def test_a_call_that_failed_to_the_last_is_tried_as_often_and_no_time_passes(
    a_harness: Any, tmp_path: Path
) -> None:
    body = playbooks.FLAKY.replace("DELAY", "60").replace("attempts: 5", "attempts: 2")
    recording = await a_harness.record(body, file=str(tmp_path / "count"))
    done = await rerun(recording)
    assert (done.status, done.same, done.calls) == ("failed", True, 2)


async def test_another_version_runs_against_the_same_answers(a_harness: Any) -> None:
    recording = await a_harness.record(playbooks.CHAIN)
    done = await rerun(recording, recording.playbook.replace("ctx.x > 5", "ctx.x > 50"))
    assert not done.same
    assert done.first_difference() == ("one#1", "one#1")
    assert done.status == "completed"
    assert done.missing == []


async def test_a_call_that_was_not_made_has_no_answer_and_is_reported(a_harness: Any) -> None:
    recording = await a_harness.record(playbooks.CHAIN)
    edited = recording.playbook.replace(
        "step: three, tool: {kind: noop}", "step: three, tool: {kind: python, code: 'x = 1'}"
    )
    done = await rerun(recording, edited.replace("ctx.x > 5", "ctx.x > 50"))
    assert [(call.step, call.task) for call in done.missing] == [("three", "three")]
    assert done.status == "running"


CURSOR = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: drain, path: t/drain}
workflow:
  - step: drain
    loop: {iterator: row, cursor: {kind: postgres, auth: pg, claim: "UPDATE"}, spec: {mode: cursor}}
    tool: {kind: noop}
"""


async def test_what_a_cursor_has_claimed_is_not_recorded_and_it_says_so(a_harness: Any) -> None:
    recording = await a_harness.record(playbooks.CHAIN)
    with pytest.raises(InvalidRequest, match="step 'drain' of t/drain loops over a cursor"):
        await rerun(recording, CURSOR)
    with pytest.raises(InvalidRequest, match="cannot run again"):
        await rerun(replace(recording, playbook=CURSOR))


async def test_an_answer_that_was_left_out_is_reported(a_harness: Any, tmp_path: Path) -> None:
    recording = await a_harness.record(playbooks.BIG)
    file = tmp_path / "run.noetl"
    packed = write(recording, file, Masking(), max_bytes=0, release="1")
    assert packed.left_out == 1
    done = await rerun(read(file)[0])
    assert [call.step for call in done.missing] == ["big"]
    assert "left out of the recording: it is too large for one; rerun takes a file" in done.missing[0].why


TABLES = """
    workflow:
      - step: make
        tool:
          kind: python
          code: |
            import pyarrow
            return {"rows": pyarrow.table({"n": list(range(20000))}), "count": 20000}
          output: {store: {kind: auto, compression: CODEC}}
        next: {arcs: [{step: use, when: "{{ output.data.count == 20000 }}"}]}
      - step: use
        tool: {kind: python, input: {last: "{{ make.rows[19999].n }}"}, code: "result = [last] * 20000"}
        next: {arcs: [{step: end, when: "{{ use.status == 'ok' }}"}]}
      - {step: end, tool: {kind: noop, result: "{{ use | length }}"}}
    """


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
async def test_tables_and_compressed_results_are_the_answers_that_they_were(
    a_harness: Any, tmp_path: Path, codec: str
) -> None:
    recording = await a_harness.record(TABLES.replace("CODEC", codec))
    types = {result.content_type for result in recording.results.values()}
    assert types == {"application/vnd.apache.arrow.stream", "application/json"}
    file = tmp_path / "run.noetl"
    assert write(recording, file, Masking(), max_bytes=10_000_000, release="1").left_out == 0
    for recorded in (recording, read(file)[0]):
        done = await rerun(recorded)
        assert (done.missing, done.status, done.same) == ([], "completed", True)


PASSED_ON = """
    workflow:
      - step: make
        tool:
          - name: one
            kind: python
            code: |
              import pyarrow
              return {"rows": pyarrow.table({"n": list(range(20000))})}
          - {name: two, kind: python, input: {rows: "{{ one.rows }}"}, code: "result = len(rows)"}
          - {name: three, kind: python, input: {rows: "{{ one.rows }}"}, code: "result = {'n': len(rows)}"}
          - name: four
            kind: python
            input: {rows: "{{ one.rows }}"}
            code: |
              import pyarrow
              def main(rows: pyarrow.Table):
                  return {"rows": rows, "n": rows.num_rows}
        next: {arcs: [{step: whole}]}
      - {step: whole, tool: {kind: noop, result: "{{ make }}"}, next: {arcs: [{step: part}]}}
      - {step: part, tool: {kind: noop, result: "{{ make.rows }}"}, next: {arcs: [{step: end}]}}
      - {step: end, tool: {kind: noop, result: ["{{ whole.rows | length }}", "{{ part[-1].n }}"]}}
    """


async def test_tables_of_tasks_and_those_that_are_passed_on_are_the_same(
    a_harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await a_harness.record(PASSED_ON)
    # no call of a rerun needs the rows that it is given
    monkeypatch.setattr("noetl_serverless.tables.listed.MAX_LISTED_ROWS", 1000)
    done = await rerun(recording)
    assert (done.status, done.error, done.missing) == ("completed", None, [])
    assert done.first_difference() == (None, None)


async def test_an_answer_that_is_gone_is_reported_with_what_helps(a_harness: Any) -> None:
    recording = await a_harness.record(TABLES.replace("CODEC", "none"))
    reasons = {
        "gone": "not in its result store any more",
        "changed": "other bytes",
        "secret": "a secret is in it",
        None: "deleted",
    }
    for why, text in reasons.items():
        gone = {key: replace(result, content=None, left_out=why) for key, result in recording.results.items()}
        done = await rerun(replace(recording, results=gone))
        assert [call.step for call in done.missing] == ["make"]
        assert text in done.missing[0].why
        assert ("--max-bytes" in done.missing[0].why) == (why is None)
    spoilt = {key: replace(result, content=b"no arrow") for key, result in recording.results.items()}
    done = await rerun(replace(recording, results=spoilt))
    assert "cannot be read as it was recorded" in done.missing[0].why


async def test_a_recording_without_its_child_says_so(a_harness: Any) -> None:
    recording = await a_harness.record(playbooks.PARENTS)
    done = await rerun(replace(recording, children=recording.children[:1]))
    assert {call.why for call in done.missing} == {"this sub-playbook is not in the recording"}


@pytest.mark.parametrize("name", ["loop", "big loop", "branches", "parents", "pipeline"])
async def test_the_digest_is_the_same_with_any_number_of_workers_and_processes(harness: Any, name: str) -> None:
    digests = set()
    for how in (
        {"processes": 1, "at_once": 1},
        {"processes": 4, "at_once": 16},
        {"processes": 2, "at_once": 3, "workers": 2},
    ):
        made = harness(**how)
        made.catalog.add("t/child", playbooks.CHILD)
        recording = await made.record(BODIES[name])
        digests.add(digest(recording.execution_id, recording.events, recording.workload).value)
    assert len(digests) == 1
