"""`advance(plan, state, fact) -> (state, decisions)`: what follows from one fact. Pure, total, and without recursion.

The steps that a step's end leads to are put on a stack of work. The first arc is processed first, with all that follows
from it. So the depth of the call stack does not depend on the length of a path through the playbook.

A template that cannot be evaluated never counts as false: it fails the execution with an error that has the template,
its place and the missing name. If it concerns one step only, that step fails, and the playbook may handle the failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..playbook.plan import AdmitRule, Arc, Plan, Step
from ..playbook.scope import Scope
from ..playbook.template import TemplateError, truthy
from ..playbook.values import InvalidValue
from . import compensation, loops, waits
from . import events as e
from .assigned import SetValues
from .decision import Decision, error_of
from .error import bounded
from .events import Event
from .evolve import apply, evolve
from .evolve_steps import outcome_of
from .ids import execution_id
from .joins import blocked, first_deadlocked, may_wait, unreachable
from .limits import DecisionTooLarge, check_ctx, check_set, check_variables
from .result_check import ResultCheck, check_result
from .state import State, split_token_key, token_key
from .variables import values_of

SKIPPED = "step.skipped"
# names of events after which only arcs that handle failures are taken
FAILURES = (e.CALL_ERROR, loops.FAILED)
# how many of the steps that took no arc are listed when the execution completes
MAX_WARNINGS = 20
# the fields of a child's end that the worker receives
CHILD_END_FIELDS = ("status", "data", "ref", "error", "execution_id")


def advance(
    plan: Plan, state: State, fact: Event, make_decider: Callable[[Plan, State, Event], Decider] | None = None
) -> tuple[State, list[Event]]:
    """Fold `fact` (whose seq is set) and decide it. The decisions have a `cause` and no `seq`.

    Nothing follows from a fact that nothing waits for: see `reason_to_ignore`.
    """
    next_state = state.copy()
    ignored = next_state.ended or reason_to_ignore(next_state, fact) is not None
    apply(next_state, fact)
    if fact.type not in DECIDE or (ignored and fact.type != e.RETRIED) or _is_continued(fact):
        return next_state, []
    decider = (make_decider or Decider)(plan, next_state, fact)
    try:
        decider.decide()
    except DecisionTooLarge as error:
        # none of its decisions is written, only the failure
        next_state = evolve(state, fact)
        decider = (make_decider or Decider)(plan, next_state, fact)
        decider.fail_undecided(error)
    return next_state, decider.events


def _is_continued(fact: Event) -> bool:
    """Whether it only begins the log of a restart, in which RESTARTED is decided."""
    return fact.type == e.STARTED and e.RESTART in fact.payload


def reason_to_ignore(state: State, fact: Event) -> str | None:
    """Why nothing follows from `fact` in this state; None if something may."""
    if fact.type in e.REPORTS and fact.command_id not in state.commands:
        return "the command is not open"
    if fact.type == e.TIMER_FIRED and not state.has_timer(fact.payload["timer"]):
        return "the timer is not set"
    if fact.type == e.SIGNAL_RECEIVED and state.has_received(fact.payload):
        return "the signal was received before"
    if fact.type == e.VARIABLES_SET and fact.payload.get("id") in state.variable_ids:
        return "the variables were set before"
    if fact.type == e.VARIABLES_DELETED and state.variables.keys().isdisjoint(fact.payload["names"]):
        return "there are no such variables"
    if fact.type == e.PAUSED and state.paused is not None:
        return "it is paused already"
    if fact.type == e.RESUMED and state.paused is None:
        return "it is not paused"
    if fact.type == e.CHILD_ENDED and fact.payload["execution_id"] not in state.children:
        return "the child is not waited for"
    return None


class Decider(Decision):
    """Decides each kind of fact, where a step's end leads, and which steps begin."""

    def decide(self) -> None:
        """Raises DecisionTooLarge."""
        sets = self.state.compensating is None and self.fact.payload.keys() & {"set", e.SET_REFS}
        if not sets or self._is_set_within_limits():
            DECIDE[self.fact.type](self)
            self.run_pending()
        self._go_on()

    def fail(self, error: dict[str, Any], step: str | None = None) -> None:
        if self.state.compensating is not None:
            self._fail_one(bounded(error), self.plan.steps.get(step or self.fact.step or ""))
            return
        if self._failed:
            return
        self._failed = True
        error_fields = bounded(error)
        if step:
            error_fields = {**error_fields, "step": step}
        if not (self.plan.has_compensations and compensation.begin(self, error_fields, step)):
            self.emit(e.FAILED, {"error": error_fields}, step=step)

    def _fail_one(self, error: dict[str, Any], step: Step | None) -> None:
        """While what has been done is undone, what fails is the compensation that is due, or, of a step that was under
        way before, what would go on now that a sub-playbook has ended."""
        if step is None or step.compensates is not None:
            self._fail_compensation(error)
        elif (child := self.fact.payload.get("execution_id")) in self.state.children:
            self._stop_child(child, error)

    def _fail_compensation(self, error: dict[str, Any]) -> None:
        token = compensation.under_way(self.plan, self.state)
        if token is None:
            compensation.record_failure(self, error)
        else:
            self._end_run(e.STEP_STOPPED, self.plan.steps[token.step], token.generation, error)

    def fail_undecided(self, error: DecisionTooLarge) -> None:
        fact_of, failed = (self.plan.steps.get(name or "") for name in (self.fact.step, error.step))
        if (
            self.state.compensating is not None
            and (fact_of is not None and fact_of.compensates is None)
            and (failed is None or failed.compensates is not None)
        ):
            # what the fact says of a step that was under way before stands, and only what comes after it is too much
            DECIDE[self.fact.type](self)
        self.fail(error.to_dict(), error.step)
        self._go_on()

    def _go_on(self) -> None:
        if self.state.compensating is None:
            self.begin_waiting_steps()
        if self.state.compensating is not None:
            compensation.go_on(self)
        if self._routes:
            route = self._routes[-1]
            self.emit(e.STEP_EXIT, {}, step=route["step"], generation=route["generation"])

    def run_pending(self) -> None:
        while self._work:
            action, *arguments = self._work.pop()
            action(self, *arguments)

    # -- facts

    def started(self) -> None:
        self._set_deadline()
        self.begin_if_ready(self.plan.entry)

    def restarted(self) -> None:
        """What had begun before begins before what waits for it: a join that it can reach must not come first."""
        self._set_deadline()
        for step in reversed(self.fact.payload["begins"]):
            self._work.append((Decider.begin_if_ready, step))

    def _set_deadline(self) -> None:
        if (timeout := self.fact.payload.get("timeout")) is not None:
            due = self.fact.at + round(timeout * 1000)
            payload = {"timer": e.DEADLINE, "due": due, "timeout": timeout}
            self.emit(e.TIMER_SET, payload, step=self.plan.entry, generation=0)

    def retried(self) -> None:
        """Steps under way continue by themselves; an execution in which no step has begun begins."""
        if not self.state.tokens and self.plan.entry in self.state.waiting:
            self.begin_if_ready(self.plan.entry)

    def call_ended(self) -> None:
        assert self.fact.step is not None and self.fact.generation is not None
        step, failed = self.plan.steps[self.fact.step], self.fact.type == e.CALL_ERROR
        if step.loop is None:
            self.finish(step, self.fact.generation, self._output(), self.fact.type)
        elif failed:
            loops.end(self, step, self.fact.generation, self.fact.payload["error"])
        else:
            payload = self.fact.payload
            collection = {name: payload[name] for name in ("data", "ref") if payload.get(name) is not None}
            loops.open_with(self, step, self.fact.generation, payload["count"], collection)

    def frame_committed(self) -> None:
        assert self.fact.step is not None and self.fact.generation is not None
        loops.issue_frames(self, self.plan.steps[self.fact.step], self.fact.generation)

    def deferred(self) -> None:
        if self._stops():
            return
        payload = self.fact.payload
        timer = f"{self.fact.command_id}!{self.fact.seq}"
        due = self.fact.at + round(payload["delay"] * 1000)
        self.emit(e.TIMER_SET, {"timer": timer, "due": due, "resume": payload.get("resume")}, **self._command_fields())

    def parked(self) -> None:
        if self._stops():
            return
        if (request := self.fact.payload.get("wait")) is not None:
            waits.begin(self, request)
            return
        child = self.fact.payload["child"]
        seed = f"{self.state.execution_id}/{self.fact.command_id}/{self.fact.seq}"
        payload = {
            "execution_id": execution_id(self.fact.at, seed),
            "depth": self.state.depth + 1,
            "resume": self.fact.payload.get("resume"),
            "resumes": self.resumes(),
            **child,
        }
        self.emit(e.CHILD_STARTED, payload, **self._command_fields())

    def _stops(self) -> bool:
        """Whether the step of the fact must not go on, and stops."""
        assert self.fact.step is not None and self.fact.generation is not None
        step, generation = self.plan.steps[self.fact.step], self.fact.generation
        if not compensation.is_stopping(self.state, step):
            return False
        command = self.fact.command_id or ""
        is_item = self.state.commands[command].kind == "frame"
        error = compensation.stopped(step)
        if is_item:
            self._stop_item(step, generation, {"error": error}, command)
        else:
            self._end_run(e.STEP_STOPPED, step, generation, error)
        return True

    def _stop_child(self, child: str, error: dict[str, Any]) -> None:
        """A step, or an item of its loop, ends in place of what waits for the sub-playbook."""
        suspended = self.state.children[child]
        name, generation = split_token_key(suspended.key)
        if suspended.kind == "frame":
            self._stop_item(self.plan.steps[name], generation, {"error": error, "child": child})
        else:
            self._end_run(e.STEP_STOPPED, self.plan.steps[name], generation, error)

    def _stop_item(self, step: Step, generation: int, payload: dict[str, Any], command: str | None = None) -> None:
        """One item of a loop; the others that are under way go on to their ends."""
        self.emit(e.STEP_STOPPED, payload, step=step.name, generation=generation, command=command)
        loops.issue_frames(self, step, generation)

    def _end_run(self, event: str, step: Step, generation: int, error: dict[str, Any]) -> None:
        """End the run of a step with an error, whatever of it is under way."""
        self.emit(event, {"error": error}, step=step.name, generation=generation)
        if step.loop is not None:
            loops.end(self, step, generation, error)
        else:
            self.finish(step, generation, {"status": "error", "error": error, "meta": {}}, e.CALL_ERROR)

    def parent_failed(self) -> None:
        """It fails, too, unless it does already."""
        if self.state.compensating is None:
            error = {"kind": "execution", "code": "execution.parent_failed", "message": self.fact.payload["reason"]}
            self.fail({**error, "retryable": False})

    def timer_fired(self) -> None:
        name = self.fact.payload["timer"]
        if name in self.state.waits:
            waits.time_out(self, name)
            return
        if name == e.DEADLINE:
            self._end_in_time()
            return
        suspended = self.state.timers.get(name)
        if suspended is None:
            return
        if suspended.kind == "deadline":
            self._time_out(suspended.key)
        else:
            self.resume(suspended, suspended.resume, timer=name)

    def _end_in_time(self) -> None:
        """The time of the execution is over: it fails. What workers do may still end and be undone, but for
        sub-playbooks, which may take any time, it does not wait."""
        if self.state.compensating is None:
            message = (
                "the execution did not end within its time: see executor.spec.timeout, or the timeout of its caller"
            )
            self.fail({"kind": "execution", "code": "execution.timeout", "message": message, "retryable": True})
        if self.state.compensating is not None:
            for child, suspended in list(self.state.children.items()):
                step = self.plan.steps[split_token_key(suspended.key)[0]]
                if step.compensates is None and child in self.state.children:
                    self._stop_child(child, compensation.stopped(step))

    def _time_out(self, key: str) -> None:
        name, generation = split_token_key(key)
        step = self.plan.steps[name]
        message = f"step '{name}' did not end within its time: see spec.policy.lifecycle.timeout"
        error = {"kind": "step", "code": "step.timeout", "message": message, "retryable": True}
        self._end_run(e.STEP_TIMED_OUT, step, generation, error)

    def child_ended(self) -> None:
        payload = self.fact.payload
        child = payload["execution_id"]
        suspended = self.state.children.get(child)
        if suspended is not None:
            ending = {key: payload[key] for key in CHILD_END_FIELDS if key in payload}
            self.resume(suspended, {**(suspended.resume or {}), "child": ending}, child=child)
            return
        assert self.fact.step is not None and self.fact.generation is not None
        token = self.state.tokens.get(token_key(self.fact.step, self.fact.generation))
        if token is not None and token.phase == "parked":
            output = self._output()
            name = e.CALL_DONE if output["status"] == "ok" else e.CALL_ERROR
            self.finish(self.plan.steps[self.fact.step], self.fact.generation, output, name)

    def _output(self) -> dict[str, Any]:
        """The step's output as reported by the fact, in the form that templates see."""
        payload = self.fact.payload
        return {**outcome_of(self.fact), "meta": payload.get("meta", {}), **payload.get("extra", {})}

    def _is_set_within_limits(self) -> bool:
        """Whether ctx and the variables are within their bounds with what tasks have set; if not, the execution
        fails."""
        try:
            check_ctx({**self.state.ctx, **self.state.ctx_refs})
            check_variables(values_of(self.state.variables))
        except InvalidValue as error:
            self.fail(error_of(error), self.fact.step)
        return not self._failed

    def _command_fields(self) -> dict[str, Any]:
        return {"step": self.fact.step, "generation": self.fact.generation, "command": self.fact.command_id}

    def ended_by_fact(self) -> tuple[Step, int, dict[str, Any]] | None:
        fact = self.fact
        if fact.type not in (e.CALL_DONE, e.CHILD_ENDED) or fact.payload.get("resumes"):
            return None
        assert fact.step is not None and fact.generation is not None
        step = self.plan.steps[fact.step]
        if step.loop is not None or token_key(fact.step, fact.generation) not in self.state.tokens:
            return None
        return step, fact.generation, self._output()

    # -- a step's end

    def finish(self, step: Step, generation: int, output: dict[str, Any], event: str) -> None:
        """Run `set`, choose the arcs, let what they lead to begin. `output` is the step's end as its templates see it:
        {"status", "meta", "data" | "ref", "error"?, ...}."""
        if self.state.compensating is not None:
            compensation.step_ended(self, step, generation, output, event)
            return
        self.ended = (step, generation, output)
        try:
            assigned = SetValues()
            if step.set and event not in (*FAILURES, SKIPPED):
                assigned.update(self._assign(step, step.set, self.scope(event, output)))
            arcs = self._choose(step, event, output, assigned)
            if assigned:
                ctx = {**self.state.ctx, **self.state.ctx_refs}
                size = check_set(ctx, {**assigned.values, **assigned.refs}, self.state.variables)
                self.size.add_bytes(size, step.name)
        except (TemplateError, InvalidValue) as error:
            self.fail(error_of(error, output if event in FAILURES else None), step.name)
            return
        self.ended = None
        self._route(step, generation, event, assigned, arcs, output)
        if not arcs:
            self._dead_end(step, output, event)
        if not self._failed and step.on_no_match != "quiet" and len(arcs) < len(step.arcs):
            self._unreachable |= {name: {"status": "skipped"} for name in self._untaken(step)}
            self._work.append((Decider._skip_untaken, step))
        for arc in reversed(arcs):
            self._work.append((Decider.begin_if_ready, arc.target))

    def _route(
        self,
        step: Step,
        generation: int,
        event: str,
        assigned: SetValues,
        arcs: list[Arc],
        output: dict[str, Any],
    ) -> None:
        route: dict[str, Any] = {"step": step.name, "generation": generation, "event": event}
        if assigned.values:
            route["set"] = assigned.values
        if assigned.refs:
            route[e.SET_REFS] = assigned.refs
        if arcs:
            route["arcs"] = [arc.target for arc in arcs]
        elif step.warns_on_no_match and event not in (*FAILURES, SKIPPED):
            route["unmatched"] = True
        if step.compensation is not None:
            route |= compensation.mark(self, step, output)
        self.add_route(route)
        if step.compensation is not None and (reason := compensation.exceeded(self.state)) is not None:
            error = {"kind": "compensation", "code": "compensation.too_many", "message": reason, "retryable": False}
            self.fail(error, step.name)

    def _choose(self, step: Step, event: str, output: dict[str, Any], assigned: SetValues) -> list[Arc]:
        """The arcs to take; what their `set` assigns is added to `assigned`."""
        failures_only = event in (*FAILURES, SKIPPED)
        chosen: list[Arc] = []
        for arc in step.arcs:
            if failures_only and not arc.handles_failure:
                continue
            if self._holds(step, arc, lambda: self.scope(event, output, assigned)):
                chosen.append(arc)
                if step.mode == "exclusive":
                    break
        for arc in chosen:
            if arc.set:
                assigned.update(self._assign(step, arc.set, self.scope(event, output, assigned)))
        return chosen

    def _holds(self, step: Step, conditional: Arc | AdmitRule, scope: Callable[[], Scope]) -> bool:
        if conditional.when is None:
            return True
        self.size.add_work(1, step.name)
        return truthy(conditional.when.render(scope()))

    def _dead_end(self, step: Step, output: dict[str, Any], event: str) -> None:
        if event in FAILURES:
            self.fail(
                output.get("error") or {"kind": "step", "code": "step.failed", "message": "failed"},
                step.name,
            )
        elif event != SKIPPED and self.plan.no_next_is_error and step.arcs:
            message = f"no arc of step '{step.name}' matched, and executor.spec.no_next_is_error is set"
            self.fail({"kind": "routing", "code": "routing.no_match", "message": message}, step.name)

    # -- a step's beginning

    def begin_if_ready(self, target: str) -> None:
        """Begin `target`, unless it must wait for something under way that can still reach it."""
        if self._failed or target not in self.state.waiting:
            return
        if may_wait(self.plan, self.state, target):
            self.size.add_work((len(self.state.tokens) + len(self.state.waiting)) // 10, target)
        if not blocked(self.plan, self.state, target):
            self.begin(self.plan.steps[target])

    def begin_waiting_steps(self) -> None:
        """Begin the steps that need not wait any longer; end the execution when nothing is left."""
        while self.state.waiting and not self._failed:
            ready = [step for step in self.plan.steps if step in self.state.waiting]
            event_count = len(self.events)
            for step in ready:
                self.begin_if_ready(step)
                self.run_pending()
            if len(self.events) > event_count:
                continue
            self.size.add_work(len(ready) ** 2 // 10, None)
            deadlocked = first_deadlocked(self.plan, self.state, ready)
            if deadlocked is None:
                break
            self.begin(self.plan.steps[deadlocked])
            self.run_pending()
        if not self._failed and not self.state.tokens and not self.state.waiting:
            self._end()

    def _end(self) -> None:
        final = self.plan.final_step
        if final is not None and final not in self.state.generations:
            self.state.waiting[final] = []
            self.begin(self.plan.steps[final])
            self.run_pending()
            if self.state.tokens or self._failed:
                return
        payload: dict[str, Any] = {"result_step": self.state.last} if self.state.last else {}
        warnings = [_unmatched(step) for step, outcome in self.state.outcomes.items() if outcome.get("unmatched")]
        if self.plan.result_schema is not None:
            outcome = self.state.outcomes.get(self.state.last or "", {})
            check = self.check_result(self.plan.result_schema, outcome)
            self.size.add_work(check.work, self.state.last)
            if check.error is not None:
                self.fail(check.error, self.state.last)
                return
            if not check.known:
                warnings.insert(0, _unchecked(self.state.last or ""))
        if warnings:
            payload["warnings"] = warnings[:MAX_WARNINGS]
        self.emit(e.COMPLETED, payload)

    def check_result(self, schema: Mapping[str, Any], outcome: Mapping[str, Any]) -> ResultCheck:
        """`outcome`: of the last step."""
        return check_result(schema, outcome)

    def begin(self, step: Step) -> None:
        generation = self.state.generations.get(step.name, 0) + 1
        if generation > self.plan.max_turns:
            message = f"step '{step.name}' began {generation - 1} times: executor.spec.max_turns allows no more"
            self.fail({"kind": "routing", "code": "turns.exceeded", "message": message, "retryable": False}, step.name)
            return
        try:
            if not self._admitted(step):
                self._skip(step, generation)
                return
        except (TemplateError, InvalidValue) as error:
            self.fail(error_of(error), step.name)
            return
        if step.timeout is not None:
            due = self.fact.at + round(step.timeout * 1000)
            payload = {"timer": e.step_deadline(token_key(step.name, generation)), "due": due, "timeout": step.timeout}
            self.emit(e.TIMER_SET, payload, step=step.name, generation=generation)
        if step.loop is not None:
            loops.begin(self, step, step.loop, generation)
            return
        self.issue(step, generation, "step")

    def _admitted(self, step: Step) -> bool:
        for rule in step.admit:
            if self._holds(step, rule, self.scope):
                return rule.allow
        return True

    def _skip(self, step: Step, generation: int) -> None:
        done = loops.done_before(self, step, generation)
        self.emit(e.STEP_SKIPPED, {"reason": "not admitted"}, step=step.name, generation=generation)
        self.finish(step, generation, done | {"status": "skipped", "meta": {}}, SKIPPED)

    def _skip_untaken(self, step: Step) -> None:
        for name in () if self._failed else self._untaken(step):
            self.emit(e.STEP_SKIPPED, {"reason": "not taken"}, step=name)

    def _untaken(self, step: Step) -> list[str]:
        return unreachable(self.plan, self.state, [arc.target for arc in step.arcs])


def _unmatched(step: str) -> dict[str, Any]:
    message = (
        f"no arc of step '{step}' was taken, and nothing came after it; if that is meant, write this at the step: "
        "next: {spec: {on_no_match: quiet}, arcs: [...]}"
    )
    return {"code": "routing.no_match", "step": step, "message": message}


def _unchecked(step: str) -> dict[str, Any]:
    message = (
        f"the result of step '{step}' is stored by reference and was not compared with schemas.result: return it from "
        "a step of one tool, or return less"
    )
    return {"code": "result.unchecked", "step": step, "message": message}


DECIDE: dict[str, Callable[[Decider], None]] = {
    e.STARTED: Decider.started,
    e.RESTARTED: Decider.restarted,
    e.RETRIED: Decider.retried,
    e.CALL_DONE: Decider.call_ended,
    e.CALL_ERROR: Decider.call_ended,
    e.CALL_DEFERRED: Decider.deferred,
    e.CALL_PARKED: Decider.parked,
    e.FRAME_COMMITTED: Decider.frame_committed,
    e.TIMER_FIRED: Decider.timer_fired,
    e.CHILD_ENDED: Decider.child_ended,
    e.SIGNAL_RECEIVED: waits.signal_received,
    e.PARENT_FAILED: Decider.parent_failed,
}
