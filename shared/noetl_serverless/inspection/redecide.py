"""Decides a recorded execution again by another version of its playbook, without running a tool.

The recorded facts are fed in their order for as long as the new decisions equal the recorded ones. Once they diverge, a
recorded outcome is used for the same command of the same run of a step. Outcomes of loop items are matched by the
item's value, otherwise by its index. Where nothing was recorded, the branch ends, unless the step is a noop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..engine import events as e
from ..engine.canonical import canonical
from ..engine.decide import advance
from ..engine.events import Event
from ..engine.replay import logical_order
from ..engine.state import State, split_token_key, token_key
from ..engine.upcast import UPCASTERS
from ..error_codes import former_code
from ..playbook.plan import Plan
from .loop_items import RecordedItems

PLACES = ("line", "column")
ASSUMED = "no outcome was recorded; assumed to succeed without data"
# the subject of the start, of a cancellation, a signal and variables, which need not be waited for
NO_SUBJECT = ""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first fact from which something different follows now."""

    fact: Event
    recorded: list[Event]
    now: list[Event]


@dataclass(slots=True)
class Redecided:
    """`log` has the facts and the new version's decisions, in logical order. `missing`: commands, timers and children
    that wait for something that was not recorded, by name, with the reason."""

    log: list[Event] = field(default_factory=list)
    divergence: Divergence | None = None
    state: State = field(default_factory=lambda: State(""))
    missing: dict[str, str] = field(default_factory=dict)


def redecide(
    execution_id: str,
    events: Sequence[Event],
    recorded: Plan,
    plan: Plan,
    workload: Mapping[str, Any] | None = None,
    *,
    assume: bool = False,
    budget: Mapping[str, Any] | None = None,
) -> Redecided:
    """`recorded` is the plan that ran, `plan` the one to decide by, with its `budget` as a log holds it; `workload` as
    in `replay.fold`.

    `assume`: commands without a recorded outcome succeed, with no data, so that what follows them is decided too.
    """
    return _Redecision(execution_id, events, recorded, plan, workload or {}, assume, budget).play()


def given_workload(defaults: Mapping[str, Any], workload: Mapping[str, Any]) -> dict[str, Any]:
    """What an execution was started with: the parts of its workload that differ from the playbook's."""
    overrides: dict[str, Any] = {}
    for name, value in workload.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            if inner := given_workload(default, value):
                overrides[name] = inner
        elif name not in defaults or canonical(value) != canonical(default):
            overrides[name] = value
    return overrides


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in overrides.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


