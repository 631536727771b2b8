"""What the log says of the projections, as of any of its events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.unit.engine.plays import LOOP, WORKFLOWS, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.canonical import canonical, checksum, plain
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.evolve import evolve
from noetl_serverless.engine.replay import fold, up_to
from noetl_serverless.engine.upcast import UPCASTERS
from noetl_serverless.inspection.expected_projections import NAMES, _stages, document, expected_projections
from noetl_serverless.store.projections import project


def test_canonical_json_is_one_text_for_one_value() -> None:
    assert canonical({"b": [1.0, (2,), None], "a": {"ü": -0.5}}) == '{"a":{"ü":-0.5},"b":[1,[2],null]}'
    assert checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1.0})
    assert checksum(1e300) == checksum(orjson.loads(orjson.dumps(1e300)))
    assert plain({1: {"b", "a"}}) == {"1": ["a", "b"]}
    with pytest.raises(TypeError):
        canonical(object())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_is_out_is_what_the_state_says_is_out(name: str) -> None:
    whole = play(Run(WORKFLOWS[name]), 6).log
    for length in range(1, len(whole) + 1):
        said = expected_projections("7", whole[:length])
        out = {row["command_id"] for row in said.commands}
        assert out == said.state.commands.keys() | said.state.timers.keys()
        assert said.execution["head"] == length
        for stage in said.stages:
            frames = [row for row in said.frames if row["step"] == stage["step"]]
            items = [item for row in frames for item in range(row["start"], row["end"])]
            assert len(items) == len(set(items)) <= stage["count"]


def test_a_document_has_a_checksum_of_every_surface_and_of_the_state() -> None:
    log = play(Run(LOOP), 3).log
    whole = document("7", log)
    assert (whole["execution_id"], whole["event_count"], whole["last_event_id"]) == ("7", len(log), log[-1].seq)
    assert whole["surfaces"].keys() == set(NAMES)
    assert whole["upcasters"] == UPCASTERS.digest()
    assert whole["checksums"].keys() == {*NAMES, "state"}
    assert whole["checksums"]["frames"] == checksum(whole["surfaces"]["frames"])
    part = document("7", log, names=["frames"])
    assert part["surfaces"].keys() == {"frames"}
    assert part["checksums"]["frames"] == whole["checksums"]["frames"]
    assert document("7", log[:-1])["checksums"]["state"] != whole["checksums"]["state"]


def test_the_order_in_which_events_come_does_not_matter() -> None:
    log = play(Run(LOOP), 3).log
    assert document("7", reversed(log)) == document("7", log)


def test_as_of_an_instant_is_before_the_first_fact_that_is_later() -> None:
    run = Run(WORKFLOWS["chain"])
    run.done("a", {"v": 1})
    run.done("b")
    second = run.log[2]
    assert second.type == e.CALL_DONE
    before = up_to(run.log, at=second.at - 1)
    assert [event.seq for event in before] == [1, 2]
    assert fold("7", up_to(run.log, at=second.at)).generations == {"a": 1, "b": 1}
    assert up_to(run.log, at=second.at + 10**9) == run.log
    assert [event.seq for event in up_to(run.log, seq=3)] == [1, 2, 3]


def test_what_is_dropped_from_quarantine_ended_when_it_went_there() -> None:
    run = Run("- {step: only, tool: {kind: noop}}\n")
    error = {"kind": "engine", "code": e.UNDECIDABLE, "message": "no idea", "retryable": False}
    kept = {"type": e.CALL_DONE, "step": "only", "generation": 1, "command": "only#1", "at": run.now, "payload": {}}
    run.fact(e.FAILED, payload={"error": error, e.QUARANTINED: kept})
    ended = run.now
    run.now += 1000
    run.fact(e.DROPPED, payload={"seq": len(run.log), "by": None})
    row = expected_projections("7", run.log).execution
    assert (row["status"], row["ended_at"], row["head"]) == ("FAILED", ended, len(run.log))


def test_what_was_in_quarantine_ended_when_it_did_at_last() -> None:
    run = Run("- {step: only, tool: {kind: noop}}\n")
    error = {"kind": "engine", "code": e.UNDECIDABLE, "message": "no idea", "retryable": False}

    def ended_at() -> Any:
        return expected_projections("7", run.log).execution["ended_at"]

    def set_apart() -> None:
        run.now += 1
        kept = {"type": e.CALL_DONE, "step": "only", "generation": 1, "command": "only#1", "at": run.now, "payload": {}}
        payload = {"error": error, e.QUARANTINED: kept}
        run.log.append(Event(e.FAILED, run.now, seq=len(run.log) + 1, payload=payload))
        run.state = evolve(run.state, run.log[-1])

    set_apart()
    assert ended_at() == run.now
    run.fact(e.RETRIED, payload={"seq": len(run.log)})
    assert ended_at() is None
    again = len(run.log)
    set_apart()
    run.fact(e.CANCELLED, payload={"reason": "enough"})
    assert ended_at() == run.now, "cancelled in quarantine"
    run.fact(e.CANCELLED, payload={"reason": "once more"})
    assert ended_at() == run.now - 1, "what comes too late changes nothing"
    del run.log[again:]
    run.state = fold("7", run.log)
    run.done("only")
    assert ended_at() == run.now, "it went on, and completed"


def test_an_execution_says_what_it_is_how_it_stands_and_what_came_of_it() -> None:
    run = Run(WORKFLOWS["chain"])
    run.log[0].payload.update(path="t/t", version=3)
    row = expected_projections("7", run.log).execution
    assert row == {
        "execution_id": "7",
        "path": "t/t",
        "version": 3,
        "plan_hash": run.plan.hash,
        "parent": None,
        "depth": 0,
        "status": "RUNNING",
        "head": 2,
        "ctx": {},
        "result": None,
        "error": None,
        "created_at": run.log[0].at,
        "ended_at": None,
    }
    run.done("a", {"v": 1})
    run.done("b")
    assert expected_projections("7", run.log).execution["result"] is None, "there is none while it runs"
    run.done("c", {"r": 1})
    row = expected_projections("7", run.log).execution
    assert (row["status"], row["ctx"], row["result"]) == ("COMPLETED", {"x": 1}, {"data": {"r": 1}})
    assert row["ended_at"] == run.log[-1].at
    run.fact(e.CANCELLED, payload={})
    assert expected_projections("7", run.log).execution == {**row, "head": row["head"] + 1}


def test_of_no_events_there_is_an_execution_that_has_not_begun() -> None:
    row = expected_projections("7", []).execution
    assert (row["status"], row["head"], row["created_at"], row["ended_at"]) == ("RUNNING", 0, None, None)


def test_steps_stand_by_name_with_their_latest_run() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split", {"v": 1})
    run.done("right")
    run.done("left", {"v": 2})
    done = {"generation": 1, "status": "ok"}
    assert expected_projections("7", run.log).steps == [
        {"step": "join", "generation": 0, "status": "waiting"},
        {"step": "left", **done, "data": {"v": 2}},
        {"step": "more", "generation": 1, "status": "running"},
        {"step": "never", "generation": 0, "status": "skipped"},
        {"step": "right", **done},
        {"step": "split", **done, "data": {"v": 1}},
    ]
    run.error("more")
    rows = {row["step"]: row for row in expected_projections("7", run.log).steps}
    assert (rows["more"]["status"], rows["more"]["error"]["code"]) == ("error", "boom")
    assert "join" not in rows


def test_a_step_that_the_end_cut_off_is_lost_and_one_that_runs_again_has_no_outcome() -> None:
    run = Run(WORKFLOWS["failing"])
    run.done("split")
    run.error("bad")
    assert {"step": "slow", "generation": 1, "status": "lost"} in expected_projections("7", run.log).steps
    run = Run(WORKFLOWS["again"])
    run.done("poll", {"v": 1})
    assert expected_projections("7", run.log).steps == [{"step": "poll", "generation": 2, "status": "running"}]


def test_loops_stages_and_frames() -> None:
    run = Run(WORKFLOWS["two loops"])
    run.done("split")
    run.frame("two#1.0", ["r"], item_ms=1000)
    run.frame("one#1.0", ["r"], item_ms=1000)
    said = expected_projections("7", run.log)
    assert [(row["step"], row["generation"], row["count"], row["ok"]) for row in said.loops] == [
        ("one", 1, 9, 1),
        ("two", 1, 5, 1),
    ]
    frame = {"generation": 1, "start": 0, "end": 1, "ok": 1, "failed": 0}
    assert said.frames == [{"step": "two", "seq": 10, **frame}, {"step": "one", "seq": 12, **frame}]
    assert [(row["step"], row["count"], row["status"]) for row in said.stages] == [
        ("one", 9, "open"),
        ("two", 5, "open"),
    ]
    for _ in range(4):
        run.frame(run.open("two"), ["r"], item_ms=1000)
    said = expected_projections("7", run.log)
    assert [row["step"] for row in said.loops] == ["one"]
    assert [(row["step"], row["status"]) for row in said.stages] == [("one", "open"), ("two", "ok")]


def test_loops_stand_by_name() -> None:
    flow = WORKFLOWS["two loops"].replace("step: one", "step: zwei")
    run = Run(flow)
    run.done("split")
    assert [row["step"] for row in expected_projections("7", run.log).loops] == ["two", "zwei"]


def test_what_is_out_and_what_was_given_up_stand_in_the_order_of_their_beginnings() -> None:
    run = Run(WORKFLOWS["two loops"])
    run.done("split")
    given_up = {"kind": "engine", "code": "command.delivery_limit", "message": "given up"}
    run.frame("one#1.0", [None], failed=1, error=given_up)
    said = expected_projections("7", run.log).commands
    kinds = {row["command_id"]: (row["status"], row["seq"]) for row in said}
    assert kinds["one#1.0"][0] == "dead"
    assert {status for status, _ in kinds.values()} == {"dead", "open"}
    assert [row["seq"] for row in said] == sorted(row["seq"] for row in said)
    assert said[0] == {
        "step": "one",
        "generation": 1,
        "seq": 5,
        "command_id": "one#1.0",
        "kind": "frame",
        "attempt": 1,
        "status": "dead",
    }


@pytest.mark.parametrize("change", [{"code": "other"}, {"kind": "tool"}])
def test_a_command_that_failed_by_itself_is_not_dead(change: dict[str, str]) -> None:
    run = Run(WORKFLOWS["chain"])
    error = {"kind": "engine", "code": "command.delivery_limit", "message": "given up"}
    run.report("a#1", e.CALL_ERROR, error={**error, **change})
    assert expected_projections("7", run.log).commands == []
    run = Run(WORKFLOWS["chain"])
    run.report("a#1", e.CALL_ERROR, error=error)
    assert [row["status"] for row in expected_projections("7", run.log).commands] == ["dead"]


def test_a_delay_is_out_until_it_is_over() -> None:
    run = Run(WORKFLOWS["chain"])
    run.report("a#1", e.CALL_DEFERRED, delay=2)
    (timer,) = run.state.timers
    assert expected_projections("7", run.log).commands == [
        {
            "step": "a",
            "generation": 1,
            "seq": 4,
            "command_id": timer,
            "kind": "timer",
            "attempt": 1,
            "status": "timer",
            "due": run.log[2].at + 2000,
        }
    ]
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": timer})
    assert [(row["command_id"], row["attempt"]) for row in expected_projections("7", run.log).commands] == [
        ("a#1@2", 2)
    ]
    run.fact(e.CANCELLED, payload={})
    assert expected_projections("7", run.log).commands == []


def test_stored_results_stand_by_key_each_once() -> None:
    run = Run(WORKFLOWS["chain"])
    ref = {"ref": "noetl://execution/7/result/a/0", "key": "7/z/0.json", "store": "s3"}
    run.report("a#1", ref={**ref, "extracted": {"v": 1}})
    more = {"meta": {"bytes": 7, "sha256": "s", "content_type": "text/csv"}, "scope": "step", "expires_at": 9}
    run.report("b#1", ref={**ref, "key": "7/a/0.csv", **more})
    run.report("c#1", ref={**ref, "key": "7/a/0.csv", "store": "kv"})
    assert expected_projections("7", run.log).results == [
        {
            "key": "7/a/0.csv",
            "ref": ref["ref"],
            "step": "b",
            "store": "s3",
            "bytes": 7,
            "sha256": "s",
            "content_type": "text/csv",
            "scope": "step",
            "expires_at": 9,
        },
        {
            "key": "7/z/0.json",
            "ref": ref["ref"],
            "step": "a",
            "store": "s3",
            "bytes": 0,
            "sha256": "",
            "content_type": "application/json",
            "scope": "execution",
            "expires_at": None,
        },
    ]


def test_a_result_of_a_report_that_could_not_be_decided_is_kept_too() -> None:
    run = Run(WORKFLOWS["chain"])
    ref = {"ref": "noetl://execution/7/result/a/0", "key": "7/a/0.json", "store": "s3"}
    kept = {"type": e.CALL_DONE, "step": "a", "generation": 1, "command": "a#1", "at": 5, "payload": {"ref": ref}}
    error = {"kind": "engine", "code": e.UNDECIDABLE, "message": "no idea"}
    run.fact(e.FAILED, payload={"error": error, e.QUARANTINED: kept})
    assert [(row["step"], row["key"]) for row in expected_projections("7", run.log).results] == [("a", "7/a/0.json")]
    assert expected_projections("7", run.log).commands == [], "what was out is not out while it is in quarantine"


def test_a_loop_that_ended_before_it_opened_is_a_row_if_items_of_it_were_reused() -> None:
    """As `store/projections.py` writes it."""
    stats = {"total": 4, "success": 2, "failed": 0}
    payload = {"status": "error", "error": {"code": "x", "message": "m"}}
    for more, rows in (({"stats": stats}, [("each", 1, 4, "error")]), ({}, [])):
        event = Event(e.LOOP_DONE, 1, seq=2, step="each", generation=1, payload={**payload, **more})
        written = project("7", [event], lambda step: "shared", "p/x", 1).stages
        for stages in (_stages([event]), written):
            assert [(row["step"], row["generation"], row["count"], row["status"]) for row in stages] == rows
