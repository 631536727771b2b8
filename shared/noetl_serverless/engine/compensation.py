"""Compensation: before an execution fails, what its steps have done is undone, the latest first.

A step with `compensate` that has ended well, or of whose items some have, is noted. When the execution is to fail, what
a worker or a sub-playbook does for such steps still ends, since it may have an effect, and is noted, too. Everything
else stops, and sub-playbooks among that undo what they have done. Then the compensations run one after the other. One
that fails is recorded, and the others go on. At last the execution fails with the error that it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ..limits import COMPENSATIONS, COMPENSATIONS_BYTES
from ..playbook.plan import Plan, Step
from . import events as e
from .error import brief
from .evolve_loops import claimed, loop_outcome, unopened
from .limits import size_of
from .state import Compensable, Loop, State, Token, split_token_key

if TYPE_CHECKING:
    from .decision import Decision

OF_OUTCOME: Final = ("status", "data", "ref", "error")


def begin(decision: Decision, error: dict[str, Any], step: str | None) -> bool:
    """Begin to undo what has been done; False if there is nothing to undo."""
    state = decision.state
    under_way = [command.key for command in state.commands.values() if command.kind != "open"]
    under_way += [child.key for child in state.children.values()]
    kept = {key for key in under_way if _is_noted(decision, key)}
    loops = {key: loop for key, loop in state.loops.items() if key not in kept and _is_noted(decision, key)}
    stopped = [_partly_done(state, key, loop) for key, loop in (*loops.items(), *_reused(decision.plan, state))]
    partly = [asdict(entry) for entry in (*stopped, *_just_ended(decision)) if _has_effect(entry.outcome)]
    if not (state.compensable or kept or partly):
        return False
    decision.emit(e.COMPENSATION_STARTED, {"error": error, "kept": sorted(kept), "partly": partly}, step=step)
    return True


def _is_noted(decision: Decision, key: str) -> bool:
    return decision.plan.steps[decision.state.tokens[key].step].compensation is not None


def _partly_done(state: State, key: str, loop: Loop) -> Compensable:
    """A loop that stops while none of its items runs."""
    if key in state.cursors:
        loop = claimed(loop)
    return Compensable(*split_token_key(key), loop_outcome(state.execution_id, key, {"status": "error"}, loop))


def _reused(plan: Plan, state: State) -> Iterator[tuple[str, Loop]]:
    """The loops of which another execution has done items, and that have not gone on in this one."""
    for key in state.reused:
        loop = unopened(state, key)
        if loop is not None and plan.steps[split_token_key(key)[0]].compensation is not None:
            yield key, loop


def _just_ended(decision: Decision) -> list[Compensable]:
    """The run whose end makes the execution fail: by its `set` or a condition, or because too much follows."""
    ended = decision.ended or decision.ended_by_fact()
    if ended is None or ended[0].compensation is None:
        return []
    step, generation, output = ended
    return [Compensable(step.name, generation, _outcome_of(output))]


def go_on(decision: Decision) -> None:
    """Begin the next compensation, unless something is under way; fail when there is none left."""
    state = decision.state
    while not state.ended and not state.tokens:
        if not state.compensable:
            assert state.compensating is not None
            compensating = state.compensating
            compensation = {"done": list(compensating.done), "failed": list(compensating.failed)}
            error = {**compensating.error, "compensation": compensation}
            decision.emit(e.FAILED, {"error": error}, step=compensating.step)
            return
        name = decision.plan.steps[state.compensable[-1].step].compensation
        if name is None:
            # of another version of the playbook
            record_failure(decision, {"code": "compensation.missing", "message": "the step has no compensation"})
            continue
        decision.begin(decision.plan.steps[name])
        decision.run_pending()


def mark(decision: Decision, step: Step, output: dict[str, Any]) -> dict[str, Any]:
    """What the route of a step that ends says of its compensation."""
    if step.compensation is None or not _has_effect(output):
        return {}
    outcome = _outcome_of(output)
    known = decision.state.outcomes.get(step.name)
    return {"compensable": True if known == outcome else outcome}


def _outcome_of(output: dict[str, Any]) -> dict[str, Any]:
    return {name: output[name] for name in OF_OUTCOME if output.get(name) is not None}


def _has_effect(output: dict[str, Any]) -> bool:
    if output["status"] == "ok":
        return True
    found = output.get("data") or output.get("ref", {}).get("extracted") or {}
    stats = found.get("stats") if isinstance(found, dict) else None
    return bool(isinstance(stats, dict) and stats.get("success"))


def exceeded(state: State) -> str | None:
    """Why no more can be noted."""
    if len(state.compensable) > COMPENSATIONS:
        return f"more than {COMPENSATIONS} runs of steps would have to be compensated"
    size = sum(size_of(entry.outcome) for entry in state.compensable) if len(state.compensable) > 10 else 0
    return f"more than {COMPENSATIONS_BYTES} bytes of results would be kept" if size > COMPENSATIONS_BYTES else None


def step_ended(decision: Decision, step: Step, generation: int, output: dict[str, Any], event: str) -> None:
    """A compensation has ended, or a step that was under way when the execution began to fail."""
    route: dict[str, Any] = {"step": step.name, "generation": generation, "event": event}
    if step.compensates is None:
        route |= mark(decision, step, output)
    elif output["status"] == "error":
        route["compensated"] = {"error": brief(output.get("error") or {})}
    else:
        route["compensated"] = True
    decision.add_route(route)


def under_way(plan: Plan, state: State) -> Token | None:
    """The run that undoes what is due."""
    tokens = (token for token in state.tokens.values() if plan.steps[token.step].compensates is not None)
    return next(tokens, None)


def record_failure(decision: Decision, error: dict[str, Any]) -> None:
    """The compensation that is due cannot begin."""
    entry = decision.state.compensable[-1]
    name = decision.plan.steps[entry.step].compensation or entry.step
    generation = decision.state.generations.get(name, 0)
    route = {"step": name, "generation": generation, "event": e.CALL_ERROR, "compensated": {"error": brief(error)}}
    decision.add_route(route)


def stopped(step: Step) -> dict[str, Any]:
    """The error of a step that was under way, or of an item of its loop, and does not go on."""
    message = f"step '{step.name}' has stopped, because the execution fails"
    return {"kind": "step", "code": "step.stopped", "message": message, "retryable": False}


def is_owed(plan: Plan, state: State) -> bool:
    """Whether something has been done, or may be, that is to be undone if the execution fails."""
    if not plan.has_compensations:
        return False
    noted = any(plan.steps[token.step].compensation is not None for token in state.tokens.values())
    noted = noted or any(_reused(plan, state))
    return noted or bool(state.compensable) or state.compensating is not None


def is_stopping(state: State, step: Step) -> bool:
    """Whether `step` is one that must not go on."""
    return state.compensating is not None and step.compensates is None
