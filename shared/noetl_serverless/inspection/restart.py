"""What a restart takes over from the log of an execution that has ended, and what it does again.

Each run of a step stays done or is dropped. Dropped are: the last run of the step to restart from; runs that did not
end, or that ended with a failure that nothing handled; what comes after a dropped run; and later runs of its step.
What is left of the log, folded, is the state to go on with: in it the steps to run again wait with the arrivals of
those that stay done, and ctx has what these have set.

Of a loop that is dropped for its own sake, the items that are done stay done: see `reused_loops`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.evolve import apply
from ..engine.evolve_steps import assign
from ..engine.evolve_waits import note_answer, take_signal
from ..engine.ids import without_attempt
from ..engine.limits import size_of
from ..engine.replay import logical_order
from ..engine.state import Loop, Signal, State, token_key
from ..engine.upcast import UPCASTERS
from ..engine.variables import PREFIX, Variables
from ..errors import Conflict, InvalidRequest
from ..limits import DECISION_BYTES
from ..playbook.callbacks import steps_that_wait
from ..playbook.keychain_plan import closure
from ..playbook.plan import Plan, Step
from ..plurals import counted
from .changes import arc_changes, calls_changed, parameter_changes
from .restartable import ENDS, ended_with, named
from .reused_loops import ReusedLoop, has_other_items, lost_items, reused_loop, why_anew
from .step_runs import Key, read_runs

# events that may give a step its outcome
OUTCOMES = frozenset(
    {e.CALL_DONE, e.CALL_ERROR, e.CHILD_ENDED, e.WAIT_ENDED, e.LOOP_DONE, e.STEP_SKIPPED, e.STEP_TIMED_OUT}
)


@dataclass(frozen=True, slots=True)
class Reused:
    """A step that stays done. `generation` is None if it was skipped because nothing could reach it. `execution_id`
    and `seq`: the event that gave it its outcome."""

    step: str
    generation: int | None
    outcome: dict[str, Any]
    execution_id: str
    seq: int

    @property
    def is_skipped(self) -> bool:
        return bool(self.outcome.get("status") == "skipped")

    @property
    def has_failed(self) -> bool:
        """With an arc that handled it."""
        return self.outcome.get("status", "ok") not in ("ok", "skipped")


@dataclass(kw_only=True, frozen=True, slots=True)
class Restart:
    """`restart_from`: what has failed or was chosen; `again`: all steps that had begun and will run again, these among
    them. `waiting`, `ctx`, `ctx_refs`, `variables`, `signals` and `last` as in the state; `initial_ctx`: what the first
    of the executions was started with. `seq`: the last event of the log."""

    execution_id: str
    path: str
    version: int
    seq: int
    restart_from: list[str]
    reused: list[Reused]
    loops: list[ReusedLoop]
    again: list[str]
    # of those that wait, the ones that had begun, in the order in which they had
    begins: list[str]
    waiting: dict[str, list[str]]
    ctx: dict[str, Any]
    ctx_refs: dict[str, dict[str, Any]]
    variables: Variables
    # that no wait has taken
    signals: tuple[Signal, ...]
    # as in the state, each with the "step" and the "generation" that waited for it
    answered: dict[str, dict[str, Any]]
    initial_ctx: dict[str, Any]
    last: str | None
    # runs that stay done and are undone if this execution fails, in order; without an outcome, it is that of the step
    compensable: list[dict[str, Any]]
    # steps of which something stays done, also those that are no longer in the playbook
    kept: frozenset[str]
    # those of which this is undone if this execution fails
    undoes: list[str]
    # (step or key of ctx, reference): what is taken over from result stores; of a loop, one of its parts
    references: list[tuple[str, Mapping[str, Any]]]
    warnings: list[str] = field(default_factory=list)


def restart(
    execution_id: str,
    events: Iterable[Event],
    workload: Mapping[str, Any],
    recorded: Plan,
    plan: Plan,
    step: str | None = None,
    payload: Mapping[str, Any] | None = None,
    *,
    version: int,
) -> Restart:
    """`recorded` is the plan that ran, `plan` the one to go on with, of `version`; `step`: where to restart from, by
    default at what has failed, or was under way when it ended; `payload`: what is changed of the workload and, below
    `ctx`, of ctx. Raises Conflict if this execution cannot be restarted, InvalidRequest if it cannot from this step."""
    return _Restarting(execution_id, events, workload, recorded, plan, step, payload or {}, version).restart()


class _Restarting:
    def __init__(
        self,
        execution_id: str,
        events: Iterable[Event],
        workload: Mapping[str, Any],
        recorded: Plan,
        plan: Plan,
        step: str | None,
        payload: Mapping[str, Any],
        version: int,
    ) -> None:
        log = [UPCASTERS.current(event) for event in logical_order(events)]
        self.execution_id, self.workload = execution_id, workload
        self.recorded, self.plan, self.step = recorded, plan, step
        self.version = version
        self.origin = log[0].payload
        self.seq = max(event.seq for event in log)
        self.end = ended_with(execution_id, log)
        self.log = [*log[: log.index(self.end)], replace(self.end, type=e.STEP_EXIT, step=None, generation=None)]
        steps = read_runs(self.log)
        self.runs, self.latest, self.arrivals = steps.runs, steps.latest, steps.arrivals
        self.dropped: set[Key] = set()
        # of these, those that do not come after others in the version that ran
        self.began_it: set[Key] = set()
        self.loops: dict[Key, ReusedLoop] = {}
        # name of an approval that was decided -> the run that waited for it, of those that stay done
        self.approval_runs: dict[str, Key] = {}
        ctx = payload.get("ctx")
        self.changed: dict[str, Set[str]] = {
            "workload": payload.keys() - {"ctx"},
            "ctx": ctx.keys() if isinstance(ctx, Mapping) else frozenset(),
        }
        self.skips: set[int] = set()
        self.warnings: list[str] = []

    def restart(self) -> Restart:
        chosen = self._chosen()
        self._drop(set(chosen))
        self._find_loops()
        state, places = self._fold()
        waiting = self._waiting(state, chosen)
        reused = self._reused(state, places)
        noted = [run.step for run in state.compensable]
        loops = [loop.step for loop in self.loops.values()]
        again = [*dict.fromkeys((*chosen, *(step for step, _ in sorted(self.dropped, key=self._began))))]
        found = Restart(
            execution_id=self.execution_id,
            path=self.origin["path"],
            version=self.origin["version"],
            seq=self.seq,
            restart_from=chosen,
            reused=reused,
            loops=list(self.loops.values()),
            again=[name for name in again if name in self.plan.steps],
            begins=[name for name in self._roots(chosen) if name in waiting],
            waiting=waiting,
            ctx=state.ctx,
            ctx_refs=state.ctx_refs,
            variables=state.variables,
            signals=state.signals,
            answered={
                name: {**answer, "step": self.approval_runs[name][0], "generation": self.approval_runs[name][1]}
                for name, answer in state.answered.items()
            },
            initial_ctx=self.origin.get("ctx", {}),
            last=state.last if state.last in self.plan.steps else None,
            compensable=self._compensable(state),
            kept=frozenset((*(it.step for it in reused if not it.is_skipped), *loops, *noted)),
            undoes=sorted({name for name in (*loops, *noted) if self._has_compensation(name)}),
            references=[
                *self._references(reused),
                *((f"ctx.{name}", ref) for name, ref in state.ctx_refs.items()),
                *((run.step, run.outcome["ref"]) for run in state.compensable if "key" in run.outcome.get("ref", {})),
            ],
            warnings=self.warnings,
        )
        self._warn(found, noted)
        return found

    # -- what is dropped

    def _chosen(self) -> list[str]:
        """The steps to restart from."""
        if self.step is not None:
            self._check_step(self.step)
            return [self.step]
        if self.end.type == e.COMPLETED:
            raise Conflict(
                f"execution {self.execution_id} has completed: name the step to restart from, with `from` (--from). "
                f"Steps that ran: {self._candidates()}"
            )
        failed = self.end.step if self.end.type == e.FAILED and e.QUARANTINED not in self.end.payload else None
        chosen = [failed] if failed is not None else []
        if not chosen:
            chosen = [run.step for run in self.runs.values() if not run.is_done]
        chosen = list(dict.fromkeys(chosen)) or list(self.arrivals) or [self.recorded.entry]
        if missing := [name for name in chosen if name not in self.plan.steps]:
            raise InvalidRequest(
                f"step {missing[0]!r}, where execution {self.execution_id} ended, does not exist in version "
                f"{self.version} of {self.plan.path}: name the step to restart from, with `from` (--from): "
                f"{self._candidates()}"
            )
        return chosen

    def _check_step(self, step: str) -> None:
        if step not in self.plan.steps:
            raise InvalidRequest(
                f"there is no step {step!r} in version {self.version} of {self.plan.path}. Steps that ran: "
                f"{self._candidates()}"
            )
        if step not in self.latest and step not in self.arrivals:
            raise InvalidRequest(
                f"step {step!r} has not begun in execution {self.execution_id}: what leads to it has to run first. "
                f"Steps that ran: {self._candidates()}"
            )

    def _candidates(self) -> str:
        return named([name for name in self.latest if name in self.plan.steps])

    def _drop(self, chosen: set[str]) -> None:
        """In the order of the log, in which what causes a run comes before it."""
        roots = {self.latest[name].key for name in chosen if name in self.latest and not self._is_waiting(name)}
        # steps that come after a dropped run without a back-edge, in the version that ran and in the one that goes on;
        # and steps that are dropped themselves
        after: set[str] = set()
        newly_after: set[str] = set()
        again: set[str] = set()
        by_index = {run.began: run for run in self.runs.values()}
        for index, event in enumerate(self.log):
            run = by_index.get(index)
            if run is None:
                if event.type in (e.STEP_SKIPPED, e.REUSED) and (event.step in after or event.step in newly_after):
                    self.skips.add(index)
                continue
            key = run.key
            follows = run.step in again or run.step in after or any(parent in self.dropped for parent in run.parents)
            if key in roots or not run.is_done or follows or run.step in newly_after:
                self.dropped.add(key)
                if not follows and (run.step not in newly_after or not run.is_done):
                    self.began_it.add(key)
                if run.step not in again:
                    again.add(run.step)
                    after.update(_reached(self.recorded, run.step))
                    newly_after.update(_reached(self.plan, run.step))

    def _find_loops(self) -> None:
        """Those that go on, or still wait to: what is chosen by its name begins anew."""
        waiting = [
            (event.step or "", event.generation or 0)
            for event in self.log
            if event.type == e.LOOP_REUSED and event.step in self.arrivals
        ]
        begun = {
            key
            for key in self.dropped
            if key in self.began_it or not self.runs[key].is_done or self.runs[key].is_skipped
        }
        for key in (*sorted(begun, key=self._began), *(key for key in waiting if key not in self.runs)):
            step, generation = key
            before, now = self.recorded.steps.get(step), self.plan.steps.get(step)
            if step == self.step or before is None or before.loop is None:
                continue
            if now is None or now.loop is None:
                if done := lost_items(step, generation, None, self.log):
                    why = "is no longer in the playbook" if now is None else "is no loop any more"
                    self.warnings.append(f"{step} {why}: {self._dropped_items(done, before, now)}")
                continue
            if key in self.runs and key not in self.began_it:
                if done := lost_items(step, generation, None, self.log):
                    self._warn_of_following(before, now, done)
                continue
            loop = reused_loop(step, generation, self.log, sequential=before.loop.mode == "sequential")
            if lost := lost_items(step, generation, loop, self.log):
                self._warn_of_lost(before, now, lost)
            if loop is None:
                continue
            if key not in self.runs and any(parent in self.dropped for parent in self.arrivals[step].values()):
                self._warn_of_following(before, now, loop.done)
                continue
            reason = why_anew(loop, before.loop, now.loop, self.changed)
            if reason and has_other_items(before.loop, now.loop, self.changed):
                dropped = self._dropped_items(loop.done, before, now)
                self.warnings.append(f"{step} begins anew, with the items that its loop has now: {reason}; {dropped}")
            elif reason:
                self.warnings.append(f"all {loop.count} items of {step} run again: {reason}")
            else:
                self.loops[key] = loop

    def _warn_of_following(self, before: Step, now: Step, done: int) -> None:
        """Of items that were done of a loop which may have others, once what leads to it has run again."""
        if before.loop is not None and before.loop.cursor is not None:
            self._warn_of_lost(before, now, done)
        else:
            dropped = self._dropped_items(done, before, now)
            self.warnings.append(
                f"{now.name} begins anew, with the items that its loop has then: what leads to it runs again; {dropped}"
            )

    def _dropped_items(self, done: int, before: Step, now: Step | None) -> str:
        """What becomes of items that are done, and do not run again as such."""
        has_compensation = any(step is not None and step.compensation is not None for step in (before, now))
        undone = ", nor undone if this execution fails" if has_compensation else ""
        return f"items that were done before, and are not taken over{undone}: {done}"

    def _warn_of_lost(self, before: Step, now: Step, lost: int) -> None:
        if before.loop is not None and before.loop.cursor is None:
            self.warnings.append(
                f"items of {now.name} that ended well and run again: {lost}. They ran in one command with items that "
                "failed, and it is not known which did, or what each of them has set"
            )
        elif before.compensation is not None or now.compensation is not None:
            self.warnings.append(
                f"rows of {now.name} that were done before: {lost}. They are not claimed again, and not undone if this "
                "execution fails"
            )

    def _roots(self, chosen: Sequence[str]) -> list[str]:
        """The steps that are not only run again because of others."""
        ran = [run.step for run in self.runs.values() if run.step in chosen or not run.is_done]
        return list(dict.fromkeys((*ran, *chosen)))

    def _is_waiting(self, step: str) -> bool:
        """Whether it was to begin, and could not: its last run has nothing to do with that."""
        return step in self.arrivals and self.latest[step].is_done

    def _began(self, key: Key) -> int:
        return self.runs[key].began

    # -- what is left

    def _fold(self) -> tuple[State, dict[str, tuple[str, int]]]:
        """The state after all that is not dropped, and where each step got its outcome: (execution, seq)."""
        state = State(self.execution_id, workload=self.workload)
        places: dict[str, tuple[str, int]] = {}
        # wait -> the command that waited
        approvals: dict[str, str | None] = {}
        for index, event in enumerate(self.log):
            if index in self.skips:
                continue
            kept = self._without_dropped(event)
            if event.type == e.WAIT_STARTED and event.payload.get("approval"):
                approvals[event.payload["wait"]] = _command(event)
            if event.generation is not None and event.type not in ENDS and not self._is_kept(event):
                self._take_over_sets(state, event)
                if event.type == e.WAIT_ENDED:
                    # whoever has sent it has not said that it is so when the wait begins again
                    take_signal(state, event, event.payload["wait"] in approvals)
                    self._take_over_answer(state, event, approvals)
                # only what it says of others
                kept = Event(e.STEP_EXIT, event.at, seq=event.seq, payload={"routes": kept.payload.get("routes", [])})
            apply(state, kept)
            self._note_approval(kept, approvals)
            if kept.step is not None and kept.step in state.outcomes:
                if kept.type in OUTCOMES:
                    places[kept.step] = (self.execution_id, event.seq)
                elif kept.type == e.REUSED:
                    of = event.payload["of"]
                    places[kept.step] = (of["execution_id"], of["seq"])
        if state.paused is not None:
            # it ended while the time of its variables stood still
            apply(state, Event(e.RESUMED, self.end.at))
        return state, places

    def _take_over_sets(self, state: State, event: Event) -> None:
        """What items of a loop have set that stay done, at the time at which they did."""
        key = (event.step or "", event.generation or 0)
        loop = self.loops.get(key)
        if loop is not None and event.type in e.REPORTS and _command(event) in loop.commands:
            if not loop.sequential:
                _note(loop.before, state, event.payload)
            # whether it is sequential is all that is asked of it
            state.loops[token_key(*key)] = Loop(
                count=loop.count, sequential=loop.sequential, max_in_flight=1, best_effort=False, single=False
            )
            assign(state, event)

    def _take_over_answer(self, state: State, event: Event, approvals: Mapping[str, str | None]) -> None:
        """Of an item of a loop that stays done: when the approval that it waited for was decided, and by whom."""
        loop = self.loops.get((event.step or "", event.generation or 0))
        command = approvals.get(event.payload["wait"])
        if loop is not None and command in loop.commands and (name := event.payload.get("signal")) is not None:
            note_answer(state, name, event)
            self._note_approval(event, approvals)

    def _note_approval(self, event: Event, approvals: Mapping[str, str | None]) -> None:
        if event.type == e.RESTARTED:
            answered = event.payload.get("answered", {})
            self.approval_runs = {name: (answer["step"], answer["generation"]) for name, answer in answered.items()}
        elif event.type == e.WAIT_ENDED and event.payload["wait"] in approvals and "signal" in event.payload:
            self.approval_runs[event.payload["signal"]] = (event.step or "", event.generation or 0)

    def _is_kept(self, event: Event) -> bool:
        key = (event.step or "", event.generation or 0)
        return key in self.runs and key not in self.dropped

    def _without_dropped(self, event: Event) -> Event:
        if event.type == e.RESTARTED:
            # what the execution has taken over itself
            runs = event.payload.get("compensable", ())
            taken_over = [run for run in runs if (run["step"], run["generation"]) not in self.dropped]
            waiting = self._still_waiting(event.payload["waiting"])
            answered = {
                name: answer
                for name, answer in event.payload.get("answered", {}).items()
                if (key := (answer["step"], answer["generation"])) in self.loops or key not in self.dropped
            }
            known = {"compensable": taken_over, "waiting": waiting, "answered": answered}
            return replace(event, payload={**event.payload, **known})
        routes = event.payload.get("routes")
        if not routes:
            return event
        kept = [route for route in routes if (route["step"], route["generation"]) not in self.dropped]
        return replace(event, payload={**event.payload, "routes": kept})

    def _still_waiting(self, waiting: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Without those to which only leads what runs again."""
        taken_over = {event.step: event.generation for event in self.log if event.type == e.REUSED}
        again = {step for step in taken_over if (step, taken_over[step]) in self.dropped}
        found = {step: [name for name in sources if name not in again] for step, sources in waiting.items()}
        return {step: left for step, left in found.items() if left or not waiting[step]}

    def _waiting(self, state: State, chosen: Sequence[str]) -> dict[str, list[str]]:
        steps = self.plan.steps
        waiting = {
            name: [source for source in sources if source in steps]
            for name, sources in state.waiting.items()
            if name in steps
        }
        if lost := [name for name in state.waiting if name not in steps]:
            self.warnings.append(f"no longer in the playbook, and not run: {named(lost)}")
        if self.step is not None and self.step != self.plan.final_step:
            waiting.setdefault(chosen[0], [])
        final = self.plan.final_step
        if not waiting and (final is None or final in state.generations):
            raise Conflict(
                f"nothing of execution {self.execution_id} is left to run: name the step to restart from, with "
                f"`from` (--from): {self._candidates()}"
            )
        return waiting

    def _reused(self, state: State, places: Mapping[str, tuple[str, int]]) -> list[Reused]:
        """Raises Conflict if they are too large to be written together."""
        found = [
            Reused(name, state.generations.get(name), outcome, *places[name])
            for name, outcome in state.outcomes.items()
            if name in self.plan.steps and name in places
        ]
        if (size := sum(size_of(reused.outcome) for reused in found)) > DECISION_BYTES:
            raise Conflict(
                f"the results of the steps that are done have {size} bytes; a restart can take over {DECISION_BYTES}: "
                "restart from an earlier step"
            )
        return found

    def _compensable(self, state: State) -> list[dict[str, Any]]:
        return [
            {
                "step": run.step,
                "generation": run.generation,
                **({} if run.outcome == state.outcomes.get(run.step) else {"outcome": run.outcome}),
            }
            for run in state.compensable
            if run.step in self.plan.steps
        ]

    def _references(self, reused: Sequence[Reused]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        parts = {
            (it.step, it.generation): it.payload["ref"]
            for it in self.log
            if it.type in e.FRAMES and it.payload.get("ref")
        }
        for it in reused:
            ref = it.outcome.get("ref", {})
            if "key" not in ref:
                ref = parts.get((it.step, it.generation), {})
            if "key" in ref:
                yield it.step, ref
        for loop in self.loops.values():
            for part in (loop.collection, *loop.before.values(), *loop.frames):
                if "key" in part.get("ref", {}):
                    yield loop.step, part["ref"]

    def _warn(self, found: Restart, noted: Sequence[str]) -> None:
        """`noted`: what was to be undone if the old execution had failed, and stays done."""
        steps, recorded = self.plan.steps, self.recorded.steps
        gone = [run.step for key, run in self.runs.items() if key not in self.dropped and run.step not in steps]
        if gone := list(dict.fromkeys(gone)):
            found.warnings.append(f"done, and no longer in the playbook: {named(gone)}")
        lost = [name for name in noted if not self._has_compensation(name)]
        lost += [
            it.step for it in found.loops if not self._has_compensation(it.step) and self._had_compensation(it.step)
        ]
        if lost:
            found.warnings.append(
                "not undone if this execution fails, because `compensate` is no longer there: "
                f"{named(list(dict.fromkeys(lost)))}. What they did stays as it is"
            )
        found.warnings.extend(self._lost_callbacks(found))
        if self.plan.hash == self.recorded.hash:
            return
        changed = [
            reused.step
            for reused in found.reused
            if reused.generation is not None and reused.step in recorded and self._is_changed(reused.step)
        ]
        if changed:
            found.warnings.append(
                f"changed since they ran: {named(changed)}. They stay done, with the results they had and the arcs "
                "they took; to run one again, restart from it"
            )
        for loop in found.loops:
            if calls_changed(recorded[loop.step], steps[loop.step]):
                found.warnings.append(
                    f"{loop.step} has changed since {counted(loop.done, 'item')} of it ran, whose results stay as they "
                    f"were; to run all of its items again, restart with --from {loop.step}"
                )
        added = [
            reused.step
            for reused in found.reused
            if reused.step not in noted
            and reused.outcome["status"] == "ok"
            and steps[reused.step].compensation is not None
            and not self._had_compensation(reused.step)
        ]
        if added:
            found.warnings.append(
                f"not undone if this execution fails, because they had no `compensate` when they ran: {named(added)}"
            )
        reached = set(found.waiting)
        for name in found.waiting:
            reached |= set(self.plan.reach[name])
        own = [name for name, step in steps.items() if step.compensates is None]
        if passed := [name for name in own if name not in recorded and name not in reached]:
            found.warnings.append(
                f"new, and not run, because they do not come after what runs again: {named(passed)}. To run one, "
                "restart from a step before it"
            )

    def _lost_callbacks(self, found: Restart) -> Iterator[str]:
        """The URLs that steps have sent are those of the execution that has ended."""
        to_run = set(found.waiting).union(*(self.plan.reach[name] for name in found.waiting))
        for reused in found.reused:
            step = self.plan.steps[reused.step]
            entries = step.all_secrets if reused.generation else ()
            for name in sorted(closure(self.plan.keychain, entries)):
                entry = self.plan.keychain[name]
                if entry.kind != "callback":
                    continue
                if waits := [it for it in steps_that_wait(self.plan, entry) if it in to_run]:
                    yield (
                        f"the callback URL '{name}' that {step.name} has sent does not answer {named(waits)} in "
                        f"the new execution: to send another one, restart with --from {step.name}"
                    )

    def _has_compensation(self, step: str) -> bool:
        """In the version to go on with."""
        return step in self.plan.steps and self.plan.steps[step].compensation is not None

    def _had_compensation(self, step: str) -> bool:
        """In the version that ran."""
        return step in self.recorded.steps and self.recorded.steps[step].compensation is not None

    def _is_changed(self, step: str) -> bool:
        before, now = self.recorded.steps[step], self.plan.steps[step]
        return bool(parameter_changes(before, now) or arc_changes(before, now))


def _command(event: Event) -> str | None:
    return None if event.command_id is None else without_attempt(event.command_id)


def _reached(plan: Plan, step: str) -> Set[str]:
    return plan.reach_forward[step] if step in plan.steps else frozenset()


def _note(before: dict[str, dict[str, Any]], state: State, report: Mapping[str, Any]) -> None:
    """What the names of ctx that an item sets are until then."""
    for name in (*report.get("set", ()), *report.get(e.SET_REFS, ())):
        if name in before or name.startswith(PREFIX):
            continue
        if name in state.ctx_refs:
            before[name] = {"ref": state.ctx_refs[name]}
        else:
            before[name] = {"value": state.ctx[name]} if name in state.ctx else {}
