"""The transition of one execution, in memory: facts are applied, and decisions follow."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..engine import events as e
from ..engine.decide import advance, reason_to_ignore
from ..engine.error import bounded
from ..engine.events import Event
from ..engine.evolve import apply as evolve_in_place
from ..engine.evolve import evolve
from ..engine.state import FIRST_VERSION, State
from ..limits import WEIGHT
from ..playbook.plan import Plan
from ..records import ExecutionCommit, LoadedExecution
from ..store.loaded_execution import quarantined_fact
from ..store.projections import variable_changes

# events between two snapshots: the most that a process has to fold when it loads an execution
SNAPSHOT_EVERY_EVENTS = 32
# the interval grows by one event for so many steps that have ended
STEPS_PER_EVENT = 8
PACKAGE = Path(__file__).parent.parent
MAX_MESSAGE_CHARACTERS = 500


class AppliedFact(NamedTuple):
    """A fact, with the command and the fence that it closes, and its number in the inbox, if any."""

    fact: Event
    closes: tuple[str, int] | None = None
    inbox_id: int | None = None


class Transition:
    """Decides on the `execution` as loaded; `to_commit` returns what to write. `worker`: the one that reports, if any.

    Without a plan only the end of an execution can be decided.
    """

    def __init__(self, execution: LoadedExecution, plan: Plan | None, worker: str | None = None) -> None:
        self.execution = execution
        self.worker = worker
        self.plan = plan
        self.state: State = execution.state
        self.head = execution.head
        self.applied: list[AppliedFact] = []
        self.events: list[Event] = []
        self.closes: list[tuple[str, int]] = []
        self.refs: list[dict[str, Any]] = []
        self.consumed: list[int] = []
        # whether the inbox holds more than one commit has room for
        self.incomplete = False
        self.inbox_facts: list[dict[str, Any]] = []
        # commands and timers of steps that have ended before them
        self.drops: list[str] = []
        # rows of commands to be issued again
        self.reissued: list[dict[str, Any]] = []
        # command id -> the payload it was issued with, for those that follow from facts that were not in the inbox
        self.issued: dict[str, dict[str, Any]] = {}
        # when the execution ended, in ms
        self.ended_at_ms: int | None = None
        # into quarantine, or out of it: see `ExecutionCommit.quarantine`
        self.quarantine: dict[str, Any] | None = None

    @property
    def started_children(self) -> list[Event]:
        """The events whose child executions are opened in the same commit: all that the log names, and no others."""
        return [event for event in self.events if event.type == e.CHILD_STARTED]

    def apply(self, fact: Event, closes: tuple[str, int] | None = None, inbox_id: int | None = None) -> None:
        """Append a fact and what follows from it; `closes` is the command and the fence that it closes, `inbox_id` its
        number in the inbox. A fact that cannot be decided ends the execution, in quarantine."""
        self._record(AppliedFact(fact, closes, inbox_id))
        if self.quarantine:
            self.quarantine["facts"].append(quarantined_fact(fact))
            return
        try:
            decisions = self._decide(fact.numbered(self.head + 1))
        except Exception as error:
            # the core is pure: this fact in this state will fail every time
            self._quarantine(fact, error)
            return
        if inbox_id is None:
            self.issued.update({event.command_id or "": event.payload for event in decisions if event.type == e.ISSUED})

    def append(self, facts: Iterable[Event]) -> None:
        """Append facts of which nothing follows, however many."""
        self.state = self.state.copy()
        for fact in facts:
            numbered = fact.numbered(self.head + 1)
            self._record(AppliedFact(fact))
            evolve_in_place(self.state, numbered)
            self._append(numbered)

    def quarantine_unread(self, fact: Event) -> None:
        """Put the execution into quarantine because its state cannot be read. Whether `fact` fits the state is unknown:
        it is not kept, and the command that it would have closed is issued again after a retry."""
        assert self.execution.read_error is not None
        self._quarantine(fact, self.execution.read_error)
        assert self.quarantine is not None
        self.quarantine["facts"].clear()

    def quarantined(self, error: Exception, *, keep_facts: bool = True) -> Transition:
        """A transition in place of this one that puts the execution into quarantine, together with the applied facts if
        `keep_facts` is set. Otherwise the commands that they closed are issued again after a retry."""
        transition = Transition(self.execution, self.plan, self.worker)
        for applied in self.applied:
            transition._record(applied)
        first, *rest = (applied.fact for applied in self.applied)
        transition._quarantine(first if keep_facts else replace(first, payload={}), error)
        assert transition.quarantine is not None
        if keep_facts:
            transition.refs = self.refs
            transition.quarantine["facts"] += map(quarantined_fact, rest)
        else:
            transition.quarantine["facts"].clear()
        return transition

    def _record(self, applied: AppliedFact) -> None:
        self.applied.append(applied)
        if applied.closes is not None:
            self.closes.append(applied.closes)
        if applied.inbox_id is not None:
            self.consumed.append(applied.inbox_id)

    def _decide(self, fact: Event) -> list[Event]:
        if fact.type == e.DROPPED:
            # it stays as it ended, even if its state cannot be read
            self.state, self.quarantine = evolve(self.state, fact), {}
            self._append(fact)
            return []
        if self.execution.read_error is not None and fact.type != e.CANCELLED:
            raise self.execution.read_error
        if reason := reason_to_ignore(self.state, fact):
            # an earlier release would apply what the fact sets
            unset_payload = {name: value for name, value in fact.payload.items() if name != "set"}
            fact = replace(fact, payload={**unset_payload, e.IGNORED: reason})
        was_running, was_quarantined = not self.state.ended, self.state.quarantined
        before = self.state
        self.state, decisions = advance(self.plan, self.state, fact)  # type: ignore[arg-type]
        self._append(fact)
        for index, decision in enumerate(decisions):
            # in place, without a second list: there may be very many
            decisions[index] = decision.numbered(self.head + 1)
            self._append(decisions[index])
        if fact.type in (e.PAUSED, e.RESUMED) and e.IGNORED not in fact.payload:
            self._tell_children(fact, before)
        if was_running and self.state.ended:
            self.ended_at_ms = fact.at
            self._notify_parent(fact.at)
        if was_quarantined:
            self.quarantine = {}
            self.ended_at_ms = fact.at if self.state.ended else None
        if (was_running or was_quarantined) and self.state.ended and fact.payload.get("cascade", True):
            self._cancel_left(before, fact, f"the parent execution {self.execution.execution_id} has ended")
        elif not self.state.ended and self.plan is not None and self.plan.stops_steps:
            self._cancel_left(before, fact, f"its step in execution {self.execution.execution_id} is over")
            self._drop_left(before, fact)
        if before.waits and not self.state.ended:
            self._drop_ended_waits(before, fact)
        return decisions

    def _cancel_left(self, before: State, fact: Event, reason: str) -> None:
        """Cancel the children that nothing waits for any more."""
        ended = fact.payload.get("execution_id")
        left = [child for child in before.children if child not in self.state.children and child != ended]
        is_requested = fact.type == e.CANCELLED and e.UNDO not in fact.payload
        undo = not is_requested and self.state.status != "completed"
        self.cancel_children(left, fact.at, reason, undo=undo)
        if undo and self.state.ended and before.paused is not None:
            # nobody can let it go on any more, and with it what they undo
            self._resume((*left, *before.paused.left), fact.at, {"reason": reason})

    def _drop_left(self, before: State, fact: Event) -> None:
        """The rows of commands and timers that nothing waits for any more; that of the fact itself is closed."""
        closed = {fact.command_id, fact.payload.get("timer")}
        for earlier, now in ((before.commands, self.state.commands), (before.timers, self.state.timers)):
            self.drops += [name for name in earlier if name not in now and name not in closed]

    def _drop_ended_waits(self, before: State, fact: Event) -> None:
        """The rows of their timers."""
        fired = fact.payload.get("timer")
        self.drops += [name for name in before.waits if name not in self.state.waits and name != fired]

    def _append(self, event: Event) -> None:
        self.events.append(event)
        # safe to change: `evolve` and `advance` return a new state each time
        self.state.seq = self.head = event.seq

    def _quarantine(self, fact: Event, error: Exception) -> None:
        """End the execution and keep all that was under way: see `engine.events.QUARANTINED`. Its children continue."""
        if fact.type == e.STARTED:
            started = fact.numbered(self.head + 1)
            self.state = evolve(self.state, started)
            self._append(started)
        error_fields = {
            "kind": "engine",
            "code": e.UNDECIDABLE,
            "message": f"the engine cannot decide what follows {fact.type}: {_error_text(error)}",
            "retryable": False,
            "place": _place(error),
        }
        payload = {"error": error_fields, e.QUARANTINED: quarantined_fact(fact)}
        failed = Event(
            e.FAILED,
            fact.at,
            seq=self.head + 1,
            step=fact.step,
            generation=fact.generation,
            command_id=fact.command_id,
            payload=payload,
        )
        self.state = evolve(self.state, failed)
        self._append(failed)
        self.ended_at_ms = fact.at
        self._notify_parent(fact.at)
        facts = [] if fact.type == e.STARTED else [quarantined_fact(fact)]
        self.quarantine = {"seq": failed.seq, "at": fact.at, "error": error_fields, "facts": facts}

    def to_commit(self, row: dict[str, Any] | None = None) -> ExecutionCommit:
        """What to write; it includes the state at the beginning, at the end, and now and then in between."""
        # a state of very many steps is written more rarely, or writing it would cost more than all else
        interval = max(SNAPSHOT_EVERY_EVENTS, len(self.state.outcomes) // STEPS_PER_EVENT)
        is_snapshot_due = self.head - self.execution.snapshot >= interval
        wants_snapshot = (
            row is not None
            or self.state.ended
            or self.quarantine is not None
            or is_snapshot_due
            or self._would_be_misread()
        )
        # a stored state that could not be read is not overwritten
        writes_snapshot = wants_snapshot and self.execution.read_error is None
        execution = self.execution.advanced(
            self.state, self.head, self.head if writes_snapshot else self.execution.snapshot
        )
        expected_head = None if row is not None else self.execution.head
        was_paused = self.execution.state.paused is not None and row is None
        pause: dict[str, Any] | None = None
        if not self.state.ended and (self.state.paused is not None) != was_paused:
            pause = {"at": self.state.paused and self.state.paused.at, "timers": self._later_timers()}
        return ExecutionCommit(
            execution=execution,
            events=self.events,
            expected_head=expected_head,
            new_row=row,
            closes=self.closes,
            worker=self.worker,
            refs=self.refs,
            consumed=self.consumed,
            inbox_facts=self.inbox_facts,
            ended_at_ms=self.ended_at_ms,
            pool_of=self.plan.pool if self.plan else None,
            weight=self.plan.weight if self.plan else WEIGHT,
            quarantine=self.quarantine,
            drops=self.drops,
            pause=pause,
            variables=variable_changes({} if row is not None else self.execution.state.variables, self.state.variables),
            reissued=self.reissued,
            frees=self._frees(),
        )

    def _would_be_misread(self) -> bool:
        """Whether an earlier release would fold these events otherwise; it leaves alone what has a snapshot of the
        newer version."""
        has_newer = self.state.variables is not self.execution.state.variables
        for event in self.events:
            has_newer = has_newer or event.type in e.NEWER
            for part in (event.payload, *event.payload.get("routes", ())):
                if e.SET_REFS in part or e.SET_BY in part:
                    return True
                has_newer = has_newer or "compensable" in part
        # what has a part that it does not know, it leaves alone already
        return has_newer and self.execution.state.version == FIRST_VERSION

    def _frees(self) -> bool:
        """Whether it ends what others may wait for. An end that was decided without a plan is looked at elsewhere."""
        plan = self.plan
        if plan is None or not (plan.is_limited or plan.has_slots):
            return False
        if self.drops or self.ended_at_ms is not None:
            return True
        closed = {applied.fact.step or "" for applied in self.applied if applied.closes is not None}
        return any(plan.steps[step].concurrency is not None for step in closed if step in plan.steps)

    def _notify_parent(self, at: int) -> None:
        parent = self.execution.parent
        if parent is None:
            return
        payload = {"execution_id": self.execution.execution_id, "resumes": parent["resumes"]}
        payload.update(child_end(self.state, parent.get("return_step"), self.execution.execution_id))
        self.inbox_facts.append(
            {
                "id": parent["execution_id"],
                "type": e.CHILD_ENDED,
                "step": parent["step"],
                "generation": parent["generation"],
                "at": at,
                "payload": payload,
            }
        )

    def _later_timers(self) -> dict[str, int]:
        resumed = (event for event in reversed(self.events) if event.type == e.RESUMED)
        return next((dict(event.payload.get("timers", {})) for event in resumed), {})

    def _tell_children(self, fact: Event, before: State) -> None:
        """What is paused, or goes on, does so with its sub-playbooks, also with those that only undo something."""
        payload: dict[str, Any] = {name: fact.payload[name] for name in ("by", "reason") if name in fact.payload}
        if fact.type == e.PAUSED:
            for child in self.state.children:
                self.inbox_facts.append({"id": child, "type": e.PAUSED, "at": fact.at, "payload": payload})
        elif before.paused is not None:
            self._resume((*self.state.children, *before.paused.left), fact.at, payload)

    def _resume(self, children: Iterable[str], at: int, payload: Mapping[str, Any]) -> None:
        for child in children:
            self.inbox_facts.append({"id": child, "type": e.RESUMED, "at": at, "payload": dict(payload)})

    def cancel_children(self, children: Iterable[str], at: int, reason: str, *, undo: bool) -> None:
        """Put a cancellation into the inbox of each; `undo`: those of them that can undo what they have done, do."""
        payload = {"reason": reason, **({e.UNDO: True} if undo else {})}
        for child in children:
            self.inbox_facts.append({"id": child, "type": e.CANCELLED, "at": at, "payload": payload})


def child_end(state: State, return_step: str | None, execution_id: str) -> dict[str, Any]:
    """A child's end as its parent sees it: status, and data, ref or error."""
    if state.status == "completed":
        step = return_step or state.last or ""
        outcome = state.outcomes.get(step)
        if return_step and outcome is None:
            message = f"the child execution {execution_id} ended without running its step '{return_step}'"
            return {"status": "error", "error": _error("child.no_result", message, execution_id)}
        kept = outcome or {}
        return {"status": "ok", **{name: kept[name] for name in ("data", "ref") if name in kept}}
    if state.status == "cancelled":
        message = f"the child execution {execution_id} was cancelled"
        return {"status": "error", "error": _error("child.cancelled", message, execution_id)}
    cause = state.error or {}
    message = f"the child execution {execution_id} failed: {_root_text(cause)}"
    # each parent's error contains its child's, which may contain its child's, ...
    return {"status": "error", "error": bounded({**_error("child.failed", message, execution_id), "cause": cause})}


