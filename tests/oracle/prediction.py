"""What a playbook comes to if its tools answer as they are said to."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .execution import Begun, Claims, Execution, Items, Unclear
from .names import Outcome
from .playbook import Playbook
from .tasks import Answer, Call, Run, iteration_of

MAX_DEPTH = 16


@dataclass(slots=True)
class Prediction:
    """`calls`: what the tools were asked, children's included, in order."""

    status: str
    result: Any
    error: Mapping[str, Any] | None
    ctx: Mapping[str, Any]
    runs: Mapping[str, int]
    skipped: list[str]
    outcomes: Mapping[str, Outcome]
    calls: list[Call] = field(default_factory=list)


def predict(
    playbook: Playbook,
    payload: Mapping[str, Any],
    answer: Answer,
    others: Mapping[str, Playbook] | None = None,
    *,
    execution_id: str = "1",
    depth: int = 0,
    claims: Claims = lambda step: None,
) -> Prediction:
    """`others`: the playbooks that sub-playbooks are looked up in; `claims`: the rows that loops over cursors find.

    Steps end in the order in which they began. A budget of invocations is kept as long as each step is one command:
    without loops, waits and pipelines with sub-playbooks. An execution takes as long as its retries wait, and no
    longer: if it has a time to end in, it runs one step after the other, and is far within that time or far beyond. Of
    what is under way when it fails and is undone, each step is one call.
    """
    return _Predictor(
        Execution(playbook, merged(playbook.workload, payload), execution_id, claims), answer, others or {}, depth
    ).run()


class _Predictor:
    def __init__(self, execution: Execution, answer: Answer, others: Mapping[str, Playbook], depth: int) -> None:
        self._execution = execution
        self._answer = answer
        self._others = others
        self._depth = depth
        self._calls: list[Call] = []
        self._commands = 0
        self._most = execution.playbook.budget.get("max_invocations")
        self._waited = 0.0

    def run(self) -> Prediction:
        execution = self._execution
        todo = deque(self._admit(execution.start()))
        while todo and execution.status == "running":
            todo += self._admit(self._run(todo.popleft()))
        return Prediction(
            execution.status,
            execution.result,
            execution.error,
            execution.ctx,
            execution.runs,
            execution.skipped,
            execution.outcomes,
            self._calls,
        )

    def _admit(self, begun: list[Begun]) -> list[Begun]:
        """Those whose command the budget still allows."""
        for one in begun:
            if one.step.undoes is not None:
                # what has been done is undone, whatever it costs
                continue
            if self._most is not None and self._commands >= self._most:
                for other in begun[begun.index(one) :]:
                    self._execution.withdraw(*other.key)
                return self._execution.fail({"code": "budget.exceeded", "step": one.step.name})
            self._commands += 1
        return begun

    def _run(self, begun: Begun) -> list[Begun]:
        step, execution = begun.step, self._execution
        if begun.key not in execution.running:
            # it has stopped, because the execution fails
            return []
        if execution.is_undoing and step.undoes is None and step.loop is not None:
            raise Unclear("how many items of a loop are under way when the execution fails")
        if step.loop is None:
            run = Run(step, begun.generation, begun.scope, self._ask)
            outcome = run.run()
            if self._is_overdue(run.waited):
                return self._time_out(begun)
            return execution.end_step(*begun.key, outcome)
        assert begun.items is not None
        items = begun.items
        ended = Items(len(items))
        scope = begun.scope
        for index in range(len(items)):
            names, loop = iteration_of(step, items, index)
            run = Run(step, begun.generation, scope, self._ask, names, loop)
            outcome = run.run()
            if self._is_overdue(run.waited):
                return self._time_out(begun)
            execution.write(outcome.set)
            if step.loop.sequential:
                scope = execution.scope
            if outcome.status == "ok":
                ended.results.append(outcome.data)
                ended.succeeded += 1
                continue
            ended.results.append(None)
            ended.failed += 1
            ended.error = ended.error or {**(outcome.error or {}), "index": index}
            if not step.loop.best_effort:
                break
        return execution.end_loop(*begun.key, ended)

    def _is_overdue(self, waited: float) -> bool:
        """Whether the execution has had its time, with what it has just waited."""
        timeout = self._execution.playbook.timeout
        self._waited += waited
        if timeout is None or self._waited < timeout:
            return False
        if len(self._execution.running) > 1:
            raise Unclear("how long steps take side by side does not follow from what each waits")
        return not self._execution.is_undoing

    def _time_out(self, begun: Begun) -> list[Begun]:
        """No worker has the step, which waits for its next attempt."""
        if begun.step.loop is not None and begun.step.compensation is not None:
            raise Unclear("which items have been done")
        self._execution.withdraw(*begun.key)
        return self._execution.time_out()

    def _ask(self, call: Call) -> Outcome:
        self._calls.append(call)
        if call.kind != "playbook":
            return self._answer(call)
        if self._depth >= MAX_DEPTH:
            return Outcome("error", error={"code": "child.too_deep"})
        child = self._others[call.config["path"]]
        given = {**call.input, **(call.config.get("payload") or {})}
        ended = predict(child, given, self._answer, self._others, depth=self._depth + 1)
        self._calls += ended.calls
        if ended.status != "completed":
            return Outcome("error", error={"code": "child.failed", "cause": ended.error})
        wanted = call.config.get("return_step")
        if wanted is None:
            return Outcome("ok", data=ended.result)
        found = ended.outcomes.get(wanted)
        if found is None or found.status != "ok":
            return Outcome("error", error={"code": "child.no_result"})
        return Outcome("ok", data=found.data)


def merged(defaults: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload over the workload, objects key by key."""
    result = dict(defaults)
    for key, value in payload.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merged(before, value) if both else value  # type: ignore[arg-type]
    return result
