"""What one execution's part of a commit writes: when its state, when its end, and what it tells others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import State
from noetl_serverless.orchestrator.start import new_root
from noetl_serverless.orchestrator.transition import SNAPSHOT_EVERY_EVENTS, Transition, child_end
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.records import LoadedExecution

from .conftest import Catalog

AT = 1_800_000_000_000
AGAIN = "- {step: a, tool: {kind: noop}, next: {arcs: [{step: a, when: '{{ output.data.more }}'}]}}\n"
CALL = "- {step: a, tool: {kind: playbook, path: t/child}}\n"
CHILD = {"path": "t/child", "version": 1, "payload": {}, "return_step": None, "catalog_id": "1", "plan_hash": "h"}


def begun(workflow: str = AGAIN) -> tuple[Transition, Plan, dict[str, Any]]:
    catalog = Catalog()
    catalog.add("t/t", workflow)
    entry = catalog.found["t/t"]
    plan = load_plan(entry.content)
    opening = new_root(entry, plan, {"ctx": {"n": 1}}, AT, None)
    turn = Transition(opening.execution, plan)
    turn.apply(opening.fact)
    return turn, plan, opening.row


def done(generation: int, more: bool = True, at: int = AT + 5) -> Event:
    return Event(
        e.CALL_DONE,
        at,
        step="a",
        generation=generation,
        command_id=f"a#{generation}",
        payload={"data": {"more": more}},
    )


def test_the_beginning_is_written_with_its_state_and_expects_nobody_before() -> None:
    turn, plan, row = begun()
    part = turn.to_commit(row)
    assert (part.expected_head, part.new_row, part.writes_snapshot) == (None, row, True)
    assert (part.execution.head, part.execution.snapshot, part.execution.state.seq) == (2, 2, 2)
    assert [(event.seq, event.cause) for event in part.events] == [(1, None), (2, 1)]
    assert (part.worker, part.closes, part.consumed, part.ended_at_ms, part.quarantine) == (None, [], [], None, None)
    assert part.pool_of is not None and part.pool_of("a") == plan.pool("a")


def test_the_state_is_written_every_so_often_and_expects_what_it_was_loaded_as() -> None:
    turn, plan, row = begun()
    case = turn.to_commit(row).execution
    written = []
    for generation in range(1, SNAPSHOT_EVERY_EVENTS + 2):
        turn = Transition(case, plan, "w-1")
        turn.apply(done(generation), (f"a#{generation}", generation))
        part = turn.to_commit()
        assert (part.expected_head, part.worker, part.closes) == (case.head, "w-1", [(f"a#{generation}", generation)])
        assert part.execution.state.seq == part.execution.head == case.head + 2
        if part.writes_snapshot:
            written.append(part.execution.head)
        case = part.execution
    assert written == [2 + SNAPSHOT_EVERY_EVENTS, 2 + 2 * SNAPSHOT_EVERY_EVENTS]


def test_a_state_of_many_steps_is_written_more_rarely() -> None:
    first, plan, row = begun()
    case = first.to_commit(row).execution
    state = replace(case.state, outcomes={f"s{n}": {"status": "ok"} for n in range(10_000)})

    def is_written(events_since: int) -> bool:
        turn = Transition(replace(case, state=state, snapshot=case.head + 2 - events_since), plan)
        turn.apply(done(1))
        return turn.to_commit().writes_snapshot

    assert not is_written(10_000 // 8 - 1)
    assert is_written(10_000 // 8 + 1)


def test_the_end_is_written_with_its_state_and_says_when() -> None:
    turn, plan, row = begun()
    case = turn.to_commit(row).execution
    turn = Transition(case, plan)
    turn.apply(done(1, more=False), ("a#1", 1), inbox_id=9)
    part = turn.to_commit()
    assert (part.writes_snapshot, part.ended_at_ms, part.consumed) == (True, AT + 5, [9])
    assert part.execution.state.status == "completed"
    late = Transition(part.execution, plan)
    late.apply(done(1, more=False, at=AT + 99))
    part = late.to_commit()
    assert (part.ended_at_ms, part.inbox_facts, part.events[0].payload[e.IGNORED]) == (
        None,
        [],
        "the command is not open",
    )


def test_what_is_ignored_is_kept_without_what_it_would_have_set() -> None:
    turn, plan, row = begun()
    turn = Transition(turn.to_commit(row).execution, plan)
    fact = done(7)
    fact.payload["set"] = {"x": 1}
    turn.apply(fact)
    (event,) = turn.events
    assert event.payload == {"data": {"more": True}, e.IGNORED: "the command is not open"}
    assert turn.state.ctx == {"n": 1}


def test_what_follows_is_known_by_its_command_but_not_from_the_inbox() -> None:
    turn, plan, row = begun()
    case = turn.to_commit(row).execution
    turn = Transition(case, plan)
    turn.apply(done(1))
    assert turn.issued.keys() == {"a#2"}
    assert turn.issued["a#2"]["kind"] == "step"
    turn = Transition(case, plan)
    turn.apply(done(1), inbox_id=3)
    assert turn.issued == {}


LINK = {"execution_id": "5", "command_id": "c#1", "step": "c", "generation": 2, "resumes": True, "return_step": None}


def with_parent(case: LoadedExecution, **link: Any) -> LoadedExecution:
    return LoadedExecution(
        execution_id=case.execution_id,
        catalog_id="1",
        path="t/t",
        version=1,
        plan_hash=case.plan_hash,
        parent={**LINK, **link},
        depth=1,
        head=case.head,
        snapshot=case.snapshot,
        state=case.state,
    )


def test_its_parent_gets_the_end_once() -> None:
    turn, plan, row = begun()
    case = with_parent(turn.to_commit(row).execution)
    turn = Transition(case, plan)
    turn.apply(done(1, more=False))
    assert turn.to_commit().inbox_facts == [
        {
            "id": "5",
            "type": e.CHILD_ENDED,
            "step": "c",
            "generation": 2,
            "at": AT + 5,
            "payload": {"execution_id": case.execution_id, "resumes": True, "status": "ok", "data": {"more": False}},
        }
    ]


def test_its_children_are_ended_with_it_but_for_the_one_whose_end_it_takes_in() -> None:
    both = """
