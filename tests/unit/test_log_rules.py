"""The rules find what is wrong: a log that is damaged in any of these ways does not pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
from tests.log_rules import audit_decisions, audit_log, audit_state, ends
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.evolve import evolve

Log = list[Event]
WORKFLOW = """
- step: first
  tool: {kind: noop}
  next: {arcs: [{step: each}]}
- step: each
  loop: {in: "{{ range(6) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 3}}
  tool: {kind: noop}
  next: {arcs: [{step: last}]}
- step: last
  tool: {kind: noop}
"""


@pytest.fixture
def run() -> Run:
    run = Run(WORKFLOW)
    run.done("first", {"n": 1})
    while frames := [name for name, command in run.state.commands.items() if command.kind == "frame"]:
        _, start, end, _ = run.state.commands[frames[0]].frame or (0, 0, 0, 0)
        run.frame(frames[0], list(range(start, end)), item_ms=80.0)
    run.done("last", {"n": 2})
    assert run.log[-1].type == e.COMPLETED
    return run


def test_a_log_as_the_core_writes_it_has_no_findings(run: Run) -> None:
    stored = orjson.loads(orjson.dumps(run.state.snapshot()))
    assert audit_log("7", run.log) == []
    assert audit_decisions("7", run.log, run.plan, run.state.workload) == []
    assert audit_state("7", run.log, run.state.workload, stored) == []


def test_so_has_its_beginning(run: Run) -> None:
    begun = [event for event in run.log if (event.cause or event.seq) <= 4]
    assert audit_log("7", begun) == []
    assert audit_decisions("7", begun, run.plan, run.state.workload) == []


def first(log: Log, kind: str) -> Event:
    return next(event for event in log if event.type == kind)


def again(log: Log, event: Event, **changes: object) -> Log:
    """With a copy of the event at its end."""
    return [*log, replace(event, seq=len(log) + 1, **changes)]  # type: ignore[arg-type]


def changed(log: Log, event: Event, **payload: object) -> Log:
    return [replace(each, payload={**each.payload, **payload}) if each is event else each for each in log]


def without(log: Log, event: Event) -> Log:
    """The others close up, so that only what it said is missing."""
    kept = [each for each in log if each is not event]
    place = {each.seq: number for number, each in enumerate(kept, 1)}
    return [replace(each, seq=place[each.seq], cause=place.get(each.cause or 0)) for each in kept]


def set_apart(run: Run) -> Event:
    """The fact that `last` is done cannot be decided."""
    error = {"kind": "engine", "code": e.UNDECIDABLE, "message": "no idea", "retryable": False}
    kept = {
        "type": e.CALL_DONE,
        "step": "last",
        "generation": 1,
        "command": run.open("last"),
        "at": run.now,
        "payload": {},
    }
    failed = Event(e.FAILED, run.now, seq=len(run.log) + 1, payload={"error": error, e.QUARANTINED: kept})
    run.state = evolve(run.state, failed)
    run.log.append(failed)
    return failed


@pytest.fixture
def begun() -> Run:
    run = Run("- {step: first, tool: {kind: noop}, next: {arcs: [{step: last}]}}\n- {step: last, tool: {kind: noop}}\n")
    run.done("first", {"n": 1})
    return run


def findings(run: Run, log: Log | None = None) -> list[str]:
    log = run.log if log is None else log
    return [one.rule for one in (*audit_log("7", log), *audit_decisions("7", log, run.plan, run.state.workload))]


def test_what_was_in_quarantine_may_go_on_or_be_cancelled(begun: Run) -> None:
    failed = set_apart(begun)
    assert ends(begun.log) == [failed]
    assert findings(begun) == []
    begun.fact(e.RETRIED, payload={"seq": failed.seq})
    assert ends(begun.log) == []
    second = set_apart(begun)
    begun.fact(e.RETRIED, payload={"seq": second.seq})
    begun.done("last", {"n": 2})
    assert [event.type for event in ends(begun.log)] == [e.COMPLETED]
    assert findings(begun) == []
    begun.fact(e.CANCELLED, payload={"reason": "too late"})
    assert findings(begun) == ["it ends more than once"]


def test_an_execution_that_leaves_quarantine_unasked_is_found(begun: Run) -> None:
    failed = set_apart(begun)
    begun.fact(e.RETRIED, payload={"seq": failed.seq})
    begun.done("last", {"n": 2})
    retried = first(begun.log, e.RETRIED)
    assert {"it ends more than once", "decided after the end"} <= set(findings(begun, without(begun.log, retried)))
    plain = changed(begun.log, failed)
    plain[plain.index(failed)] = replace(failed, payload={"error": failed.payload["error"]})
    assert {"it ends more than once", "decided after the end"} <= set(findings(begun, plain))


DAMAGES: dict[str, Callable[[Log], Log]] = {
    "the log has gaps": lambda log: log[:3] + log[4:],
    "a seq is taken twice": lambda log: [*log[:-1], replace(log[-1], seq=log[-2].seq)],
    "it does not start once": lambda log: again(log, log[0]),
    "a fact has a cause": lambda log: [*log[:2], replace(log[2], cause=1), *log[3:]],
    "a decision without its fact": lambda log: [log[0], replace(log[1], cause=None), *log[2:]],
    "a command is issued twice": lambda log: again(log, first(log, e.ISSUED)),
    "a command is closed twice": lambda log: again(log, first(log, e.CALL_DONE)),
    "closed without being issued": lambda log: again(log, first(log, e.CALL_DONE), command_id="other#1"),
    "completed with a command that never came back": lambda log: without(log, first(log, e.FRAME_COMMITTED)),
    "items counted more than once": lambda log: again(log, first(log, e.FRAME_COMMITTED), command_id="each#1.99"),
    "items that there are not": lambda log: changed(log, first(log, e.LOOP_OPENED), count=5),
    "items lost": lambda log: without(log, first(log, e.FRAME_COMMITTED)),
    "a frame miscounts its items": lambda log: changed(log, first(log, e.FRAME_COMMITTED), ok=2),
    "a loop's stats are not the sum of its frames": lambda log: changed(
        log, first(log, e.LOOP_DONE), stats={"total": 6, "success": 5, "failed": 1}
    ),
    "loop.done twice": lambda log: again(log, first(log, e.LOOP_DONE)),
    "it ends more than once": lambda log: again(log, log[-1]),
    "decided after the end": lambda log: again(
        again(log, first(log, e.CALL_DONE), command_id="last#2"), log[1], cause=len(log) + 1, command_id="other#1"
    ),
}


@pytest.mark.parametrize("rule", DAMAGES)
def test_the_log_alone_shows_that(run: Run, rule: str) -> None:
    damaged = DAMAGES[rule](run.log)
    assert any(finding.rule.startswith(rule) for finding in audit_log("7", damaged)), audit_log("7", damaged)


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: without(log, log[-1]),
        lambda log: again(log, log[-1]),
        lambda log: changed(log, first(log, e.ISSUED), attempt=2),
        lambda log: without(log, [event for event in log if event.type == e.ISSUED][3]),
    ],
    ids=["a fact is not decided", "a fact is decided twice", "decided otherwise", "a command is missing"],
)
def test_the_playbook_shows_that(run: Run, damage: Callable[[Log], Log]) -> None:
    findings = audit_decisions("7", damage(run.log), run.plan, run.state.workload)
    assert [finding.rule for finding in findings] == ["a fact is not decided as the playbook says, once"]


def test_a_snapshot_that_is_not_the_logs_is_found(run: Run) -> None:
    stored = orjson.loads(orjson.dumps({**run.state.snapshot(), "ctx": {"stray": 1}}))
    (finding,) = audit_state("7", run.log, run.state.workload, stored)
    assert "ctx" in finding.detail


def test_a_log_that_makes_no_sense_is_a_finding_and_not_an_exception(run: Run) -> None:
    senseless = [replace(event, step="nowhere") for event in run.log]
    assert audit_decisions("7", senseless, run.plan, {})
