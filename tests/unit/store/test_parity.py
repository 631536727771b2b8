"""Projections against their log: which rows and which columns differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from tests.unit.engine.plays import LOOP, WORKFLOWS, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.canonical import plain
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.inspection.expected_projections import expected_projections
from noetl_serverless.store.parity import OF_EXECUTION, UNREADABLE, Difference, StoredRows, differences

REF = {"ref": "noetl://execution/7/result/a/0", "key": "7/a/0", "store": "s3", "meta": {"bytes": 5}}
EXPIRES = "2027-01-01T00:00:00+00:00"
NOW = 1_798_761_600_000


def stored(log: list[Event], **changed: Any) -> StoredRows:
    """What a store would hold of the log; `changed` of the execution's row."""
    said = expected_projections("7", log)
    workload = log[0].payload["workload"]
    row: dict[str, Any] = {**said.execution, "parent_execution_id": None, "restart_of": None, "workload": workload}
    row |= {"folded": log[-1].seq, "state": orjson.loads(orjson.dumps(fold("7", log).snapshot())), **changed}
    results = [{**one, "expires_at": NOW if one["expires_at"] else None} for one in said.results]
    return StoredRows(
        execution=row,
        commands=said.commands,
        stages=said.stages,
        frames=said.frames,
        results=results,
        variables=said.variables,
        now=NOW - 1,
    )


def found(log: list[Event], kept: StoredRows) -> list[Difference]:
    return differences("7", log, kept)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_is_as_the_log_says_differs_in_nothing(name: str) -> None:
    log = play(Run(WORKFLOWS[name]), 3).log
    for length in range(1, len(log) + 1):
        part = log[:length]
        assert found(part, stored(part)) == []


@pytest.mark.parametrize("column", [*OF_EXECUTION, "workload"])
def test_each_column_of_an_execution_is_compared(column: str) -> None:
    log = play(Run(LOOP), 3).log
    kept = stored(log)
    assert kept.execution is not None
    (difference,) = found(log, stored(log, **{column: "other"} if column != "workload" else {column: {"x": 1}}))
    assert (difference.projection, difference.key) == ("execution", {"execution_id": "7"})
    assert difference.row is not None and difference.log is not None
    if column != "workload":
        assert (difference.row, difference.log) == ({column: "other"}, {column: plain(kept.execution[column])})
    else:
        assert (difference.row["workload"], difference.log["workload"]) == ({"x": 1}, {})


def test_who_started_it_is_compared_where_the_log_says_it() -> None:
    log = play(Run(LOOP), 3).log
    ada = {"kind": "gateway", "name": "ada"}
    assert found(log, stored(log, principal=ada)) == []
    log[0].payload["principal"] = ada
    assert found(log, stored(log, principal=ada)) == []
    (difference,) = found(log, stored(log, principal=None))
    assert (difference.row, difference.log) == ({"principal": None}, {"principal": ada})


def test_of_a_row_that_is_lost_every_column_is_reported() -> None:
    log = play(Run(LOOP), 3).log
    (difference,) = found(log, replace(stored(log), execution=None))
    assert (difference.row, difference.key) == (None, {"execution_id": "7"})
    assert difference.log is not None
    assert difference.log.keys() == set(OF_EXECUTION)
    assert (difference.log["status"], difference.log["head"]) == ("COMPLETED", len(log))


def test_a_state_is_compared_as_of_what_was_folded_into_it() -> None:
    log = play(Run(LOOP), 3).log
    half = len(log) // 2
    state = orjson.loads(orjson.dumps(fold("7", log[:half]).snapshot()))
    assert found(log, stored(log, state=state, folded=half)) == []
    (difference,) = found(log, stored(log, state=state))
    assert difference.row is not None and difference.log is not None
    assert {"state.seq", "state.status"} <= difference.row.keys() == difference.log.keys()
    assert (difference.row["state.seq"], difference.log["state.seq"]) == (half, len(log))


def test_a_stored_state_that_cannot_be_read_is_reported() -> None:
    log = play(Run(LOOP), 3).log
    (difference,) = found(log, stored(log, state={"tokens": 5}))
    assert (difference.row, difference.log) == ({"state": UNREADABLE}, {"state": "what its log folds to"})


