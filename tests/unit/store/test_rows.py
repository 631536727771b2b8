"""What a commit's parts come to as rows, and rows as what callers are given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from pg8000.exceptions import DatabaseError
from tests.unit.loaded import loaded

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import Command, State, Suspended
from noetl_serverless.records import Claimant, ExecutionCommit, UnstorableCommit
from noetl_serverless.store import event_store
from noetl_serverless.store.connection import as_dicts
from noetl_serverless.store.event_store import _array, _committed, _params, _writing
from noetl_serverless.store.executions import ResultRange as Results
from noetl_serverless.store.executions import merge_inline
from noetl_serverless.store.projections import Rows, claim_issued, execution_row, still_open
from noetl_serverless.store.schedules import DueRun
from noetl_serverless.testing.event_store import MemoryEventStore

ISSUED = Event(
    e.ISSUED,
    5,
    seq=2,
    cause=1,
    step="a",
    generation=1,
    command_id="a#1",
    payload={"kind": "step", "attempt": 1, "scope": {}},
)


def part(state: State, **more: Any) -> ExecutionCommit:
    return ExecutionCommit(execution=loaded(state, head=2), events=[ISSUED], expected_head=1, **more)


def test_a_running_execution_writes_how_far_it_has_come() -> None:
    state = State("7", status="running", outcomes={"a": {}, "b": {}})
    row = {"id": "7", "expect": 1, "head": 2, "status": "RUNNING", "finished": 2}
    written = execution_row(part(state))
    assert written == {**row, "state": state.snapshot(), "state_version": 1}
    behind = part(state)
    behind = replace(behind, execution=replace(behind.execution, snapshot=1))
    assert (behind.writes_snapshot, execution_row(behind)) == (False, row)
    assert execution_row(replace(behind, new_row={"path": "t/t"}))["row"] == {"path": "t/t"}


@pytest.mark.parametrize(
    ("last", "result"),
    [("a", {"data": {"n": 1}}), ("b", {"ref": {"key": "k"}}), ("c", None), (None, None)],
)
def test_one_that_has_ended_writes_what_came_of_it(last: str | None, result: Any) -> None:
    outcomes: dict[str, dict[str, Any]] = {
        "a": {"status": "ok", "data": {"n": 1}},
        "b": {"status": "ok", "ref": {"key": "k"}},
        "c": {"status": "skipped"},
    }
    error = {"code": "boom"}
    state = State("7", status="failed", outcomes=outcomes, last=last, error=error)
    row = execution_row(part(state, ended_at_ms=99))
    assert (row["status"], row["result"], row["error"], row["ended"]) == ("FAILED", result, error, 99)


def test_what_ended_in_the_same_commit_is_not_out() -> None:
    command = Command("a#1", "step", 1)
    timer = Suspended(key="b#1", kind="step", attempt=1, frame=None, resume=None)
    state = State("7", commands={"a#1": command}, timers={"b#1!3": timer})
    rows = [{"command": name} for name in ("a#1", "c#1", "b#1!3")]
    assert still_open(rows, state) == [{"command": "a#1"}, {"command": "b#1!3"}]


def rows_of(*places: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"command": f"c{n}", "status": status, "pool": pool} for n, (status, pool) in enumerate(places)]


def test_of_its_pool_a_claimant_gets_what_there_is_room_for() -> None:
    commands = rows_of(
        ("pending", "gpu"), ("timer", "shared"), ("pending", "shared"), ("pending", "shared"), ("pending", "shared")
    )
    claim_issued(commands, Claimant("w-1", "shared", 30.0, 2))
    assert [row["command"] for row in commands if row["status"] == "claimed"] == ["c2", "c3"]
    assert (commands[2]["worker"], commands[2]["lease"]) == ("w-1", 30.0)
    assert "worker" not in commands[4]
    claim_issued(commands, Claimant("w-2", "shared", 30.0, 0))
    assert commands[4]["status"] == "pending"


def test_an_answer_is_put_together_with_what_was_written() -> None:
    commands = [
        {"id": "7", "command": "a#1", "seq": 2, "step": "a", "generation": 1, "pool": "shared", "status": "claimed"},
        {"id": "7", "command": "b#1", "seq": 2, "step": "b", "generation": 1, "pool": "gpu", "status": "pending"},
        {"id": "8", "command": "c#1", "seq": 2, "step": "c", "generation": 1, "pool": "gpu", "status": "pending"},
    ]
    answer = {"good": ["7"], "claimed": [["7", "a#1", 5, "soon"]], "appended": ["9"]}
    committed = _committed(answer, commands, [part(State("7"))])
    (lease,) = committed.leases
    assert (lease.execution_id, lease.command_id, lease.fence, lease.lease_until) == ("7", "a#1", 5, "soon")
    assert (lease.delivery, lease.seq, lease.step, lease.generation) == (1, 2, "a", 1)
    assert (lease.issued, lease.loop_opened, lease.lost) == (ISSUED.payload, None, None)
    assert [(pool, key.execution_id, key.command_id) for pool, key in committed.pending] == [("gpu", "7", "b#1")]
    assert (committed.committed, committed.with_new_facts) == (frozenset({"7"}), ["9"])


def test_the_arguments_of_a_commit_say_whose_each_is() -> None:
    written = part(
        State("7", status="running"),
        closes=[("a#1", 5)],
        worker="w-1",
        refs=[{"key": "k"}],
        consumed=[3],
        inbox_facts=[{"id": "9"}],
        quarantine={"seq": 2},
    )
    bare = replace(part(State("8")), events=[])
    rows = Rows([{"c": 1}], [{"s": 1}], [{"f": 1}])
    found = {name: orjson.loads(text) for name, text in _params([written, bare], rows).items()}
    assert [row["head"] for row in found.pop("executions")] == [2, 2]
    assert found == {
        "events": [
            {
                "id": "7",
                "seq": 2,
                "cause": 1,
                "type": e.ISSUED,
                "step": "a",
                "generation": 1,
                "command": "a#1",
                "at": 5,
                "payload": ISSUED.payload,
            }
        ],
        "closes": [{"id": "7", "command": "a#1", "fence": 5, "worker": "w-1"}],
        "commands": [{"c": 1}],
        "stages": [{"s": 1}],
        "frames": [{"f": 1}],
        "refs": [{"key": "k", "id": "7"}],
        "taken": [{"id": "7", "inbox": 3}],
        "appends": [{"id": "9", "from": "7"}],
        "quarantined": [{"seq": 2, "id": "7"}],
    }


@pytest.mark.parametrize(
    ("state", "unwritable"),
    [("22P05", True), ("23505", True), ("23514", True), ("54000", True), ("40001", False), ("23001", False)],
)
def test_an_error_for_a_value_that_cannot_be_stored_does_not_quote_the_value(state: str, unwritable: bool) -> None:
    with pytest.raises(UnstorableCommit if unwritable else DatabaseError) as caught, _writing():
        raise DatabaseError({"C": state, "M": "the value is secret"})
    assert not unwritable or str(caught.value) == f"PostgreSQL error {state}"
    with pytest.raises(UnstorableCommit, match="surrogates"), _writing():
        orjson.dumps("\ud800")


def results(start: int, end: int, inline: bool = True) -> Results:
    ref = None if inline else {"key": f"{start}"}
    return Results(start, end, list(range(start, end)) if inline else None, ref)


def test_neighbours_that_are_inline_are_one() -> None:
    assert merge_inline([]) == []
    assert merge_inline([results(0, 2), results(2, 3), results(3, 5)]) == [results(0, 5)]
    apart = [results(0, 2), results(2, 4, inline=False), results(4, 6), results(7, 8)]
    assert merge_inline([*apart, results(8, 9)]) == [*apart[:3], results(7, 9)]


def test_each_due_run_has_its_own_key() -> None:
    due = datetime(2026, 1, 1, tzinfo=UTC)
    assert (
        DueRun(schedule_id=5, due_at=due, playbook_path="t/t", playbook_version=None, input_payload={}).idempotency_key
        == f"schedule:5:{int(due.timestamp())}"
    )


async def test_where_no_pool_is_named_it_is_the_log_s() -> None:
    log = MemoryEventStore(lambda: 5.0, pool=lambda step: f"pool of {step}")
    row: dict[str, Any] = {"workload": {}, "parent_execution_id": None, "at": 1}
    state = State("7", status="running", commands={"a#1": Command("a#1", "step", 1)})
    begun = Event(e.STARTED, 5, seq=1, payload={"entry": "a"})
    opening = replace(part(state, new_row=row), events=[begun, ISSUED], expected_head=None)
    committed = await log.commit([opening])
    assert [pool for pool, _ in committed.pending] == ["pool of a"]


def test_rows_are_named_by_their_columns() -> None:
    assert as_dicts([{"name": "a"}, {"name": "b"}], [[1, 2], [3, 4]]) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert as_dicts(None, None) == []
    with pytest.raises(ValueError, match="shorter"):
        as_dicts([{"name": "a"}, {"name": "b"}], [[1]])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_a_long_array_is_written_in_pieces_that_fit_together(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(event_store, "BATCH_ROWS", 3)
    rows = [{"n": number} for number in range(count)]
    assert orjson.loads(_array(iter(rows))) == rows
