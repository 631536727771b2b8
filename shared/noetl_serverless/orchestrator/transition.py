"""One execution's part of a commit: facts come in, decisions follow, in memory."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..engine import events as e
from ..engine.decide import advance, ignored
from ..engine.error import bounded
from ..engine.events import Event
from ..engine.evolve import evolve
from ..engine.state import State
from ..limits import WEIGHT
from ..playbook.plan import Plan
from ..records import ExecutionCommit, LoadedExecution
from ..store.loaded_execution import as_kept

# events between two snapshots: what a process that does not know the execution has to fold at most
SNAPSHOT_EVERY = 32
PACKAGE = Path(__file__).parent.parent
MOST_MESSAGE = 500


class Given(NamedTuple):
    """A fact, with the command and the fence that it ends, and its place in the inbox, if it has any."""

    fact: Event
    closes: tuple[str, int] | None = None
    taken: int | None = None


class Turn:
    """Decides on the `case` it was loaded as; `part` is what is to be written. `worker` is who reports, if anybody.

    Without a plan only the end of an execution can be decided.
    """

    def __init__(self, execution: LoadedExecution, plan: Plan | None, worker: str | None = None) -> None:
        self.case = execution
        self.worker = worker
        self.plan = plan
        self.state: State = execution.state
        self.head = execution.head
        self.given: list[Given] = []
        self.events: list[Event] = []
        self.closes: list[tuple[str, int]] = []
        self.refs: list[dict[str, Any]] = []
        self.taken: list[int] = []
        # whether more lies in the inbox than one commit has room for
        self.cut = False
        self.appends: list[dict[str, Any]] = []
        # rows of commands that are to be out again
        self.again: list[dict[str, Any]] = []
        # command -> what it was issued with, for those that follow from what this turn was told
        self.issued: dict[str, dict[str, Any]] = {}
        # when it came to its end, in ms
        self.ended_at: int | None = None
        # into quarantine, or out of it: see `Part.quarantined`
        self.quarantined: dict[str, Any] | None = None

    @property
    def children(self) -> list[Event]:
        """What has been started, to be opened in the same commit: whatever the log says of it, and nothing else."""
        return [event for event in self.events if event.type == e.CHILD_STARTED]

    def take(self, fact: Event, closes: tuple[str, int] | None = None, taken: int | None = None) -> None:
        """Append a fact and what follows from it; `closes` is the command and the fence that it ends, `taken` its place
        in the inbox. What cannot be decided ends the execution, in quarantine."""
        self._note(Given(fact, closes, taken))
        if self.quarantined:
            self.quarantined["facts"].append(as_kept(fact))
            return
        try:
            decisions = self._decide(fact.numbered(self.head + 1))
        except Exception as error:
            # the core is pure: this fact in this state will fail every time
            self._quarantine(fact, error)
            return
        if taken is None:
            self.issued.update({event.command_id or "": event.payload for event in decisions if event.type == e.ISSUED})

    def set_apart(self, fact: Event) -> None:
        """Into quarantine because its state cannot be read. Nor can be told, then, whether `fact` fits it: it is not
        kept, and what it was to end is out again after a retry."""
        assert self.case.read_error is not None
        self._quarantine(fact, self.case.read_error)
        assert self.quarantined is not None
        self.quarantined["facts"].clear()

    def give_up(self, error: Exception, *, keep: bool = True) -> Turn:
        """A turn in place of this one, that puts all it was given into quarantine; unless it is to `keep` it, without
        its facts: after a retry, what they ended is out again."""
        other = Turn(self.case, self.plan, self.worker)
        for given in self.given:
            other._note(given)
        first, *rest = (given.fact for given in self.given)
        other._quarantine(first if keep else replace(first, payload={}), error)
        assert other.quarantined is not None
        if keep:
            other.refs = self.refs
            other.quarantined["facts"] += map(as_kept, rest)
        else:
            other.quarantined["facts"].clear()
        return other

    def _note(self, given: Given) -> None:
        self.given.append(given)
        if given.closes is not None:
            self.closes.append(given.closes)
        if given.taken is not None:
            self.taken.append(given.taken)

    def _decide(self, fact: Event) -> list[Event]:
        if fact.type == e.DROPPED:
            # whether its state can be read or not, it stays as it ended
            self.state, self.quarantined = evolve(self.state, fact), {}
            self._append(fact)
            return []
        if self.case.read_error is not None and fact.type != e.CANCELLED:
            raise self.case.read_error
        if reason := ignored(self.state, fact):
            # a release before this one would take what it sets
            kept = {name: value for name, value in fact.payload.items() if name != "set"}
            fact = replace(fact, payload={**kept, e.IGNORED: reason})
        was_running, was_quarantined = not self.state.ended, self.state.quarantined
        children = [child for child in self.state.children if child != fact.payload.get("execution_id")]
        self.state, decisions = advance(self.plan, self.state, fact)  # type: ignore[arg-type]
        self._append(fact)
        for place, decision in enumerate(decisions):
            # in its place: there may be very many, and each is there once
            decisions[place] = decision.numbered(self.head + 1)
            self._append(decisions[place])
        if was_running and self.state.ended:
            self.ended_at = fact.at
            self._tell_parent(fact.at)
        if was_quarantined:
            self.quarantined = {}
            self.ended_at = fact.at if self.state.ended else None
        if (was_running or was_quarantined) and self.state.ended and fact.payload.get("cascade", True):
            self.tell_children(children, fact.at, f"the parent execution {self.case.execution_id} has ended")
        return decisions

    def _append(self, event: Event) -> None:
        self.events.append(event)
        # `evolve` and `advance` give a state of its own each time
        self.state.seq = self.head = event.seq

    def _quarantine(self, fact: Event, error: Exception) -> None:
        """It ends, with all that was under way kept: see `engine.events.QUARANTINED`. Its children go on."""
        if fact.type == e.STARTED:
            started = fact.numbered(self.head + 1)
            self.state = evolve(self.state, started)
            self._append(started)
        told = {
            "kind": "engine",
            "code": e.UNDECIDABLE,
            "message": f"what follows from {fact.type} cannot be decided: {_of(error)}",
            "retryable": False,
            "place": _place(error),
        }
        payload = {"error": told, e.QUARANTINED: as_kept(fact)}
        failed = Event(e.FAILED, fact.at, self.head + 1, None, fact.step, fact.generation, fact.command_id, payload)
        self.state = evolve(self.state, failed)
        self._append(failed)
        self.ended_at = fact.at
        self._tell_parent(fact.at)
        facts = [] if fact.type == e.STARTED else [as_kept(fact)]
        self.quarantined = {"seq": failed.seq, "at": fact.at, "error": told, "facts": facts}

    def part(self, row: dict[str, Any] | None = None) -> ExecutionCommit:
        """What is to be written: the state too, now and then, at the beginning and at the end."""
        often = self.head - self.case.snapshot >= SNAPSHOT_EVERY
        # a release before this one would fold them to a ctx without what is by reference
        unread = any(_sets_by_reference(event) for event in self.events)
        due = row is not None or self.state.ended or self.quarantined is not None or often or unread
        # what could not be read stays as it is
        writes = due and self.case.read_error is None
        execution = self.case.advanced(self.state, self.head, self.head if writes else self.case.snapshot)
        expect = None if row is not None else self.case.head
        return ExecutionCommit(
            execution,
            self.events,
            expect,
            row,
            self.closes,
            self.worker,
            self.refs,
            self.taken,
            self.appends,
            self.ended_at,
            self.plan.pool if self.plan else None,
            self.plan.weight if self.plan else WEIGHT,
            self.quarantined,
            self.again,
        )

    def _tell_parent(self, at: int) -> None:
        parent = self.case.parent
        if parent is None:
            return
        payload = {"execution_id": self.case.execution_id, "resumes": parent["resumes"]}
        payload.update(ending(self.state, parent.get("return_step"), self.case.execution_id))
        self.appends.append(
            {
                "id": parent["execution_id"],
                "type": e.CHILD_ENDED,
                "step": parent["step"],
                "generation": parent["generation"],
                "at": at,
                "payload": payload,
            }
        )

    def tell_children(self, children: Iterable[str], at: int, reason: str) -> None:
        """They are to end."""
        for child in children:
            self.appends.append({"id": child, "type": e.CANCELLED, "at": at, "payload": {"reason": reason}})


def _sets_by_reference(event: Event) -> bool:
    routes = event.payload.get("routes", ())
    return e.SET_REFS in event.payload or any(e.SET_REFS in route for route in routes)


def ending(state: State, return_step: str | None, execution_id: str) -> dict[str, Any]:
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
    message = f"the child execution {execution_id} failed: {cause.get('message', 'no reason given')}"
    # each parent's error tells of its child's, whose may tell of its child's, ...
    return {"status": "error", "error": bounded({**_error("child.failed", message, execution_id), "cause": cause})}


def _error(code: str, message: str, execution_id: str) -> dict[str, Any]:
    return {
        "kind": "playbook",
        "code": code,
        "message": message,
        "retryable": False,
        "execution_id": execution_id,
    }


def _of(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"[:MOST_MESSAGE]
    # it may show the very value that cannot be stored
    return text.encode(errors="replace").decode().replace("\0", "?")


def _place(error: Exception) -> str:
    """The innermost line of ours that the traceback goes through: `engine/decide.py:12 in finish`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE)}:{frame.lineno} in {frame.name}"
    return ""
