"""An execution as it is made of its rows, and what is known of one of which no state can be made."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.unit.engine.plays import CHAIN
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.upcast import STATE_VERSION, VERSION, NewerSchema
from noetl_serverless.records import LoadedExecution
from noetl_serverless.store.loaded_execution import event_of, execution_of, inbox_of


def row_of(event: Event) -> list[Any]:
    names = (event.step, event.generation, event.command_id)
    return [7, event.seq, event.cause, event.type, *names, str(event.at), event.payload]


def loaded(log: list[Event], folded: int, state: Any = None, form: int = STATE_VERSION) -> LoadedExecution:
    kept = orjson.loads(orjson.dumps(fold("7", log[:folded]).snapshot())) if state is None else state
    newer = [row_of(event) for event in log[folded:]] or None
    who = ("7", "3", "t/t", 2, "h", {"execution_id": "5"}, 4)
    return execution_of((*who, len(log), folded, kept, form, {"name": "alice"}, {"x": 1}, newer))


def log() -> list[Event]:
    run = Run(CHAIN)
    run.done("a", {"v": 1})
    del run.log[0].payload["workload"]
    return run.log


@pytest.mark.parametrize("folded", [2, 3, 4])
def test_a_state_is_made_of_what_is_stored_and_what_came_since(folded: int) -> None:
    events = log()
    case = loaded(events, folded)
    assert (case.execution_id, case.catalog_id, case.path, case.version, case.plan_hash) == ("7", "3", "t/t", 2, "h")
    assert (case.parent, case.depth, case.head, case.snapshot) == ({"execution_id": "5"}, 4, 4, folded)
    assert (case.principal, case.read_error, case.is_from_newer_release) == ({"name": "alice"}, None, False)
    assert case.state == fold("7", events, {"x": 1})


@pytest.mark.parametrize("what", ["state", "event"])
def test_what_a_newer_release_wrote_is_recognised(what: str) -> None:
    events = log()
    if what == "event":
        events[3].payload["v"] = VERSION + 1
    case = loaded(events, 2, form=STATE_VERSION + (what == "state"))
    assert isinstance(case.read_error, NewerSchema) and case.is_from_newer_release
    assert (case.state.seq, case.state.status, case.state.workload) == (4, "running", {"x": 1})
    assert (case.state.execution_id, case.state.tokens) == ("7", {})


def test_of_what_cannot_be_read_no_more_is_known_than_whether_it_has_ended() -> None:
    case = loaded(log(), 2, state={"tokens": 5})
    assert case.read_error is not None and not case.is_from_newer_release
    assert case.state.status == "running"
    ended = {"tokens": 5, "status": "failed", "error": {"code": "boom"}}
    case = loaded(log(), 4, state=ended)
    assert (case.state.status, case.state.error) == ("failed", {"code": "boom"})
    assert loaded(log(), 4, state={"tokens": 5, "status": "running"}).state.status == "running"
    assert loaded(log(), 4, state="nonsense").state.status == "running"


@pytest.mark.parametrize(
    ("kind", "status"),
    [(e.COMPLETED, "completed"), (e.FAILED, "failed"), (e.CANCELLED, "cancelled"), (e.STEP_EXIT, "running")],
)
def test_its_end_is_seen_in_the_events_since(kind: str, status: str) -> None:
    end = Event(kind, 9, seq=5, payload={"error": {"code": "x"}, "routes": "nonsense"})
    case = loaded([*log(), end], 2, state={"tokens": 5})
    assert (case.state.status, case.state.seq) == (status, 5)
    assert case.state.error == (None if status == "running" else {"code": "x"})
    later = Event(e.STEP_EXIT, 9, seq=6, payload={"routes": "nonsense"})
    assert loaded([*log(), end, later], 2, state={"tokens": 5}).state.seq == 6, "the next commit would collide"


def test_what_left_quarantine_runs_again() -> None:
    error = {"code": e.UNDECIDABLE}
    apart = Event(e.FAILED, 9, seq=5, payload={"error": error, e.QUARANTINED: {"type": "x"}})
    again = Event(e.RETRIED, 9, seq=6, payload={"seq": 5})
    assert loaded([*log(), apart], 2, state={"tokens": 5}).state.quarantined
    assert loaded([*log(), apart, again], 2, state={"tokens": 5}).state.status == "running"


def test_rows_are_events() -> None:
    event = Event(e.CALL_DONE, 1_800_000_000_000, seq=3, step="a", generation=1, command_id="a#1", payload={"data": 1})
    assert event_of(row_of(event)) == event
    found = inbox_of([(12, e.CALL_DONE, "a", 1, "a#1", "5", {"data": 1}, True)])
    (taken,) = found.facts
    assert found.more
    assert taken == (
        12,
        Event(e.CALL_DONE, 5, step="a", generation=1, command_id="a#1", payload={"data": 1}),
    )
    with pytest.raises(NewerSchema):
        event_of(row_of(Event(e.CALL_DONE, 1, seq=3, payload={"v": VERSION + 1})))