class _Redecision:
    def __init__(
        self,
        id: str,
        events: Sequence[Event],
        recorded: Plan,
        plan: Plan,
        workload: Mapping[str, Any],
        assume: bool,
        budget: Mapping[str, Any] | None,
    ) -> None:
        log = [UPCASTERS.current(event) for event in logical_order(events)]
        self.recorded, self.plan, self.assume, self.budget = recorded, plan, assume, budget
        # subject, as in `_subject` -> the facts about it, the next one first
        self.facts: dict[str, deque[Event]] = {}
        self.decisions: dict[int, list[Event]] = {}
        self.orders: dict[str, Event] = {}
        for event in log:
            if event.cause is None and e.IGNORED in event.payload:
                # nothing waited for it, and what it set was not kept
                continue
            if event.cause is None:
                self.facts.setdefault(_subject(event), deque()).append(event)
            else:
                self.decisions.setdefault(event.cause, []).append(event)
            if event.type == e.ISSUED and event.command_id is not None:
                self.orders[event.command_id] = event
        self.items = RecordedItems(log)
        self.state = State(id, workload=workload)
        self.done = Redecided()
        # child -> whether its step continues in a worker when it has ended
        self._resumes: dict[str, bool] = {}
        self._last = max((event.seq for event in log), default=0)

    def play(self) -> Redecided:
        while not self.state.ended and (fact := self._next()) is not None:
            self._feed(fact)
        self.done.state = self.state
        if not self.state.ended:
            self._find_missing()
        return self.done

    # -- which fact comes next

    def _next(self) -> Event | None:
        """The earliest recorded fact about something that is waited for now."""
        state = self.state
        waited = [NO_SUBJECT, *state.commands, *state.timers, *state.children, *state.waits]
        known = [facts[0] for name in waited if (facts := self.facts.get(name))]
        fact = next((fact for fact in sorted(known, key=lambda fact: fact.seq) if self._fits(fact)), None)
        if fact is not None:
            self.facts[_subject(fact)].popleft()
            return self._adapted(fact)
        if (frame := self._made_frame()) is not None or self.done.divergence is None:
            return frame
        return self._known() or (self._assumed() if self.assume else None)

    def _fits(self, fact: Event) -> bool:
        if fact.type in e.REPORTS:
            command, order = self.state.commands.get(fact.command_id or ""), self.orders.get(fact.command_id or "")
            if command is None or order is None or command.kind != order.payload["kind"]:
                return False
            if command.kind == "open":
                return self._same_collection(fact.step or "")
            return command.kind == "step" or self._same_frame(fact, command.frame, order)
        return True

    def _same_collection(self, step: str) -> bool:
        one, other = self.recorded.steps[step].loop, self.plan.steps[step].loop
        return one is not None and other is not None and one.items == other.items

    def _same_frame(self, fact: Event, frame: tuple[int, int, int, int] | None, order: Event) -> bool:
        same_items = self.items.same(token_key(fact.step or "", fact.generation or 0))
        return same_items and frame is not None and list(frame)[:3] == list(order.payload["frame"])[:3]

    def _adapted(self, fact: Event) -> Event:
        payload = fact.payload
        if fact.type == e.STARTED and self.plan.hash != self.recorded.hash:
            known = payload.get("workload", self.state.workload)
            workload = merged(self.plan.workload, given_workload(self.recorded.workload, known))
            self.state = replace(self.state, workload=workload)
            changed: dict[str, Any] = {"plan": self.plan.hash, "entry": self.plan.entry}
            if "workload" in payload:
                changed["workload"] = workload
            if self.budget is not None:
                changed["budget"] = dict(self.budget)
            kept = {name: value for name, value in payload.items() if name != "budget"}
            return replace(fact, payload={**kept, **changed})
        if fact.type == e.RESTARTED:
            steps = self.plan.steps
            known = {name: sources for name, sources in payload["waiting"].items() if name in steps}
            undone = [entry for entry in payload.get("compensable", ()) if entry["step"] in steps]
            changed = {"waiting": known, **({"compensable": undone} if "compensable" in payload else {})}
            return replace(fact, payload={**payload, **changed})
        if fact.type == e.CHILD_ENDED:
            resumes = self._resumes.get(payload["execution_id"], payload.get("resumes", True))
            return replace(fact, payload={**payload, "resumes": resumes})
        return fact

    def _made_frame(self) -> Event | None:
        """A frame with other bounds than the recorded ones, made from the recorded items."""
        for name, command in sorted(self.state.commands.items()):
            if command.frame is None:
                continue
            payload = self.items.frame(command.key, command.frame[1], command.frame[2])
            if payload is not None:
                return self._made(e.FRAME_COMMITTED, name, command.key, payload)
        return None

    def _known(self) -> Event | None:
        """The end of a step that does nothing, which needs no record."""
        for name, command in sorted(self.state.commands.items()):
            step = self.plan.steps[split_token_key(command.key)[0]]
            if command.kind == "step" and not step.is_pipeline and step.input is None:
                (task,) = step.tasks
                if task.kind == "noop" and not task.rules and not task.config:
                    return self._made(e.CALL_DONE, name, command.key, {"data": {"status": "ok"}})
        return None

    def _assumed(self) -> Event | None:
        """The assumed success of a command whose outcome was not recorded."""
        for name, command in sorted(self.state.commands.items()):
            if command.kind == "open":
                continue
            self.done.missing[name] = ASSUMED
            if command.frame is None:
                return self._made(e.CALL_DONE, name, command.key, {})
            _, start, end, _ = command.frame
            counts = {"start": start, "end": end, "ok": end - start, "failed": 0}
            return self._made(e.FRAME_COMMITTED, name, command.key, {**counts, "data": [None] * (end - start)})
        return None

    def _made(self, kind: str, command: str, key: str, payload: dict[str, Any]) -> Event:
        step, generation = split_token_key(key)
        self._last += 1
        at = self.done.log[-1].at if self.done.log else 0
        return Event(
            kind,
            at,
            seq=self._last,
            step=step,
            generation=generation,
            command_id=command,
            payload=payload,
        )

    # -- deciding

    def _feed(self, fact: Event) -> None:
        self.state, decisions = advance(self.plan, self.state, fact)
        self.done.log += [fact, *decisions]
        for decision in decisions:
            if decision.type == e.CHILD_STARTED:
                self._resumes[decision.payload["execution_id"]] = decision.payload["resumes"]
            elif decision.type == e.LOOP_OPENED:
                self.items.opened(decision)
        recorded = self.decisions.get(fact.seq, [])
        if self.done.divergence is None and not _same(recorded, decisions):
            self.done.divergence = Divergence(fact, recorded, decisions)

    def _find_missing(self) -> None:
        for name, command in self.state.commands.items():
            self.done.missing[name] = self._reason(command.key, command.frame, command.kind)
        for timer in self.state.timers:
            self.done.missing[timer] = "no such delay was recorded"
        for child in self.state.children:
            self.done.missing[child] = "the end of this sub-playbook was not recorded"
        for name, wait in self.state.waits.items():
            self.done.missing[name] = (
                f"no signal '{wait.signal}' was recorded" if wait.signal else "no such time was recorded"
            )

    def _reason(self, key: str, frame: tuple[int, int, int, int] | None, kind: str) -> str:
        if frame is not None:
            return f"item {frame[1]} was not recorded"
        return "the collection is different and was not recorded" if kind == "open" else "no outcome was recorded"


