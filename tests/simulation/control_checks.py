"""After the run: what must hold of signals, compensations, restarts, limits and triggers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import logical_order
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.testing.rows import ExecutionRow

from .playbooks import plan_of
from .rules import Broken

if TYPE_CHECKING:
    from .world import World

Run = tuple[str, int]
# errors of compensations that do not even begin
UNBEGUN = frozenset({"template.error", "value.invalid", "value.too_large", "turns.exceeded", "compensation.missing"})
# of events that are given up: nothing answered whenever they were attempted
UNLUCKY = frozenset({"server.unavailable", "trigger.attempts", "server.busy"})


def check_controls(world: World) -> None:
    """Raises Broken."""
    _signals(world)
    _compensations(world)
    _restarts(world)
    _limits(world)
    _triggers(world)


def _must(holds: bool, rule: str, detail: Any) -> None:
    if not holds:
        raise Broken(rule, str(detail))


def _signals(world: World) -> None:
    """Each that was answered is in the log once."""
    for order in world.orders:
        if order.execution_id is None:
            continue
        events = world.log.executions[order.execution_id].events
        logged = Counter(
            (event.payload.get("id"), event.payload["signal"])
            for event in events
            if event.type == e.SIGNAL_RECEIVED and e.IGNORED not in event.payload
        )
        for key, name in order.taken.items():
            _must(logged[key, name] == 1, "a signal was lost", f"{order.execution_id} {key} {name} {logged}")


# -- compensation


def _compensations(world: World) -> None:
    """Of each run with an effect one, in reverse order, one after the other, and all before the end."""
    for id, execution in world.log.executions.items():
        plan = plan_of(world.catalog_text(execution.loaded.plan_hash))
        if plan.has_compensations:
            _undone(id, execution, plan)


class _Reader:
    """Reads the log of one execution: `done`: runs that are to be undone, in order; `begun`: compensations."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._kinds: dict[str, str] = {}
        self._waits: dict[str, bool] = {}
        # loop -> how many of its items have been done; and what another execution has done of one that is not open yet
        self._items: dict[Run, int] = {}
        self._reused: Counter[Run] = Counter()
        self._open: set[str] = set()
        self.done: list[Run] = []
        self.begun: list[str] = []
        self.is_undoing = False

    def read(self, event: Event, what: str) -> None:
        payload, run = event.payload, (event.step or "", event.generation or 0)
        match event.type:
            case e.ISSUED:
                self._kinds[event.command_id or ""] = payload["kind"]
                if payload["kind"] != "frame" and payload["attempt"] == 1:
                    self._begin(run, what)
                self._open.add(event.command_id or "")
            case e.LOOP_OPENED:
                if f"{run[0]}#{run[1]}.open" not in self._kinds:
                    self._begin(run, what)
                self._items[run] = self._reused.pop(run, 0)
            case e.FRAME_REUSED:
                self._reused[run] += payload["ok"]
            case e.CALL_DONE if self._kinds[event.command_id or ""] == "step":
                self._note(run)
            case e.FRAME_COMMITTED:
                if run in self._items:
                    self._items[run] += payload["ok"]
            case e.CHILD_ENDED if payload["resumes"] is False and payload["status"] == "ok":
                self._note(run)
            case e.WAIT_STARTED:
                self._waits[payload["wait"]] = payload["resumes"]
            case e.WAIT_ENDED if payload["status"] == "ok" and not self._waits[payload["wait"]]:
                self._note(run)
            case e.LOOP_DONE:
                if run not in self._items:
                    self._begin(run, what)
                done = self._items.pop(run, 0) + self._reused.pop(run, 0)
                if payload["status"] == "ok" or done:
                    self._note(run)
            case e.RESTARTED:
                self.done += [(one["step"], one["generation"]) for one in payload.get("compensable", ())]
            case e.COMPENSATION_STARTED:
                self.is_undoing = True
                kept = set(payload["kept"])
                for loop, items in (*self._items.items(), *self._reused.items()):
                    if f"{loop[0]}#{loop[1]}" not in kept:
                        self._items.pop(loop, None)
                        if items:
                            self._note(loop)
                self._reused.clear()
        is_item = e.stops_item(event)
        if event.type in (e.STEP_TIMED_OUT, e.STEP_STOPPED, e.COMPENSATION_STARTED) and not is_item:
            # what workers still have of it comes too late
            kept = payload.get("kept", [])
            self._open = {name for name in self._open if any(name.startswith(f"{key}") for key in kept)}
        if event.command_id is not None and event.type not in (e.ISSUED, e.TIMER_SET, e.CHILD_STARTED, e.WAIT_STARTED):
            self._open.discard(event.command_id)

    def _note(self, run: Run) -> None:
        if self._plan.steps[run[0]].compensation is not None:
            self.done.append(run)

    def _begin(self, run: Run, what: str) -> None:
        step = self._plan.steps[run[0]]
        if step.compensates is None:
            _must(not self.is_undoing, "a step begins while what was done is undone", f"{what} {run}")
            return
        _must(self.is_undoing, "something is undone, and nothing has failed", f"{what} {run}")
        _must(not self._open, "something is undone beside what is under way", f"{what} {run} {self._open}")
        self.begun.append(step.compensates)


