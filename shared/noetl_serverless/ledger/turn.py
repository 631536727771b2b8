"""One execution's part of a commit: facts come in, decisions follow, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..engine import events as e
from ..engine.decide import advance
from ..engine.events import Event
from ..engine.state import State
from ..playbook.plan import Plan
from ..store.log import Case, Part

# events between two snapshots: what a process that does not know the execution has to fold at most
SNAPSHOT_EVERY = 32


class Turn:
    """Decides on the `case` it was loaded as; `part` is what is to be written. `worker` is who reports, if anybody."""

    def __init__(self, case: Case, plan: Plan, worker: str | None = None) -> None:
        self.case = case
        self.worker = worker
        self.plan = plan
        self.state: State = case.state
        self.head = case.head
        self.events: list[Event] = []
        self.closes: list[tuple[str, int]] = []
        self.refs: list[dict[str, Any]] = []
        self.taken: list[int] = []
        self.appends: list[dict[str, Any]] = []
        # command -> what it was issued with, for those that follow from what this turn was told
        self.issued: dict[str, dict[str, Any]] = {}
        # what has been started, to be opened in the same commit
        self.children: list[Event] = []
        # when it came to its end, in ms
        self.ended_at: int | None = None

    def take(self, fact: Event, closes: tuple[str, int] | None = None, taken: int | None = None) -> None:
        """Append a fact and what follows from it; `closes` is the command and the fence that it ends, `taken` its place
        in the inbox."""
        self.head += 1
        fact = replace(fact, seq=self.head)
        self.events.append(fact)
        if closes is not None:
            self.closes.append(closes)
        if taken is not None:
            self.taken.append(taken)
        decisions = self._decide(fact)
        if taken is None:
            self.issued.update({event.command_id or "": event.payload for event in decisions if event.type == e.ISSUED})

    def _decide(self, fact: Event) -> list[Event]:
        was_running = not self.state.ended
        children = [child for child in self.state.children if child != fact.payload.get("execution_id")]
        self.state, decisions = advance(self.plan, self.state, fact)
        for decision in decisions:
            self.head += 1
            numbered = replace(decision, seq=self.head)
            self.events.append(numbered)
            if numbered.type == e.CHILD_STARTED:
                self.children.append(numbered)
        if was_running and self.state.ended:
            self.ended_at = fact.at
            self._tell_parent(fact.at)
            if fact.payload.get("cascade", True):
                self._end_children(children, fact.at)
        return decisions

    def part(self, row: dict[str, Any] | None = None) -> Part:
        """What is to be written: the state too, now and then, at the beginning and at the end."""
        writes = row is not None or self.state.ended or self.head - self.case.snapshot >= SNAPSHOT_EVERY
        state = replace(self.state, seq=self.head)
        snapshot = self.head if writes else self.case.snapshot
        case = replace(self.case, state=state, head=self.head, snapshot=snapshot)
        expect = None if row is not None else self.case.head
        return Part(
            case,
            self.events,
            expect,
            row,
            self.closes,
            self.worker,
            self.refs,
            self.taken,
            self.appends,
            self.ended_at,
            self.plan.pool,
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

    def _end_children(self, children: Iterable[str], at: int) -> None:
        reason = f"the parent execution {self.case.execution_id} has ended"
        for child in children:
            self.appends.append({"id": child, "type": e.CANCELLED, "at": at, "payload": {"reason": reason}})


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
    return {"status": "error", "error": {**_error("child.failed", message, execution_id), "cause": cause}}


def _error(code: str, message: str, execution_id: str) -> dict[str, Any]:
    return {
        "kind": "playbook",
        "code": code,
        "message": message,
        "retryable": False,
        "execution_id": execution_id,
    }