_CHILD_FAILED = re.compile(
    r"the child execution (?P<child>\d+) failed: (?P<text>.*?)"
    r"(?: \(in execution (?P<place>\d+), (?:a level|(?P<levels>\d+) levels) below it\))?",
    re.DOTALL,
)


def _root_text(error: Mapping[str, Any]) -> str:
    """The message of the innermost of errors that each contain their cause, and where that was."""
    levels, place = 0, None
    while error.get("code") == "child.failed" and isinstance(error.get("cause"), Mapping):
        levels, place, error = levels + 1, error.get("execution_id"), error["cause"]
    text = str(error.get("message", "no reason given"))
    # an error is cut to its size, and may not have all of its causes
    if (reported := _CHILD_FAILED.fullmatch(text)) is not None:
        text, place = reported["text"], reported["place"] or reported["child"]
        levels += 1 + (int(reported["levels"] or 1) if reported["place"] else 0)
    below = "a level" if levels == 1 else f"{levels} levels"
    return f"{text} (in execution {place}, {below} below it)" if levels else text


def _error(code: str, message: str, execution_id: str) -> dict[str, Any]:
    return {
        "kind": "playbook",
        "code": code,
        "message": message,
        "retryable": False,
        "execution_id": execution_id,
    }


def _error_text(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"[:MAX_MESSAGE_CHARACTERS]
    # it may contain the very value that cannot be stored
    return text.encode(errors="replace").decode().replace("\0", "?")


def _place(error: Exception) -> str:
    """The innermost line of this package in the traceback: `engine/decide.py:12 in finish`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE)}:{frame.lineno} in {frame.name}"
    return ""
