"""What must hold of every execution, whatever happened while it ran: no step lost, none decided twice.

`audit_log` needs the log alone, `audit_state` also the snapshot that is kept beside it, `audit_decisions` also the
playbook: it decides every fact once more and compares. Each gives findings; none means that all is well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import advance
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.evolve import evolve
from noetl_serverless.engine.replay import fold, logical_order
from noetl_serverless.engine.state import State
from noetl_serverless.playbook.plan import Plan

CLOSING = frozenset({e.CALL_DONE, e.CALL_ERROR, e.CALL_DEFERRED, e.CALL_PARKED, e.FRAME_COMMITTED})
LAST = frozenset({e.COMPLETED, e.FAILED, e.CANCELLED})
# what takes an execution out of quarantine
OUT = frozenset({e.RETRIED, e.CANCELLED})


@dataclass(frozen=True, slots=True)
class Finding:
    execution_id: str
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"execution {self.execution_id}: {self.rule}: {self.detail}"


class Findings(list[Finding]):
    def __init__(self, execution_id: str) -> None:
        super().__init__()
        self._id = execution_id

    def add(self, rule: str, detail: str) -> None:
        self.append(Finding(self._id, rule, detail))

    def once(self, rule: str, values: Iterable[Any]) -> None:
        for value, times in Counter(values).items():
            if times > 1:
                self.add(rule, f"{value} {times} times")


# -- the log alone


def audit_log(execution_id: str, events: Sequence[Event]) -> list[Finding]:
    """The rules that a log must obey by itself; `events` may come in any order."""
    found = Findings(execution_id)
    log = sorted(events, key=lambda event: event.seq)
    _sequence(found, log)
    _causes(found, log)
    _commands(found, log)
    _suspensions(found, log)
    _loops(found, log)
    _end(found, log)
    return found


def _sequence(found: Findings, log: list[Event]) -> None:
    found.once("a seq is taken twice", (event.seq for event in log))
    missing = sorted(set(range(1, len(log) + 1)) - {event.seq for event in log})
    if missing:
        found.add("the log has gaps", f"seq {missing[:10]} missing of {len(log)} events")
    starts = [event.seq for event in log if event.type == e.STARTED]
    if starts != [1]:
        found.add("it does not start once, at seq 1", f"started at {starts}")


def _causes(found: Findings, log: list[Event]) -> None:
    by_seq = {event.seq: event for event in log}
    for event in log:
        if event.type in e.FACTS:
            if event.cause is not None:
                found.add("a fact has a cause", f"seq {event.seq} {event.type}")
            continue
        if apart(event):
            continue
        fact = by_seq.get(event.cause or 0)
        if fact is None or fact.type not in e.FACTS or fact.seq >= event.seq:
            found.add("a decision without its fact", f"seq {event.seq} {event.type} names {event.cause}")


def _commands(found: Findings, log: list[Event]) -> None:
    issued = {event.command_id: event for event in log if event.type == e.ISSUED}
    found.once("a command is issued twice", (event.command_id for event in log if event.type == e.ISSUED))
    closed = [event for event in log if event.type in CLOSING]
    found.once("a command is closed twice", (event.command_id for event in closed))
    for event in closed:
        order = issued.get(event.command_id)
        if order is None or order.seq > event.seq:
            found.add("closed without being issued", f"seq {event.seq} {event.type} of {event.command_id}")
    if any(event.type == e.COMPLETED for event in log):
        timed_out = {(event.step, event.generation) for event in log if event.type == e.STEP_TIMED_OUT}
        dropped = {name for name, order in issued.items() if (order.step, order.generation) in timed_out}
        lost = sorted(str(name) for name in issued.keys() - dropped - {event.command_id for event in closed})
        if lost:
            found.add("completed with a command that never came back", ", ".join(lost[:5]))


def _suspensions(found: Findings, log: list[Event]) -> None:
    for opening, ending, name in (
        (e.TIMER_SET, e.TIMER_FIRED, "timer"),
        (e.CHILD_STARTED, e.CHILD_ENDED, "execution_id"),
    ):
        opened = [event.payload[name] for event in log if event.type == opening]
        ended = [event.payload[name] for event in log if event.type == ending]
        found.once(f"{opening} twice", opened)
        found.once(f"{ending} twice", ended)
        for strange in set(ended) - set(opened):
            found.add(f"{ending} without {opening}", str(strange))


def _loops(found: Findings, log: list[Event]) -> None:
    opened = {(event.step, event.generation): event for event in log if event.type == e.LOOP_OPENED}
    done = {(event.step, event.generation): event for event in log if event.type == e.LOOP_DONE}
    for kind in (e.LOOP_OPENED, e.LOOP_DONE):
        found.once(f"{kind} twice", ((event.step, event.generation) for event in log if event.type == kind))
    frames: defaultdict[tuple[str | None, int | None], list[Event]] = defaultdict(list)
    for event in log:
        if event.type in e.FRAMES:
            frames[event.step, event.generation].append(event)
    # what another execution has done of a loop may be all
    known = opened.keys() | {(event.step, event.generation) for event in log if event.type == e.LOOP_REUSED}
    for key in frames.keys() - known:
        found.add("a frame of a loop that was not opened", f"{key[0]}#{key[1]}")
    for key, opening in opened.items():
        _loop(found, opening, done.get(key), frames[key])


def _loop(found: Findings, opening: Event, done: Event | None, frames: list[Event]) -> None:
    name, count = f"{opening.step}#{opening.generation}", opening.payload["count"]
    items = Counter(item for frame in frames for item in range(frame.payload["start"], frame.payload["end"]))
    places = set(range(count))
    if opening.payload["mode"] == "cursor":
        # how many there are shows when they are claimed, and a claim may leave places free
        count, places = len(items), set(items)
    twice = sorted(item for item, times in items.items() if times > 1)
    if twice:
        found.add("items counted more than once", f"{name}: {twice[:10]}, {len(twice)} of {count}")
    if not items.keys() <= places:
        found.add("items that there are not", f"{name}: {sorted(items.keys() - places)[:10]}")
    for frame in frames:
        payload = frame.payload
        if payload["ok"] + payload["failed"] != payload["end"] - payload["start"]:
            found.add("a frame miscounts its items", f"{name}: seq {frame.seq}")
    if done is None:
        return
    stats = {kind: sum(frame.payload[kind] for frame in frames) for kind in ("ok", "failed")}
    expected = {"total": count, "success": stats["ok"], "failed": stats["failed"]}
    if done.payload["stats"] != expected:
        found.add("a loop's stats are not the sum of its frames", f"{name}: {done.payload['stats']}, not {expected}")
    lost = sorted(places - items.keys())
    if lost and done.payload["status"] == "ok":
        found.add("items lost", f"{name}: {lost[:10]}, {len(lost)} of {count}")


def apart(event: Event) -> bool:
    """Whether it is the end of what could not be decided: it has no cause, and need not be the last."""
    return event.type == e.FAILED and e.QUARANTINED in event.payload and event.cause is None


def ends(events: Iterable[Event]) -> list[Event]:
    """What ended it, in order; without what went into quarantine and has gone on since, or was cancelled there."""
    found: list[Event] = []
    for event in logical_order(events):
        if found and apart(found[-1]) and event.type in OUT:
            found.pop()
        if event.type in LAST:
            found.append(event)
    return found


def _end(found: Findings, log: list[Event]) -> None:
    ended = ends(log)
    if len(ended) > 1:
        found.add("it ends more than once", ", ".join(f"seq {event.seq} {event.type}" for event in ended))
    after: list[Event] = []
    over = waits = False
    for event in logical_order(log):
        if waits and event.type in OUT:
            over = waits = False
        if over and event.type not in e.FACTS:
            after.append(event)
        over, waits = over or event.type in LAST, waits or (not over and apart(event))
    if after:
        found.add("decided after the end", ", ".join(f"seq {event.seq} {event.type}" for event in after[:5]))


# -- with the playbook


def audit_decisions(
    execution_id: str, events: Sequence[Event], plan: Plan, workload: Mapping[str, Any]
) -> list[Finding]:
    """Every fact of the log is decided once more; what follows must be what was written, no more and no less."""
    found = Findings(execution_id)
    try:
        _decide_again(found, execution_id, events, plan, workload)
    except (KeyError, AssertionError, TypeError) as error:
        found.add("the log cannot be decided again", repr(error))
    return found


def _decide_again(
    found: Findings, execution_id: str, events: Sequence[Event], plan: Plan, workload: Mapping[str, Any]
) -> None:
    answers: defaultdict[int, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.seq):
        if event.cause is not None:
            answers[event.cause].append(event)
    state = State(execution_id, workload=workload)
    facts = sorted((event for event in events if event.type in e.FACTS or apart(event)), key=lambda event: event.seq)
    for fact in facts:
        if apart(fact):
            state = evolve(state, fact)
            continue
        state, decisions = advance(plan, state, fact)
        made, written = [_content(event) for event in decisions], [_content(event) for event in answers[fact.seq]]
        if made != written:
            detail = f"seq {fact.seq} {fact.type} of {fact.command_id}: {_names(answers[fact.seq])}"
            found.add("a fact is not decided as the playbook says, once", f"{detail}; expected {_names(decisions)}")
            return
    if (folded := fold(execution_id, events, workload)) != (decided := replace(state, seq=folded.seq)):
        found.add("the log does not fold to what was decided", _difference(_plain(folded), _plain(decided)))


def audit_state(
    execution_id: str, events: Sequence[Event], workload: Mapping[str, Any], stored: Mapping[str, Any]
) -> list[Finding]:
    """`stored` is the snapshot kept beside the log: it must be what the log folds to."""
    found = Findings(execution_id)
    try:
        folded = _plain(fold(execution_id, events, workload))
    except (KeyError, AssertionError, TypeError) as error:
        found.add("the log does not fold", repr(error))
        return found
    kept = _plain(State.restore(stored, workload))
    if folded != kept:
        found.add("the stored state is not the log's", _difference(folded, kept))
    return found


def _content(event: Event) -> Any:
    return orjson.loads(orjson.dumps([event.type, event.step, event.generation, event.command_id, event.payload]))


def _names(events: Iterable[Event]) -> str:
    return ", ".join(f"{event.type} {event.command_id or event.step or ''}".strip() for event in events) or "nothing"


def _plain(state: State) -> Any:
    return orjson.loads(orjson.dumps(replace(state, workload={})))


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    parts = [name for name in one if one[name] != other.get(name)]
    return "; ".join(f"{name}: {str(one[name])[:300]} / {str(other.get(name))[:300]}" for name in parts)
