"""Which step follows which: an execution as it goes from one ended step to the next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jsonschema.validators import validator_for

from .names import EventName, Outcome, Scope, parted
from .playbook import Arc, Loop, Playbook, Step
from .template import OutOfReach, Unrenderable, asks_how_it_ended, holds, render

# of one value that `set` gives, and of all that one step sets, in bytes of JSON
LARGEST_SET = 64 * 1024
LARGEST_SETS = 128 * 1024
# what comes back in the place of a secret
MASK = "***"
# of the rows that a loop claims: None if they are not known
Claims = Callable[[Step], list[Any] | None]
# (step, generation) -> how far a loop has come; None if the language does not say
Progress = Callable[[tuple[str, int]], "Items | None"]

Status = Literal["running", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that begins, with what its templates see. `items` of a loop; None if they must be fetched first. `limits`
    of a step that is none: what each of its limits is counted by, and how many there may be."""

    step: Step
    generation: int
    scope: Scope
    items: list[Any] | None = None
    limits: Mapping[str, tuple[str | None, int]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        return self.step.name, self.generation


class Unclear(Exception):
    """The language does not say what follows."""


@dataclass(slots=True)
class Items:
    """What became of a loop: results in the order of the items, null of those that failed; `error`: the first one's;
    `unclaimed`: why a claim has failed; `is_drained`: whether no row is left to claim."""

    total: int
    results: list[Any] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    error: Any = None
    by_reference: bool = False
    unclaimed: Any = None
    is_drained: bool = True


@dataclass(slots=True)
class _Undoing:
    """An execution that is to fail with `error`: the steps that have been undone, and those that could not be."""

    error: Mapping[str, Any]
    done: list[str] = field(default_factory=list)
    failed: list[Mapping[str, Any]] = field(default_factory=list)


class _Ends(Exception):
    """The execution fails."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error)
        self.error = error


class Execution:
    def __init__(
        self,
        playbook: Playbook,
        workload: Mapping[str, Any],
        execution_id: str = "1",
        claims: Claims | None = None,
        runs: Callable[[tuple[str, int]], bool] = lambda key: True,
        progress: Progress = lambda key: None,
    ) -> None:
        """`claims`: the rows that a loop over a cursor finds, in the order of its results; without it they show when it
        has ended. `runs`: whether a worker has something of a step that is under way, which then ends before what has
        been done is undone."""
        self.playbook = playbook
        self._claims = claims
        self._runs = runs
        self._progress = progress
        self.workload = workload
        self.execution_id = execution_id
        self.status: Status = "running"
        self.error: Mapping[str, Any] | None = None
        self.ctx: dict[str, Any] = {}
        self.variables: dict[str, Any] = {}
        # when those of them expire that do
        self.expiries: dict[str, int] = {}
        self.outcomes: dict[str, Outcome] = {}
        # how often each step has begun
        self.runs: Counter[str] = Counter()
        self.skipped: list[str] = []
        # the step whose outcome is the result
        self.last: str | None = None
        self._running: set[tuple[str, int]] = set()
        # runs of steps that would be undone, in the order in which they ended
        self._done: list[tuple[str, Outcome]] = []
        self._undoing: _Undoing | None = None
        # what waits for more to arrive, or for the rest of its round: step -> those that have arrived there
        self._waiting: dict[str, list[str]] = {}
        # of these, the ones that an arc has led back to
        self._led_back: set[str] = set()
        self._final_due = playbook.final is not None
        # steps that something has come to, and the targets of arcs that were not taken
        self._next: list[str] = []
        self._left: list[str] = []
        self._begun: list[Begun] = []

    @property
    def running(self) -> frozenset[tuple[str, int]]:
        return frozenset(self._running)

    @property
    def result(self) -> Any:
        return self.outcomes[self.last].data if self.status == "completed" and self.last else None

    @property
    def scope(self) -> Scope:
        secrets = {name: dict.fromkeys(fields, MASK) for name, fields in self.playbook.keychain.items()}
        # a compensation sees the run that it undoes
        undone = dict(self._done[-1:]) if self._undoing else {}
        outcomes, variables = {**self.outcomes, **undone}, dict(self.variables)
        return Scope(self.execution_id, self.workload, dict(self.ctx), outcomes, secrets, variables)

    @property
    def is_undoing(self) -> bool:
        """Whether it is to fail, and what has been done is undone first."""
        return self._undoing is not None and self.status == "running"

    # -- what happens to it; each gives the steps that begin

    def start(self) -> list[Begun]:
        return self._then(lambda: self._next.append(self.playbook.entry))

    def reuse(self, step: str, generation: int | None, outcome: Outcome) -> None:
        """Another execution has done this step; `generation`: None if nothing could reach it."""
        self.outcomes[step] = outcome
        if generation is not None:
            self.runs[step] = generation

    def go_on(
        self,
        begins: list[str],
        waiting: Mapping[str, list[str]],
        ctx: Mapping[str, Any],
        last: str | None,
        done: list[tuple[str, Outcome]],
    ) -> list[Begun]:
        """Go on where another execution ended: with the steps that had begun, what has arrived at others, what was set,
        and what has been done and would be undone."""
        self.ctx, self.last, self._done = dict(ctx), last, list(done)
        self._final_due = self._final_due and not self.runs[self.playbook.final or ""]

        def arrive() -> None:
            graph = self.playbook.graph
            for target, sources in waiting.items():
                self._waiting[target] = list(sources)
                if any(graph.leads_back(source, target) for source in sources):
                    self._led_back.add(target)
            for name in (*begins, *waiting):
                waits = graph.joins(name) or name in self._led_back
                if name in self._waiting and not (waits and (name not in begins or self._held_up(name))):
                    del self._waiting[name]
                    self._led_back.discard(name)
                    self._begin(name)

        return self._then(arrive)

    def end_step(self, step: str, generation: int, outcome: Outcome) -> list[Begun]:
        """A step, not one of a loop, is over."""
        event = "call.done" if outcome.status == "ok" else "call.error"
        return self._then(lambda: self._finish(step, generation, outcome, event))

    def end_loop(self, step: str, generation: int, ended: Items) -> list[Begun]:
        """All items that were to run have."""
        return self._then(lambda: self._loop_ends(step, generation, ended))

    def time_out_step(self, step: str, generation: int, ended: Items | None) -> list[Begun]:
        """A step has had the time that it may take; `ended`: of a loop, what it has by then."""
        error = {"code": "step.timeout"}
        if self.playbook.steps[step].loop is None:
            return self._then(lambda: self._finish(step, generation, Outcome("error", error=error), "call.error"))
        data = None if ended is None else {"results": ended.results, "stats": _stats(ended)}
        outcome = Outcome("error", data, error, of_loop=data is not None)
        return self._then(lambda: self._finish(step, generation, outcome, "loop.failed"))

    def write(self, values: Mapping[str, Any]) -> None:
        """This was set: in ctx, or as variables."""
        in_ctx, variables = parted(values)
        self.ctx |= in_ctx
        self.variables |= variables
        self.expiries = {name: at for name, at in self.expiries.items() if name not in variables}

    def cancel(self) -> None:
        if self.status == "running":
            self.status = "cancelled"

    def time_out(self) -> list[Begun]:
        """It has had the time that it may take."""
        return self.fail({"code": "execution.timeout"})

    def fail(self, error: Mapping[str, Any]) -> list[Begun]:
        """It fails for a reason that does not follow from the playbook."""

        def fails() -> None:
            raise _Ends(error)

        return self._then(fails)

    def withdraw(self, step: str, generation: int) -> None:
        """It was to begin, and does not."""
        self._running.discard((step, generation))

    def stop_step(self, step: str, generation: int, ended: Items | None) -> list[Begun]:
        """A step that was under way when it began to undo what has been done would wait; `ended`: as in
        `time_out_step`."""
        data = None if ended is None else {"results": ended.results, "stats": _stats(ended)}
        outcome = Outcome("error", data, {"code": "step.stopped"}, of_loop=data is not None)
        return self._then(lambda: self._finish(step, generation, outcome, "call.error"))

    # -- how

    def _then(self, what: Any) -> list[Begun]:
        if self.status != "running":
            return []
        self._begun = []
        try:
            what()
            self._go_on()
        except _Ends as ends:
            self._fail(ends.error)
        return self._begun

    def _fail(self, error: Mapping[str, Any]) -> None:
        """Undo what has been done, the latest first, if there is anything; then it fails."""
        if self._begun and any(step.compensation for step in self.playbook.steps.values()):
            raise Unclear(f"whether {', '.join(one.step.name for one in self._begun)} begins before it fails")
        self._begun = []
        noted = [key for key in self._running if self.playbook.steps[key[0]].compensation]
        kept = {key for key in noted if self._runs(key)}
        for name, generation in sorted(set(noted) - kept):
            so_far = self._progress((name, generation))
            if self.playbook.steps[name].loop is not None and so_far is not None:
                data = {"results": so_far.results, "stats": _stats(so_far)}
                self._note(self.playbook.steps[name], Outcome("error", data, of_loop=True))
        if not (self._done or kept):
            self.status, self.error = "failed", error
            return
        self._undoing = _Undoing(error)
        self._running = kept
        self._next, self._left = [], []
        self._waiting.clear()
        self._led_back.clear()
        self._undo()

    def _note(self, step: Step, outcome: Outcome) -> None:
        """A run of a step has ended: it is undone if it had an effect."""
        has_effect = outcome.status == "ok" or (outcome.of_loop and outcome.data["stats"]["success"] > 0)
        if step.compensation is not None and has_effect:
            self._done.append((step.name, outcome))

    def _undo(self) -> None:
        """One after the other, when nothing is under way any more."""
        undoing = self._undoing
        assert undoing is not None
        while not self._running:
            if not self._done:
                outcome = {"done": undoing.done, "failed": undoing.failed}
                self.status, self.error = "failed", {**undoing.error, "compensation": outcome}
                return
            compensation = self.playbook.steps[self._done[-1][0]].compensation
            if compensation is None:
                # another version of the playbook had one
                self._undone({"code": "compensation.missing"})
                continue
            try:
                self._begin(compensation.name)
            except _Ends as ends:
                self._undone(ends.error)

    def _undone(self, error: Mapping[str, Any] | None) -> None:
        assert self._undoing is not None
        name, _ = self._done.pop()
        if error is None:
            self._undoing.done.append(name)
        else:
            self._undoing.failed.append({"step": name, "code": error.get("code")})

    def _go_on(self) -> None:
        """Let joins begin that nothing can arrive at any more; at the end the final step, or the end itself."""
        if self._undoing is not None:
            self._undo()
            return
        while True:
            self._skip_behind()
            if self._next:
                self._begin(self._next.pop(0))
                continue
            ready = [join for join in self.playbook.steps if join in self._waiting and not self._held_up(join)]
            if ready:
                del self._waiting[ready[0]]
                self._led_back.discard(ready[0])
                self._next.append(ready[0])
            elif not self._running and not self._waiting and self._final_due:
                self._final_due = False
                assert self.playbook.final is not None
                if not self.runs[self.playbook.final]:
                    self._next.append(self.playbook.final)
            elif not self._running and self._waiting:
                raise Unclear(f"{', '.join(self._waiting)} wait for each other")
            else:
                break
        if not self._running:
            self._check_result()
            self.status = "completed"

    def _check_result(self) -> None:
        schema = self.playbook.result_schema
        if schema is None or self.last is None:
            return
        outcome = self.outcomes[self.last]
        if outcome.extracted is not None:
            raise Unclear("a result by reference is compared where it is")
        if not validator_for(schema)(schema).is_valid(outcome.data):
            raise _Ends({"code": "result.invalid", "step": self.last})

    def _held_up(self, name: str) -> bool:
        """A step that was led back to waits for the rest of its round, a join for what can still arrive in this one."""
        graph = self.playbook.graph
        running = [step for step, _ in self._running]
        waiting = [step for step in self._waiting if step != name]
        if name in self._led_back:
            return any(step in graph.body(name) for step in running + waiting)
        # the next round of a cycle does not hold up what is left of this one
        waiting = [step for step in waiting if step not in self._led_back or name not in graph.body(step)]
        if any(graph.holds_up(step, name) for step in running + waiting):
            return True
        if any(graph.reaches(step, name) for step in running):
            raise Unclear(f"{name} is reached, and may be once more in another round of its cycle")
        return False

    def _arrive(self, source: str, target: str) -> None:
        back = self.playbook.graph.leads_back(source, target)
        if not back and not self.playbook.graph.joins(target) and target not in self._waiting:
            self._next.append(target)
            return
        self._waiting.setdefault(target, []).append(source)
        if back:
            self._led_back.add(target)

    def _begin(self, name: str) -> None:
        step = self.playbook.steps[name]
        if name == self.playbook.final:
            self._final_due = False
        if not self._admitted(step):
            self._skip(name)
            self._route(step, Outcome("skipped"), "step.skipped")
            return
        if self.runs[name] >= self.playbook.max_turns:
            raise _Ends({"code": "turns.exceeded", "step": name})
        self.runs[name] += 1
        generation = self.runs[name]
        limits = self._limits(step)
        self._running.add((name, generation))
        if step.loop is None:
            self._begun.append(Begun(step, generation, self.scope, limits=limits))
            return
        if step.loop.items is None:
            if self._claims is None:
                self._begun.append(Begun(step, generation, self.scope))
                return
            rows = self._claims(step)
            if rows is None:
                raise Unclear("what a cursor claims does not follow from the playbook")
            if rows:
                self._begun.append(Begun(step, generation, self.scope, rows))
            else:
                self._loop_ends(name, generation, Items(0, []))
            return
        try:
            items: list[Any] | None = collection(render(step.loop.items, self.scope.names(fetches=False)))
        except OutOfReach:
            items = None
        except Unrenderable as error:
            self._finish(name, generation, _error("template.error", str(error)), "loop.failed")
            return
        except TypeError as error:
            self._finish(name, generation, _error("loop.not_iterable", str(error)), "loop.failed")
            return
        if not self._has_width(step.loop):
            self._finish(name, generation, _error("loop.invalid", "max_in_flight is no number"), "loop.failed")
        elif items == []:
            self._loop_ends(name, generation, Items(0, []))
        else:
            self._begun.append(Begun(step, generation, self.scope, items))

    def _limits(self, step: Step) -> dict[str, tuple[str | None, int]]:
        """What its commands are counted by, a text or a whole number, and how many there may be; of a key that the
        playbook leaves open, None."""
        of_playbook = self.playbook.limits if self.runs.total() == 1 else {}
        found = {name: (self._limit_key(key, step), limit) for name, (key, limit) in step.limits.items()}
        for key, _ in of_playbook.values():
            self._limit_key(key, step)
        return found

    def _limit_key(self, key: Any, step: Step) -> str | None:
        if key is None:
            return None
        try:
            value = render(key, self.scope.names(fetches=False))
        except Unrenderable as error:
            raise _Ends({"code": "template.error", "step": step.name, "message": str(error)}) from error
        if isinstance(value, bool) or not isinstance(value, str | int) or not 1 <= len(str(value)) <= 200:
            raise _Ends({"code": "value.invalid", "step": step.name})
        return str(value)

    def _admitted(self, step: Step) -> bool:
        names = self.scope.names(fetches=False)
        for when, allowed in step.admit:
            if when is None or self._holds(when, names, step):
                return allowed
        return True

    def _has_width(self, loop: Loop) -> bool:
        """Whether how many items may run at once is a number of items."""
        try:
            return int(render(loop.width, self.scope.names(fetches=False))) >= 1
        except (Unrenderable, TypeError, ValueError):
            return False

    def _loop_ends(self, name: str, generation: int, ended: Items) -> None:
        step = self.playbook.steps[name]
        assert step.loop is not None
        stats = _stats(ended)
        data = {"results": ended.results, "stats": stats}
        extracted = {"stats": stats} if ended.by_reference else None
        if ended.unclaimed:
            error = {"code": "loop.claim_failed", "item": ended.unclaimed}
            self._finish(
                name, generation, Outcome("error", data, error, extracted=extracted, of_loop=True), "loop.failed"
            )
        elif ended.failed and not step.loop.best_effort:
            first = (ended.error or {}).get("message")
            message = f"{ended.failed} of {ended.total} items failed; the first: {first}"
            error = {"code": "loop.item_failed", "message": message, "item": ended.error}
            outcome = Outcome("error", data, error, extracted=extracted, of_loop=True)
            self._finish(name, generation, outcome, "loop.failed")
        elif not ended.is_drained:
            error = {"code": "loop.not_drained"}
            outcome = Outcome("error", data, error, extracted=extracted, of_loop=True)
            self._finish(name, generation, outcome, "loop.failed")
        else:
            self._finish(name, generation, Outcome("ok", data, extracted=extracted, of_loop=True), "loop.done")

    def _finish(self, name: str, generation: int, outcome: Outcome, event: str) -> None:
        self._running.discard((name, generation))
        self.write(outcome.set)
        self.outcomes[name] = outcome
        step = self.playbook.steps[name]
        if self._undoing is None:
            self._note(step, outcome)
            if outcome.status == "ok":
                self.write(self._assignments(step.set, step, outcome, event))
        self._route(step, outcome, event)

    def _route(self, step: Step, outcome: Outcome, event: str) -> None:
        if self._undoing is not None:
            if step.undoes is None:
                self._note(step, outcome)
            else:
                self._undone(outcome.error if outcome.status == "error" else None)
            return
        taken = self._taken(step, outcome, event)
        if not taken:
            if outcome.status == "error":
                raise _Ends({**(outcome.error or {}), "step": step.name})
            if step.arcs and outcome.status == "ok" and self.playbook.no_next_is_error:
                raise _Ends({"code": "routing.no_match", "step": step.name})
            self.last = step.name
        for arc in taken:
            self.write(self._assignments(arc.set, step, outcome, event))
        # two arcs to one step are one way there
        for target in dict.fromkeys(arc.target for arc in taken):
            self._arrive(step.name, target)
        if not step.quiet:
            self._left += [arc.target for arc in step.arcs if arc not in taken]

    def _taken(self, step: Step, outcome: Outcome, event: str) -> list[Arc]:
        names = self._after(step, outcome, event)
        taken: list[Arc] = []
        for arc in step.arcs:
            if outcome.status != "ok" and not (isinstance(arc.when, str) and asks_how_it_ended(arc.when)):
                continue
            try:
                fits = arc.when is None or holds(arc.when, names)
            except Unrenderable as error:
                # a condition that raises does not hide why the step failed
                why = outcome.error or {"code": "template.error", "message": str(error)}
                raise _Ends({**why, "step": step.name}) from error
            if fits:
                taken.append(arc)
                if not step.inclusive:
                    break
        return taken

    def _after(self, step: Step, outcome: Outcome, event: str) -> dict[str, Any]:
        event_names = {"name": EventName(event), "step": step.name}
        loop = None
        if event in ("loop.done", "loop.failed"):
            loop = {"done": True, "length": outcome.data["stats"]["total"] if outcome.of_loop else 0}
        return self.scope.after(outcome, fetches=False, event=event_names, loop=loop)

    def _assignments(self, values: Mapping[str, Any], step: Step, outcome: Outcome, event: str) -> dict[str, Any]:
        names = self._after(step, outcome, event)
        try:
            found = {key.removeprefix("ctx."): render(value, names) for key, value in values.items()}
        except Unrenderable as error:
            raise _Ends({"code": "template.error", "step": step.name, "message": str(error)}) from error
        sizes = {
            name: len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
            for name, value in found.items()
        }
        if max(sizes.values(), default=0) > LARGEST_SET or sum(sizes.values()) > LARGEST_SETS:
            if step.loop is not None or any(outcome.extracted is not None for outcome in self.outcomes.values()):
                raise Unclear("a whole value by reference is passed on as one")
            raise _Ends({"code": "value.invalid", "step": step.name, "message": f"it sets too much: {sizes}"})
        return found

    def _holds(self, when: Any, names: Mapping[str, Any], step: Step) -> bool:
        try:
            return holds(when, names)
        except Unrenderable as error:
            raise _Ends({"code": "template.error", "step": step.name, "message": str(error)}) from error

    def _skip_behind(self) -> None:
        """What nothing leads to any more, from arcs that were not taken."""
        todo, self._left = self._left, []
        live = {step for step, _ in self._running} | self._waiting.keys() | set(self._next)
        if self._final_due and self.playbook.final is not None:
            # it runs at the end, whatever leads to it
            live.add(self.playbook.final)
        seen: set[str] = set()
        while todo:
            step = todo.pop(0)
            if step in seen or step in live:
                continue
            seen.add(step)
            behind = [arc.target for arc in self.playbook.steps[step].arcs]
            if self.runs[step]:
                todo += behind
                continue
            reached = any(self.playbook.graph.reaches(one, step) for one in live)
            if step in self.skipped or reached:
                continue
            self._skip(step)
            todo += behind

    def _skip(self, step: str) -> None:
        self.skipped.append(step)
        self.outcomes[step] = Outcome("skipped")


def collection(value: Any) -> list[Any]:
    """What a loop goes over. TypeError if that is none."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        return [value]
    raise TypeError(f"a loop cannot go over {type(value).__name__}")


def _stats(ended: Items) -> dict[str, int]:
    return {"total": ended.total, "success": ended.succeeded, "failed": ended.failed}


def _error(code: str, message: str) -> Outcome:
    return Outcome("error", error={"code": code, "message": message})
