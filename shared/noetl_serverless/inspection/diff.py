"""Where a recorded execution and another version of its playbook differ, in a form for reviewers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine import events as e
from ..engine.canonical import canonical, plain
from ..engine.events import Event
from ..engine.replay import logical_order
from ..engine.state import token_key
from ..playbook.plan import Plan
from ..playbook.reads import Reads, merge
from ..playbook.scope import VARIABLES
from .changes import ABSENT, Change, arc_changes, parameter_changes, value_changes
from .redecide import Divergence, Redecided, never_ran, redecide
from .trace import StepRun, Trace, trace


@dataclass(frozen=True, slots=True)
class Rerouted:
    run: StepRun
    now: list[str]
    # changes in the arcs of the step, in the workload they read, and in what the step sets
    because: list[Change]


@dataclass(slots=True)
class Diff:
    """If `empty`, the new version decides as the recorded one did and calls the same tools with the same values."""

    execution_id: str
    recorded: Plan
    plan: Plan
    # how it ended, and how it would end now
    ending: tuple[dict[str, Any], dict[str, Any]]
    added: list[StepRun] = field(default_factory=list)
    removed: list[StepRun] = field(default_factory=list)
    rerouted: list[Rerouted] = field(default_factory=list)
    # step -> changes in what its tools are called with
    reparameterised: dict[str, list[Change]] = field(default_factory=dict)
    # what the record does not determine: run or command -> why
    undetermined: dict[str, str] = field(default_factory=dict)
    divergence: dict[str, Any] | None = None

    @property
    def empty(self) -> bool:
        # other runs or arcs would mean other decisions
        return self.divergence is None and not self.reparameterised

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "execution_id": self.execution_id,
            "recorded": {"path": self.recorded.path, "plan_hash": self.recorded.hash},
            "now": {"path": self.plan.path, "plan_hash": self.plan.hash},
            "empty": self.empty,
            "divergence": self.divergence,
            "added": [_run(run) for run in self.added],
            "removed": [_run(run) for run in self.removed],
            "rerouted": [
                {
                    **_run(item.run),
                    "event": (item.run.route or {}).get("event"),
                    "recorded": item.run.arcs,
                    "now": item.now,
                    "because": [_change(change) for change in item.because],
                }
                for item in self.rerouted
            ],
            "reparameterised": [
                {"step": step, "changes": [_change(change) for change in changes]}
                for step, changes in self.reparameterised.items()
            ],
            "undetermined": self.undetermined,
            "ending": {"recorded": self.ending[0], "now": self.ending[1]},
        }


def diff(
    execution_id: str,
    events: Sequence[Event],
    recorded: Plan,
    plan: Plan,
    workload: Mapping[str, Any] | None = None,
    *,
    assume: bool = False,
    budget: Mapping[str, Any] | None = None,
) -> Diff:
    """The differences when the log of an execution that ran `recorded` is decided by `plan`; other parameters as in
    `redecide`."""
    redecided = redecide(execution_id, events, recorded, plan, workload, assume=assume, budget=budget)
    log = logical_order(events)
    was, now = trace(log), trace(redecided.log)
    before = log[0].payload.get("workload", workload or {}) if log else {}
    found = Diff(execution_id, recorded, plan, (_ending(was), _ending(now)))
    return _Comparison(found, was, now, redecided, before, log).diff()


class _Comparison:
    def __init__(
        self, found: Diff, was: Trace, now: Trace, redecided: Redecided, workload: Mapping[str, Any], log: list[Event]
    ) -> None:
        self.found, self.was, self.now, self.redecided, self.log = found, was, now, redecided, log
        self.workload_changes = {
            change.where: change for change in value_changes("", plain(workload), plain(redecided.state.workload))
        }

    def diff(self) -> Diff:
        found = self.found
        found.added += [run for key, run in self.now.runs.items() if key not in self.was.runs]
        for key, run in self.was.runs.items():
            if key not in self.now.runs:
                self._why_removed(key, run)
            else:
                self._both(run, self.now.runs[key])
        if self.redecided.divergence is not None:
            known = {event.command_id for event in self.log if event.type == e.ISSUED}
            diverged_at = {
                name: why for name, why in self.redecided.missing.items() if name not in known or not self._open(name)
            }
            found.undetermined.update(diverged_at)
        found.divergence = self._first()
        return found

    def _open(self, command: str) -> bool:
        """Whether the recorded execution waits for the same command."""
        ended = any(event.command_id == command and event.cause is None for event in self.log)
        return self.was.status == "running" and not ended

    def _why_removed(self, key: str, run: StepRun) -> None:
        reach = self.found.plan.reach
        state = self.redecided.state
        live = {token.step for token in state.tokens.values()} | state.waiting.keys()
        if run.step in self.found.plan.steps and (
            run.step in live or any(run.step in reach[step] for step in live if step in reach)
        ):
            self.found.undetermined[key] = "it follows something that was not recorded"
        else:
            self.found.removed.append(run)

    def _both(self, was: StepRun, now: StepRun) -> None:
        if was.route is not None and now.route is not None and was.arcs != now.arcs:
            step = self.found.plan.steps[was.step]
            because = arc_changes(self.found.recorded.steps[was.step], step)
            because += self._workload(merge(arc.when.reads for arc in step.arcs if arc.when is not None))
            because += value_changes("set", was.set, now.set, was.generation)
            self.found.rerouted.append(Rerouted(was, now.arcs, because))
        changes = self._parameters(was, now)
        if was.route is not None and now.route is not None and was.arcs == now.arcs:
            changes += value_changes("set", was.set, now.set, was.generation)
        if changes:
            listed = self.found.reparameterised.setdefault(was.step, [])
            listed += [change for change in changes if change not in listed]

    def _parameters(self, was: StepRun, now: StepRun) -> list[Change]:
        """Changes of the step itself, of the workload it reads, and of what it is given."""
        if was.skipped or now.skipped or was.reused or now.reused:
            return []
        recorded, plan = self.found.recorded.steps[was.step], self.found.plan.steps[was.step]
        changes = parameter_changes(recorded, plan)
        changes += self._workload(plan.reads)
        if was.loop is not None and now.loop is not None:
            changes += value_changes("loop items", _items(was.loop), _items(now.loop), was.generation)
        for part in ("ctx", VARIABLES, "steps"):
            changes += self._scope(part, was, now)
        return changes

    def _workload(self, reads: Reads) -> list[Change]:
        """Changes of the parts of the workload that are read; a bare name may be one of its keys."""
        keys = reads.get("workload", frozenset())
        return [
            Change(f"workload.{where}", change.recorded, change.now)
            for where, change in self.workload_changes.items()
            if keys is None or (name := where.split(".")[0].split("[")[0]) in keys or name in reads
        ]

    def _scope(self, part: str, was: StepRun, now: StepRun) -> list[Change]:
        """Changes of the values that both versions read."""
        ctx = part == "ctx"
        one, other = (was.ctx, now.ctx) if ctx else (was.scope.get(part, {}), now.scope.get(part, {}))
        found = []
        for name in dict.fromkeys((*one, *other)):
            if part == "steps" and never_ran(one.get(name)) and never_ran(other.get(name)):
                continue
            if (name in one and name in other) or self._read_by_both(was.step, part, name):
                where = name if part == "steps" else f"{part}.{name}"
                found += value_changes(where, one.get(name, ABSENT), other.get(name, ABSENT), was.generation)
        return found

    def _read_by_both(self, step: str, part: str, name: str) -> bool:
        for plan in (self.found.recorded, self.found.plan):
            reads = plan.steps[step].reads
            if part == "steps":
                if name not in reads:
                    return False
            elif (keys := reads.get(part, frozenset())) is not None and name not in keys:
                return False
        return True

    # -- the first divergence

    def _first(self) -> dict[str, Any] | None:
        if (refused := self._refused()) is not None:
            return refused
        diverged_at = self.redecided.divergence
        changed = self._first_changed(diverged_at.fact.seq if diverged_at is not None else None)
        if changed is not None:
            return changed
        return None if diverged_at is None else _divergence(diverged_at)

    def _refused(self) -> dict[str, Any] | None:
        """The start, if the new version would refuse it; the rest of the diff is as if it did not."""
        plan = self.found.plan
        if plan.input_schema is None or plan.hash == self.found.recorded.hash or not self.log:
            return None
        from ..playbook.json_schema import check

        faults = check(plan.input_schema, plain(self.redecided.state.workload))
        if not faults:
            return None
        start = self.log[0]
        what = [f"input.invalid: {fault.pointer or 'the input'}: {fault.message}" for fault in faults]
        return {
            "seq": start.seq,
            "event": start.type,
            "step": None,
            "generation": None,
            "recorded": ["it was started"],
            "now": ["its start would be refused", *what],
        }

    def _first_changed(self, before: int | None) -> dict[str, Any] | None:
        """The first event that issues a step with other parameters, unless the decisions diverged before."""
        for event in self.log:
            if before is not None and (event.cause or event.seq) >= before:
                return None
            if event.type in (e.ISSUED, e.LOOP_OPENED) and event.step in self.found.reparameterised:
                where = [change.where for change in self.found.reparameterised[event.step]]
                return {
                    "seq": event.seq,
                    "event": event.type,
                    "step": event.step,
                    "generation": event.generation,
                    "recorded": [f"{token_key(event.step, event.generation or 0)} as it was"],
                    "now": [f"the same step with other {', '.join(dict.fromkeys(where))}"],
                }
        return None


def _divergence(diverged_at: Divergence) -> dict[str, Any]:
    fact = diverged_at.fact
    recorded, now = [_brief(event) for event in diverged_at.recorded], [_brief(event) for event in diverged_at.now]
    if recorded == now:
        recorded, now = _details(diverged_at.recorded, diverged_at.now)
    return {
        "seq": fact.seq,
        "event": fact.type,
        "step": fact.step,
        "generation": fact.generation,
        "recorded": recorded,
        "now": now,
    }


def _details(recorded: Sequence[Event], now: Sequence[Event]) -> tuple[list[str], list[str]]:
    """Where two lists of decisions differ that look alike in `_brief`."""
    pairs = [
        (_brief(one), change)
        for one, other in zip(recorded, now, strict=True)
        for change in value_changes("", plain(one.payload), plain(other.payload))
    ]
    return (
        [f"{name}: {change.where} = {_short(change.recorded)}" for name, change in pairs],
        [f"{name}: {change.where} = {_short(change.now)}" for name, change in pairs],
    )


def _brief(event: Event) -> str:
    name = event.command_id or (
        token_key(event.step, event.generation) if event.step and event.generation else event.step
    )
    routes = [
        f"{route['step']} -> {', '.join(route.get('arcs', ())) or 'end'}" for route in event.payload.get("routes", ())
    ]
    error = event.payload.get("error")
    parts = [event.type, *([name] if name else []), *([f"({'; '.join(routes)})"] if routes else [])]
    if isinstance(error, Mapping):
        parts.append(str(error.get("code")))
    return " ".join(parts)


def _short(value: Any) -> str:
    text = value if value is ABSENT else canonical(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _items(loop: Mapping[str, Any]) -> Any:
    if "data" in loop:
        return loop["data"]
    return {"count": loop["count"], "sha256": (loop.get("ref") or {}).get("meta", {}).get("sha256")}


def _run(run: StepRun) -> dict[str, Any]:
    return {"step": run.step, "generation": run.generation, "after": run.after, "skipped": run.skipped}


def _change(change: Change) -> dict[str, Any]:
    found = {"where": change.where, "recorded": change.recorded, "now": change.now}
    return found if change.generation is None else {**found, "generation": change.generation}


def _ending(found: Trace) -> dict[str, Any]:
    error = found.error or {}
    code = {"error": error.get("code"), "message": error.get("message")} if error else {}
    return {"status": found.status, "result_step": found.result_step, **code}