def _undone(id: str, execution: ExecutionRow, plan: Plan) -> None:
    what = f"{id} {execution.loaded.path}"
    reader = _Reader(plan)
    for event in logical_order(execution.events):
        if e.IGNORED not in event.payload:
            reader.read(event, what)
    names = [step for step, _ in reversed(reader.done)]
    _must(_is_part(reader.begun, names), "not undone in reverse order, and once", f"{what} {reader.begun} of {names}")
    end = execution.events[-1] if execution.status == "RUNNING" else _end(execution)
    if end.type != e.FAILED or e.QUARANTINED in end.payload:
        return
    if not names:
        _must(not reader.is_undoing or not reader.begun, "what was not done is undone", f"{what} {reader.begun}")
        return
    _must(reader.is_undoing, "what was done is not undone", f"{what} {names}")
    said = end.payload["error"]["compensation"]
    unbegun = [one["step"] for one in said["failed"] if one.get("code") in UNBEGUN]
    _must(Counter(reader.begun) + Counter(unbegun) >= Counter(names), "what was done is not undone", f"{what} {said}")
    listed = Counter([*said["done"], *(one["step"] for one in said["failed"])])
    _must(listed == Counter(names), "the error does not say what was undone", f"{what} {said} {names}")
    _must(_is_part(said["done"], names), "the error does not say in which order", f"{what} {said} {names}")


def _end(execution: ExecutionRow) -> Event:
    return next(event for event in reversed(execution.events) if event.type in (e.COMPLETED, e.FAILED, e.CANCELLED))


def _is_part(some: Iterable[str], whole: Iterable[str]) -> bool:
    """Whether all of `some` are in `whole`, in this order."""
    rest = iter(whole)
    return all(one in rest for one in some)


# -- restarts


def _restarts(world: World) -> None:
    """One for each that was asked for; and what it takes over is what the other had done."""
    for order in world.orders:
        found = [id for id, one in world.log.executions.items() if one.restart_of == order.execution_id]
        wanted = [] if order.restarted_id is None else [order.restarted_id]
        if order.execution_id is not None:
            _must(found == wanted, "it was gone on with twice, or by nobody", f"{order.label} {found} {wanted}")
    for id, execution in world.log.executions.items():
        if execution.restart_of is None:
            continue
        old = world.log.diaries[execution.restart_of]
        for event in execution.events:
            if event.type != e.REUSED or old.shadow.generations.get(event.step or "") != event.generation:
                continue
            known = old.shadow.outcomes[event.step or ""]
            _must(event.payload["outcome"] == known, "a result was taken over otherwise", f"{id} {event} {known}")


def _limits(world: World) -> None:
    """Nothing holds a slot any more. A cancellation is decided without the playbook: who was cancelled is not counted,
    and is forgotten later."""
    executions = world.log.executions
    left = [id for id in world.log.commands.limits.begun if executions[id].status != "CANCELLED"]
    _must(not set(left) - set(world.log.quarantine), "an execution that has ended holds a slot", left)


# -- triggers


def _triggers(world: World) -> None:
    """Each event has started one execution, or none if it is not to."""
    started: dict[tuple[str, str], list[str]] = {}
    for id, execution in world.log.executions.items():
        by = execution.loaded.principal or {}
        if by.get("kind") == "trigger" and execution.parent_id is None and execution.restart_of is None:
            started.setdefault((by["name"], by["event_id"]), []).append(id)
    twice = {event: ids for event, ids in started.items() if len(ids) > 1}
    _must(not twice, "an event started two executions", twice)
    settled = world.settled_events()
    for event, ids in started.items():
        one = settled.get(event)
        _must(one is not None and [str(one.execution_id)] == ids, "an execution of no event", f"{event} {ids} {one}")
    for (name, id), one in settled.items():
        code = (one.error or {}).get("code")
        lost = one.status == "dead" and code not in UNLUCKY
        _must(not lost, "an event was given up", f"{name} {id} {one}")
        _must(one.status != "started" or (name, id) in started, "an event started nothing", f"{name} {id} {one}")
    for _, delivery in world.senders:
        one = settled.get((delivery.trigger, delivery.id))
        _must(one is not None, "an event was lost", delivery)
        assert one is not None
        right = one.status in ("started" if delivery.starts else "filtered", "dead")
        _must(right, "an event was taken for another", f"{delivery} {one}")
    for each in world.book.constructs:
        for id, execution in world.log.executions.items() if each.deliveries else ():
            listed = (f"{each.path}_after/after", id) in settled
            ended = execution.loaded.path == each.path and execution.status in ("COMPLETED", "FAILED")
            _must(listed == ended, "an end is no event, or another is", f"{id} {each.path}")