- {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: b}]}}
- {step: a, tool: {kind: playbook, path: t/child}}
- {step: b, tool: {kind: playbook, path: t/child}}
"""
    turn, plan, row = begun(both)
    turn.apply(Event(e.CALL_DONE, AT, step="split", generation=1, command_id="split#1", payload={}))
    for step in ("a", "b"):
        turn.apply(
            Event(
                e.CALL_PARKED,
                AT + 1,
                step=step,
                generation=1,
                command_id=f"{step}#1",
                payload={"child": CHILD},
            )
        )
    first, second = turn.state.children
    assert [event.payload["execution_id"] for event in turn.started_children] == [first, second]
    assert turn.to_commit(row).inbox_facts == []
    case = turn.to_commit(row).execution
    failed = {"execution_id": first, "resumes": False, "status": "error", "error": {"code": "x", "message": "y"}}
    turn = Transition(case, plan)
    turn.apply(Event(e.CHILD_ENDED, AT + 2, step="a", generation=1, payload=failed))
    assert turn.state.status == "failed"
    reason = f"the parent execution {case.execution_id} has ended"
    payload = {"reason": reason, e.UNDO: True}
    assert turn.inbox_facts == [{"id": second, "type": e.CANCELLED, "at": AT + 2, "payload": payload}]
    for cascade, ended in ((True, [first, second]), (False, [])):
        turn = Transition(case, None)
        turn.apply(Event(e.CANCELLED, AT + 3, payload={"reason": "enough", "cascade": cascade}))
        assert [fact["id"] for fact in turn.inbox_facts] == ended
        assert all(e.UNDO not in fact["payload"] for fact in turn.inbox_facts), "somebody has asked for it"


class Mistake(Exception):
    """Stands for a mistake in the engine."""


@pytest.fixture
def mistaken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(decider: decide.Decider) -> None:
        raise Mistake("x" * 600 + "\ud800\0")

    monkeypatch.setitem(decide.DECIDE, e.CALL_DONE, broken)


def test_what_cannot_be_decided_is_kept_with_all_that_comes_after(mistaken: None) -> None:
    turn, plan, row = begun()
    turn = Transition(with_parent(turn.to_commit(row).execution), plan)
    turn.apply(done(1), ("a#1", 1))
    turn.apply(done(2), inbox_id=4)
    part = turn.to_commit()
    (failed,) = part.events
    error = failed.payload["error"]
    assert (failed.type, failed.at, failed.seq, failed.cause) == (e.FAILED, AT + 5, 3, None)
    assert (failed.step, failed.generation, failed.command_id) == ("a", 1, "a#1")
    assert (error["kind"], error["code"], error["retryable"]) == ("engine", e.UNDECIDABLE, False)
    assert error["message"].startswith("the engine cannot decide what follows call.done: Mistake: xxx")
    assert len(error["message"]) < 600
    assert error["place"].startswith("engine/decide.py:") and error["place"].endswith(" in decide")
    first = {
        "type": e.CALL_DONE,
        "step": "a",
        "generation": 1,
        "command": "a#1",
        "at": AT + 5,
        "payload": {"data": {"more": True}},
    }
    assert failed.payload[e.QUARANTINED] == first
    second = {**first, "generation": 2, "command": "a#2"}
    assert part.quarantine == {"seq": 3, "at": AT + 5, "error": error, "facts": [first, second]}
    assert (part.closes, part.consumed, part.ended_at_ms, part.writes_snapshot) == ([("a#1", 1)], [4], AT + 5, True)
    (fact,) = part.inbox_facts
    assert fact["payload"]["error"]["cause"]["code"] == e.UNDECIDABLE


def test_what_an_error_shows_can_always_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(decider: decide.Decider) -> None:
        raise Mistake("half \ud800 and nothing \0")

    monkeypatch.setitem(decide.DECIDE, e.CALL_DONE, broken)
    turn, plan, row = begun()
    turn = Transition(turn.to_commit(row).execution, plan)
    turn.apply(done(1))
    assert turn.events[-1].payload["error"]["message"].endswith("Mistake: half ? and nothing ?")


def test_what_cannot_be_written_is_given_up_with_or_without_what_was_given() -> None:
    turn, plan, row = begun()
    case = turn.to_commit(row).execution
    turn = Transition(case, plan, "w-1")
    turn.apply(done(1), ("a#1", 1))
    turn.apply(done(2), ("a#2", 1), inbox_id=4)
    turn.refs.append({"key": "k"})
    kept = turn.quarantined(ValueError("no")).to_commit()
    assert kept.quarantine is not None
    assert [fact["command"] for fact in kept.quarantine["facts"]] == ["a#1", "a#2"]
    assert (kept.refs, kept.worker, kept.closes, kept.consumed) == (
        [{"key": "k"}],
        "w-1",
        [("a#1", 1), ("a#2", 1)],
        [4],
    )
    assert kept.events[-1].payload[e.QUARANTINED]["payload"] == {"data": {"more": True}}
    assert kept.quarantine["error"]["place"] == "", "no line of ours is to blame"
    bare = turn.quarantined(ValueError("no"), keep_facts=False).to_commit()
    assert bare.quarantine is not None
    assert (bare.quarantine["facts"], bare.refs) == ([], [])
    assert bare.events[-1].payload[e.QUARANTINED]["payload"] == {}
    assert (bare.closes, bare.consumed) == ([("a#1", 1), ("a#2", 1)], [4])


def ended(status: str, **state: Any) -> State:
    return State("9", status=status, **state)  # type: ignore[arg-type]


OUTCOMES = {
    "a": {"status": "ok", "data": {"n": 1}, "unmatched": True},
    "b": {"status": "ok", "ref": {"key": "k"}},
    "c": {"status": "skipped"},
}


@pytest.mark.parametrize(
    ("last", "step", "expected"),
    [
        ("a", None, {"data": {"n": 1}}),
        ("a", "b", {"ref": {"key": "k"}}),
        ("b", "c", {}),
        ("gone", None, {}),
        (None, None, {}),
    ],
)
def test_a_child_that_ends_well_gives_the_step_that_is_asked_for_or_its_last(
    last: Any, step: Any, expected: Any
) -> None:
    assert child_end(ended("completed", outcomes=OUTCOMES, last=last), step, "9") == {"status": "ok", **expected}


@pytest.mark.parametrize(
    ("state", "step", "code", "message"),
    [
        (
            ended("completed", outcomes=OUTCOMES, last="a"),
            "gone",
            "child.no_result",
            "the child execution 9 ended without running its step 'gone'",
        ),
        (ended("cancelled"), None, "child.cancelled", "the child execution 9 was cancelled"),
        (
            ended("failed", error={"code": "boom", "message": "it broke"}),
            None,
            "child.failed",
            "the child execution 9 failed: it broke",
        ),
        (ended("failed"), None, "child.failed", "the child execution 9 failed: no reason given"),
    ],
)
def test_one_that_does_not_says_why(state: State, step: Any, code: str, message: str) -> None:
    ending = child_end(state, step, "9")
    assert ending["status"] == "error"
    error = {name: value for name, value in ending["error"].items() if name != "cause"}
    assert error == {"kind": "playbook", "code": code, "message": message, "retryable": False, "execution_id": "9"}
    assert ending["error"].get("cause") == ((state.error or {}) if state.status == "failed" else None)


def test_a_failure_deep_below_is_reported_once_with_its_place() -> None:
    error: dict[str, Any] = {"kind": "t", "code": "boom", "message": "it broke", "retryable": False}
    for child in ("9", "8", "7"):
        error = child_end(State("1", status="failed", error=error), None, child)["error"]
    assert error["message"] == "the child execution 7 failed: it broke (in execution 9, 2 levels below it)"
    assert error["cause"]["message"] == "the child execution 8 failed: it broke (in execution 9, a level below it)"