def _subject(fact: Event) -> str:
    """What the execution must be waiting for when the fact arrives."""
    match fact.type:
        case e.TIMER_FIRED:
            return str(fact.payload["timer"])
        case e.CHILD_ENDED:
            return str(fact.payload["execution_id"])
        case e.STARTED | e.CANCELLED | e.SIGNAL_RECEIVED | e.VARIABLES_SET | e.VARIABLES_DELETED:
            return NO_SUBJECT
    return fact.command_id or ""


def _same(recorded: Sequence[Event], now: Sequence[Event]) -> bool:
    return len(recorded) == len(now) and all(map(_is_same_event, recorded, now))


def _is_same_event(recorded: Event, now: Event) -> bool:
    # usually they are equal without being made canonical
    return replace(now, seq=recorded.seq) == recorded or _content(recorded) == _content(now)


def _content(event: Event) -> str:
    payload = event.payload
    if event.type == e.LOOP_OPENED or "frame" in payload:
        # depending on the release, what the items read is in the opening or in each frame
        payload = {name: value for name, value in payload.items() if name != "scope"}
    elif event.type == e.ISSUED:
        scope = payload.get("scope") or {}
        steps = {name: outcome for name, outcome in scope.get("steps", {}).items() if not never_ran(outcome)}
        payload = {**payload, "scope": {**scope, "steps": steps}}
    if "warnings" in payload:
        # the texts of warnings change between releases
        warnings = [{**warning, "message": None} for warning in payload["warnings"]]
        payload = {**payload, "warnings": warnings}
    return canonical([event.type, event.step, event.generation, event.command_id, _unplaced(payload)])


def never_ran(outcome: Mapping[str, Any] | None) -> bool:
    """Whether `outcome`, as a scope holds it, is that of a skipped step or missing. The first releases left a step out
    of the scopes of the decision that skipped it; events of its own record the skip."""
    return outcome is None or outcome.get("status") == "skipped"


def _unplaced(value: Any) -> Any:
    """`value` without the lines of errors, which change when lines are added above them, and with former codes."""
    if isinstance(value, Mapping):
        if "code" not in value or "message" not in value:
            return {name: _unplaced(item) for name, item in value.items()}
        error = {name: _unplaced(item) for name, item in value.items() if name not in PLACES}
        return {**error, "code": former_code(error["code"]) if isinstance(error["code"], str) else error["code"]}
    return [_unplaced(item) for item in value] if isinstance(value, list) else value