def test_a_workload_beside_the_log_is_not_compared_but_used() -> None:
    run = Run(LOOP)
    del run.log[0].payload["workload"]
    said = expected_projections("7", run.log, {"x": 1})
    row = {
        **said.execution,
        "parent_execution_id": None,
        "restart_of": None,
        "workload": {"x": 1},
        "folded": 0,
        "state": {},
    }
    row |= {"folded": 2, "state": orjson.loads(orjson.dumps(said.state.snapshot()))}
    kept = StoredRows(execution=row, commands=said.commands, stages=[], frames=[], results=[], variables=[], now=NOW)
    assert found(run.log, kept) == []


def test_rows_that_are_missing_too_many_or_other_are_reported_by_their_key() -> None:
    run = Run(LOOP)
    run.done("a")
    run.frame("each#1.0", [1])
    kept = stored(run.log)
    other = [{**row, "attempt": 9} if row["command_id"] == "each#1.1" else row for row in kept.commands]
    dropped = [row for row in other if row["command_id"] != "each#1.2"]
    more = [*dropped, {**other[0], "command_id": "zzz"}]
    differing = found(run.log, replace(kept, commands=more, stages=[], frames=[{**kept.frames[0], "ok": 5}]))
    commands = [one for one in differing if one.projection == "command"]
    assert [(one.key["command_id"], one.row is None, one.log is None) for one in commands] == [
        ("each#1.1", False, False),
        ("each#1.2", True, False),
        ("zzz", False, True),
    ]
    assert (commands[0].row, commands[0].log) == ({"attempt": 9}, {"attempt": 1})
    (stage,) = [one for one in differing if one.projection == "stage"]
    assert (stage.key, stage.row) == ({"step": "each", "generation": 1}, None)
    (frame,) = [one for one in differing if one.projection == "frame"]
    assert frame.key == {"step": "each", "generation": 1, "start": 0}
    assert (frame.row, frame.log) == ({"ok": 5}, {"ok": 1})


def test_what_has_been_reported_and_waits_in_the_inbox_is_out_no_more_and_its_result_is_there() -> None:
    run = Run(LOOP)
    kept = stored(run.log)
    fact = Event(e.CALL_DONE, NOW, step="a", generation=1, command_id="a#1", payload={"ref": REF})
    row = {**expected_projections("7", [*run.log, replace(fact, seq=3)]).results[0]}
    assert found(run.log, replace(kept, commands=[], inbox=[fact], results=[row])) == []
    differing = found(run.log, replace(kept, inbox=[fact]))
    assert [(one.projection, one.row is None) for one in differing] == [("command", False), ("result_ref", True)]


def test_a_result_whose_time_is_over_may_be_gone() -> None:
    run = Run(LOOP)
    run.report("a#1", ref={**REF, "expires_at": EXPIRES})
    kept = stored(run.log)
    assert found(run.log, kept) == []
    gone = replace(kept, results=[])
    (difference,) = found(run.log, gone)
    assert (difference.projection, difference.row) == ("result_ref", None)
    assert difference.log is not None and difference.log["expires_at"] == NOW
    assert found(run.log, replace(gone, now=NOW)) == []
    assert len(found(run.log, replace(kept, results=[{**kept.results[0], "bytes": 6}], now=NOW))) == 1


def test_what_was_given_up_stays_whatever_waits_in_the_inbox() -> None:
    run = Run(WORKFLOWS["chain"])
    given_up = {"kind": "engine", "code": "command.delivery_limit", "message": "given up"}
    run.report("a#1", e.CALL_ERROR, error=given_up)
    kept = stored(run.log)
    assert [row["status"] for row in kept.commands] == ["dead"]
    late = Event(e.CALL_DONE, NOW, step="a", generation=1, command_id="a#1", payload={})
    assert found(run.log, replace(kept, inbox=[late])) == []


def test_the_parent_of_the_row_is_that_of_the_log() -> None:
    log = play(Run(LOOP), 3).log
    log[0] = replace(log[0], payload={**log[0].payload, "parent": {"execution_id": "5", "step": "call"}})
    assert found(log, stored(log, parent_execution_id="5")) == []
    (difference,) = found(log, stored(log))
    assert (difference.row, difference.log) == ({"parent_execution_id": None}, {"parent_execution_id": "5"})
