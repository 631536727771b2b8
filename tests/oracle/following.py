"""Walks through a log: takes from it what happened outside, and says where what was decided is not what follows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .execution import Begun, Execution, Items, Unclear
from .names import Counted, Outcome
from .playbook import Playbook

Key = tuple[str, int]
Fetch = Callable[[Mapping[str, Any]], Any]
NOTHING: Mapping[str, Any] = {}
ENDS = {"playbook.completed": "completed", "playbook.failed": "failed"}
# an error of ours has no more than these in common with the engine's
COMPARED_FIELDS = ("code", "step")


class Entry(Protocol):
    """An event of the log. `cause`: the seq of the fact that a decision answers, None for a fact."""

    @property
    def type(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> int: ...
    @property
    def cause(self) -> int | None: ...
    @property
    def step(self) -> str | None: ...
    @property
    def generation(self) -> int | None: ...
    @property
    def command_id(self) -> str | None: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...


class Differs(Exception):
    """The engine has decided something else."""


@dataclass(slots=True)
class _Loop:
    """`count`: None of one that claims its items, until it has ended; `slots`: how many claims may be under way;
    `frames`: how many have ended; `drained`: how many found none, less those that found some since; `unclaimed`: why
    one has failed."""

    count: int | None
    slots: int = 0
    results: dict[int, Any] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    error: Any = None
    frames: int = 0
    drained: int = 0
    unclaimed: Any = None


@dataclass(frozen=True, slots=True)
class _Wait:
    """`signal`: None if it is for a time; `resumes`: whether what waits has more to do then."""

    key: Key
    signal: str | None
    is_approval: bool
    resumes: bool


def follow(
    playbook: Playbook, workload: Mapping[str, Any], log: Sequence[Entry], fetch: Fetch | None = None
) -> Execution:
    """The execution as far as the log goes. Differs at the first fact from which something else follows than stands
    there. `fetch` gives what a reference leads to; without it results by reference are null, which changes no decision,
    for routing never fetches."""
    return _Follower(playbook, workload, log, fetch).run()


class _Follower:
    def __init__(
        self, playbook: Playbook, workload: Mapping[str, Any], log: Sequence[Entry], fetch: Fetch | None
    ) -> None:
        self._playbook = playbook
        self._execution = Execution(playbook, workload, runs=self._is_out, progress=self._progress)
        self._fetch = fetch
        self._facts = sorted((entry for entry in log if entry.cause is None), key=lambda entry: entry.seq)
        self._decisions: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in sorted(log, key=lambda entry: entry.seq):
            if entry.cause is not None:
                self._decisions[entry.cause].append(entry)
        self._kinds: dict[str, str] = {}
        # of each step that is under way: its commands that are out, and those that wait for a timer or a child
        self._out: Counter[Key] = Counter()
        # the latter alone
        self._suspended: Counter[Key] = Counter()
        self._loops: dict[Key, _Loop] = {}
        # of each loop that is under way: key of ctx -> the last item that has set it
        self._writers: defaultdict[Key, dict[str, int]] = defaultdict(dict)
        # what waits for a time or a signal, in the order in which it began, and signals that nothing has waited for
        self._waits: dict[str, _Wait] = {}
        self._signals: list[tuple[str, Any, Any]] = []
        self._waits_ended: list[str] = []
        # since when time stands still, if it is paused
        self._paused_at: int | None = None
        self._seen: set[Key] = set()
        # the step that is one too many
        self._budget_of: str | None = None
        self._issued = 0

    def run(self) -> Execution:
        for fact in self._facts:
            decided = self._decisions[fact.seq]
            if "ignored" in fact.payload or self._execution.status != "running":
                if decided:
                    raise Differs(f"{_at(fact)} changes nothing, and {_names(decided)} follows")
                continue
            skipped, was_undoing = len(self._execution.skipped), self._execution.is_undoing
            self._waits_ended = []
            self._expire(fact)
            begun = self._take(fact)
            self._compare_waits(fact, decided)
            if not was_undoing and self._over_budget(fact, decided, begun):
                begun = self._execution.fail({"code": "budget.exceeded", "step": self._budget_of})
                if self._execution.status == "failed":
                    break
            self._compare_end(fact, decided)
            if self._execution.status == "failed":
                continue
            if self._execution.is_undoing and not was_undoing:
                self._stop_others()
            self._compare_undoing(fact, decided, was_undoing)
            self._compare_begun(fact, decided, begun)
            if was_undoing or not self._execution.is_undoing:
                self._compare_skipped(fact, decided, self._execution.skipped[skipped:])
        return self._execution

    # -- what happened

    def _take(self, fact: Entry) -> list[Begun]:
        if fact.type == "playbook.initialized":
            return [] if "restart" in fact.payload else self._execution.start()
        if fact.type == "step.reused":
            self._reuse(fact)
            return []
        if fact.type == "loop.reused":
            self._loops[fact.step or "", fact.generation or 0] = _Loop(fact.payload["count"])
            return []
        if fact.type == "frame.reused":
            self._frame(self._loops[fact.step or "", fact.generation or 0], fact)
            return []
        if fact.type == "execution.restarted":
            payload = fact.payload
            refs = {name: self._read(ref) for name, ref in (payload.get("ctx_refs") or NOTHING).items()}
            ctx = {**payload["ctx"], **refs}
            done = [self._noted(run) for run in payload.get("compensable") or ()]
            for name, variable in (payload.get("variables") or NOTHING).items():
                self._set_variables({name: variable["value"]}, variable["expires_at"], fact.at)
            return self._execution.go_on(payload["begins"], payload["waiting"], ctx, payload.get("last"), done)
        if "quarantined" in fact.payload or fact.type == "execution.retried":
            raise Unclear("it could not be decided")
        if fact.type == "execution.cancelled":
            self._execution.cancel()
            return []
        if fact.type == "timer.fired" and fact.payload["timer"] == "deadline":
            if any(entry.type == "step.stopped" for entry in self._decisions[fact.seq]):
                raise Unclear("what sub-playbooks have done that stop with the execution")
            return [] if self._execution.is_undoing else self._execution.time_out()
        if fact.type == "parent.failed":
            return [] if self._execution.is_undoing else self._execution.fail({"code": "execution.parent_failed"})
        if fact.type in ("execution.paused", "execution.resumed"):
            self._stand_still(fact)
            return []
        if fact.type == "variables.set":
            self._set_variables(fact.payload["variables"], fact.payload.get("expires_at"), fact.at)
            return []
        if fact.type == "variables.deleted":
            for name in fact.payload["names"]:
                self._execution.variables.pop(name, None)
                self._execution.expiries.pop(name, None)
            return []
        if fact.type == "signal.received":
            self._signals.append((fact.payload["signal"], fact.payload.get("data"), fact.payload.get("by")))
            return self._meet(fact.payload["signal"])
        assert fact.step is not None
        assert fact.generation is not None
        key = (fact.step, fact.generation)
        if key not in self._execution.running:
            raise Differs(f"{_at(fact)}: the step is not under way")
        if fact.type == "timer.fired" and fact.payload["timer"] in self._waits:
            return self._wait_is_over(fact.payload["timer"])
        if fact.type == "timer.fired" and fact.payload["timer"].endswith("!deadline"):
            return self._step_timed_out(fact, key)
        return self._happened(fact, key)

    def _set_variables(self, values: Mapping[str, Any], expires_at: int | None, at: int) -> None:
        self._execution.write({f"vars.{name}": value for name, value in values.items()})
        if expires_at is not None:
            # of one that is set while time stands still, what is left begins when it goes on
            since = at if self._paused_at is None else self._paused_at
            self._execution.expiries |= dict.fromkeys(values, expires_at - (at - since))

    def _expire(self, fact: Entry) -> None:
        if self._paused_at is not None:
            return
        for name in [name for name, expires_at in self._execution.expiries.items() if fact.at >= expires_at]:
            del self._execution.expiries[name]
            del self._execution.variables[name]

    def _stand_still(self, fact: Entry) -> None:
        if fact.type == "execution.paused":
            self._paused_at = fact.at
        elif self._paused_at is not None:
            passed, self._paused_at = fact.at - self._paused_at, None
            self._execution.expiries = {name: at + passed for name, at in self._execution.expiries.items()}

    def _reuse(self, fact: Entry) -> None:
        step = fact.step or ""
        self._execution.reuse(step, fact.generation, self._taken_over(step, fact.payload["outcome"]))

    def _noted(self, run: Mapping[str, Any]) -> tuple[str, Outcome]:
        step: str = run["step"]
        if "outcome" not in run:
            return step, self._execution.outcomes[step]
        return step, self._taken_over(step, run["outcome"])

    def _taken_over(self, step: str, outcome: Mapping[str, Any]) -> Outcome:
        ref = outcome.get("ref")
        is_loop = self._playbook.steps[step].loop is not None
        return Outcome(
            outcome["status"],
            self._read(ref) if ref else outcome.get("data"),
            outcome.get("error"),
            extracted=_extracted(ref),
            of_loop=is_loop and outcome["status"] != "skipped",
        )

    def _step_timed_out(self, fact: Entry, key: Key) -> list[Begun]:
        if not self._playbook.steps[key[0]].is_timed:
            raise Differs(f"{_at(fact)}: the step may take as long as it likes")
        # what is out of it comes too late
        del self._out[key]
        self._waits = {name: wait for name, wait in self._waits.items() if wait.key != key}
        return self._execution.time_out_step(*key, self._items(key) if key in self._loops else None)

    def _happened(self, fact: Entry, key: Key) -> list[Begun]:
        match fact.type:
            case "call.done" if self._kinds[fact.command_id or ""] == "open":
                self._out[key] -= 1
                self._loops[key] = _Loop(fact.payload["count"])
                return self._loop_goes_on(fact, key)
            case "call.done":
                return self._execution.end_step(*key, self._outcome(fact, "ok"))
            case "call.error":
                return self._execution.end_step(*key, self._outcome(fact, "error"))
            case "frame.committed":
                self._out[key] -= 1
                self._frame(self._loops[key], fact)
                self._write(fact, key)
                return self._loop_goes_on(fact, key)
            case "child.ended" if not fact.payload["resumes"]:
                return self._execution.end_step(*key, self._outcome(fact, fact.payload["status"]))
            case "call.deferred" | "call.parked" if self._is_stopping(key):
                self._write(fact, key)
                self._out[key] -= 1
                return self._execution.stop_step(*key, self._progress(key)) if not self._out[key] else []
            case "call.deferred" | "call.parked":
                # a sub-playbook goes on as what a worker has does
                self._suspended[key] += "child" not in fact.payload
                self._write(fact, key)
                if "wait" in fact.payload:
                    return self._wait(fact, key)
        return []

    def _wait(self, fact: Entry, key: Key) -> list[Begun]:
        name, wanted = f"{fact.command_id}!{fact.seq}", fact.payload["wait"]
        step = self._playbook.steps[key[0]]
        is_alone = step.loop is None and not step.is_pipeline and not any(task.rules for task in step.tasks)
        started = next((entry for entry in self._decisions[fact.seq] if entry.type == "wait.started"), None)
        if started is None:
            raise Differs(f"{_at(fact)}: no wait begins")
        if not is_alone and not started.payload["resumes"]:
            raise Differs(f"{_at(fact)}: more of the step is to be done, which the wait does not resume")
        signal = wanted.get("signal")
        self._waits[name] = _Wait(key, signal, bool(wanted.get("approval")), started.payload["resumes"])
        if signal is None and (wanted.get("delay") == 0 or wanted.get("due", fact.at + 1) <= fact.at):
            return self._wait_is_over(name)
        return [] if signal is None else self._meet(signal)

    def _meet(self, signal: str) -> list[Begun]:
        """The first wait for the name and the first signal of it that fits, if there are such: of an approval a
        decision."""
        waits = [(name, wait) for name, wait in self._waits.items() if wait.signal == signal]
        sent = [one for one in self._signals if one[0] == signal]
        fitting = ((name, one) for name, wait in waits for one in sent if not wait.is_approval or _decides(one[1]))
        name, kept = next(fitting, ("", None))
        if kept is None:
            return []
        self._signals.remove(kept)
        _, data, by = kept
        wait = self._waits[name]
        if wait.is_approval and by is not None:
            data = {**data, "by": by}
        refused = wait.is_approval and not data["approved"]
        error = {"code": "wait.rejected"} if refused else None
        return self._end_wait(name, Outcome("error" if refused else "ok", data, error))

    def _wait_is_over(self, name: str) -> list[Begun]:
        if self._waits[name].signal is None:
            return self._end_wait(name, Outcome("ok"))
        return self._end_wait(name, Outcome("error", error={"code": "wait.timeout"}))

    def _end_wait(self, name: str, outcome: Outcome) -> list[Begun]:
        wait = self._waits.pop(name)
        self._waits_ended.append(name)
        return [] if wait.resumes else self._execution.end_step(*wait.key, outcome)

    def _compare_waits(self, fact: Entry, decided: list[Entry]) -> None:
        theirs = [entry.payload["wait"] for entry in decided if entry.type == "wait.ended"]
        if theirs != self._waits_ended:
            raise Differs(f"{_at(fact)}: the waits {theirs} end, and {self._waits_ended} should")

    def _write(self, fact: Entry, key: Key) -> None:
        """Of the items of a parallel loop the highest wins, whatever order they are reported in."""
        items: Mapping[str, int] = fact.payload.get("set_by") or {}
        values, writers = self._set(fact.payload), self._writers[key]
        loop = self._playbook.steps[key[0]].loop
        if not items or loop is None or loop.sequential:
            # whatever was written before
            return self._execution.write(values)
        last = {name: value for name, value in values.items() if items.get(name, 0) >= writers.get(name, 0)}
        writers |= {name: items[name] for name in last if name in items}
        self._execution.write(last)

    def _outcome(self, fact: Entry, status: Any) -> Outcome:
        payload = fact.payload
        ref = payload.get("ref")
        return Outcome(
            status,
            self._read(ref) if ref else payload.get("data"),
            payload.get("error"),
            self._set(payload),
            {**(payload.get("extra") or {}), "meta": payload.get("meta")},
            _extracted(ref),
        )

    def _set(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        refs = payload.get("set_refs") or NOTHING
        return {**(payload.get("set") or NOTHING), **{name: self._read(ref) for name, ref in refs.items()}}

    def _read(self, ref: Mapping[str, Any]) -> Any:
        return None if self._fetch is None else self._fetch(ref)

    def _frame(self, loop: _Loop, fact: Entry) -> None:
        payload = fact.payload
        ref = payload.get("ref")
        results = self._read(ref) if ref else payload["data"]
        if results is None:
            results = [None] * (payload["end"] - payload["start"])
        loop.results |= dict(enumerate(results, payload["start"]))
        loop.done += payload["end"] - payload["start"]
        loop.failed += payload["failed"]
        loop.frames += 1
        if payload.get("drained"):
            loop.drained += 1
        elif payload["start"] < payload["end"]:
            loop.drained = max(0, loop.drained - 1)
        if payload["end"] == payload["start"]:
            loop.unclaimed = loop.unclaimed or payload.get("error")
        loop.error = loop.error or payload.get("error") or next(iter((payload.get("errors") or {}).values()), None)

    def _loop_goes_on(self, fact: Entry, key: Key) -> list[Begun]:
        loop, of = self._loops[key], self._playbook.steps[key[0]].loop
        assert of is not None
        if self._is_stopping(key):
            return [] if self._out[key] else self._execution.stop_step(*key, self._progress(key))
        stops = loop.failed > 0 and not of.best_effort
        if of.items is None:
            is_over = loop.drained >= loop.slots or loop.frames >= of.max_claims
            if self._out[key] or not (stops or loop.unclaimed or is_over):
                return []
            if loop.unclaimed and loop.failed:
                raise Unclear("of a claim and a row that fail, either may be the reason")
            loop.count = loop.done
        elif not (self._out[key] == 0 if stops else loop.done == loop.count):
            return []
        done = next((entry for entry in self._decisions[fact.seq] if entry.type == "loop.done"), None)
        large = done is not None and "ref" in done.payload
        return self._execution.end_loop(*key, self._items(key, large))

    def _items(self, key: Key, large: bool = False) -> Items:
        loop = self._loops[key]
        assert loop.count is not None
        results = [loop.results[index] for index in sorted(loop.results)]
        of = self._playbook.steps[key[0]].loop
        assert of is not None
        is_drained = loop.drained > 0 or of.items is not None
        succeeded = loop.done - loop.failed
        return Items(loop.count, results, succeeded, loop.failed, loop.error, large, loop.unclaimed, is_drained)

    # -- what is undone before it fails

    def _is_out(self, key: Key) -> bool:
        """Whether a worker, or a sub-playbook, has something of a step that is under way."""
        opens = self._playbook.steps[key[0]].loop is not None and key not in self._loops
        return not opens and self._out[key] > self._suspended[key]

    def _is_stopping(self, key: Key) -> bool:
        return self._execution.is_undoing and self._playbook.steps[key[0]].undoes is None

    def _progress(self, key: Key) -> Items | None:
        loop = self._loops.get(key)
        if loop is None:
            return None
        if loop.count is None:
            loop.count = loop.done
        return self._items(key)

    def _stop_others(self) -> None:
        """Nothing waits any more, and of what is under way only what workers and sub-playbooks have."""
        self._waits.clear()
        for key in list(self._out):
            self._out[key] -= self._suspended[key]
        self._suspended.clear()

    def _compare_undoing(self, fact: Entry, decided: list[Entry], was_undoing: bool) -> None:
        started = [entry for entry in decided if entry.type == "compensation.started"]
        if len(started) != (self._execution.is_undoing and not was_undoing):
            raise Differs(f"{_at(fact)}: {_names(decided)}; what has been done is undone: {self._execution.is_undoing}")

    # -- what was decided

    def _over_budget(self, fact: Entry, decided: list[Entry], begun: list[Begun]) -> bool:
        issued = sum(entry.type == "command.issued" and not self._is_undo(entry) for entry in decided)
        limit = self._playbook.budget.get("max_invocations")
        if limit is not None and self._issued + issued > limit:
            raise Differs(f"{_at(fact)}: {self._issued + issued} commands, {limit} are allowed")
        end = next((entry for entry in decided if entry.type in ("playbook.failed", "compensation.started")), None)
        if end is None or end.payload["error"].get("code") != "budget.exceeded":
            return False
        if not self._playbook.budget:
            raise Differs(f"{_at(fact)}: over a budget that there is not")
        others = self._playbook.budget.keys() - {"max_invocations", "prices"}
        if not others and self._issued + issued < (limit or 0):
            raise Differs(f"{_at(fact)}: over budget after {self._issued + issued} commands, {limit} are allowed")
        wanted = begun or fact.type in ("frame.committed", "timer.fired", "child.ended", "call.done")
        if not wanted:
            raise Differs(f"{_at(fact)}: over budget, and nothing was to be issued")
        issued_now = {(entry.step, entry.generation) for entry in decided if entry.type == "command.issued"}
        for one in begun:
            if one.key in issued_now and one.step.compensation is not None:
                raise Unclear("what begins before the budget is spent")
            self._execution.withdraw(*one.key)
        self._budget_of = end.payload["error"].get("step")
        return True

    def _is_undo(self, entry: Entry) -> bool:
        step = self._playbook.steps.get(entry.step or "")
        return step is not None and step.undoes is not None

    def _compare_end(self, fact: Entry, decided: list[Entry]) -> None:
        execution = self._execution
        end = next((entry for entry in decided if entry.type in ENDS), None)
        status = ENDS[end.type] if end else "running"
        ours = "running" if execution.status == "cancelled" else execution.status
        if status != ours:
            why = f" ({execution.error})" if execution.error else ""
            raise Differs(f"{_at(fact)}: it is {status}, and should be {ours}{why}; decided: {_names(decided)}")
        if end is None:
            return
        if execution.status == "failed":
            theirs = {name: end.payload["error"].get(name) for name in COMPARED_FIELDS}
            expected = {name: (execution.error or {}).get(name) for name in COMPARED_FIELDS}
            theirs["compensation"] = _compensation(end.payload["error"])
            expected["compensation"] = _compensation(execution.error or NOTHING)
            if theirs != expected:
                raise Differs(f"{_at(fact)}: it fails with {theirs}, and should with {expected}")
        elif end.payload.get("result_step") != execution.last:
            step = end.payload.get("result_step")
            raise Differs(f"{_at(fact)}: the result is that of {step}, and should be that of {execution.last}")

    def _compare_begun(self, fact: Entry, decided: list[Entry], begun: list[Begun]) -> None:
        ours = {one.key: one for one in begun}
        theirs: list[Key] = []
        for entry in decided:
            key = (entry.step or "", entry.generation or 0)
            if entry.type == "loop.opened" and (entry.payload["count"] or entry.payload["mode"] == "cursor"):
                self._loops.setdefault(key, _Loop(entry.payload["count"] or None, entry.payload["max_in_flight"]))
            if entry.type != "command.issued":
                continue
            self._issued += not self._is_undo(entry)
            self._kinds[entry.command_id or ""] = entry.payload["kind"]
            if key not in self._seen:
                self._seen.add(key)
                theirs.append(key)
                if key in ours:
                    self._compare_scope(fact, entry, ours[key])
            elif key not in self._execution.running:
                raise Differs(f"{_at(fact)}: {entry.command_id} is issued of a step that is not under way")
            if entry.payload["attempt"] == 1:
                self._out[key] += 1
            elif "child" not in entry.payload:
                self._suspended[key] -= 1
        if sorted(theirs) != sorted(ours):
            raise Differs(f"{_at(fact)}: {_keys(theirs)} begins, and {_keys(ours)} should")
        for one in begun:
            loop = self._loops.get(one.key)
            if loop is not None and one.items is not None and loop.count != len(one.items):
                raise Differs(f"{_at(fact)}: {_keys([one.key])} has {loop.count} items, and should {len(one.items)}")

    def _compare_scope(self, fact: Entry, issued: Entry, begun: Begun) -> None:
        scope, ctx = issued.payload.get("scope") or {}, begun.scope.ctx
        for name, value in (scope.get("ctx") or {}).items():
            if name not in ctx or ctx[name] != value:
                raise Differs(f"{_at(fact)}: {issued.command_id} sees ctx.{name} = {value}, not {ctx.get(name)}")
        variables = begun.scope.variables
        for name, value in (scope.get("vars") or {}).items():
            if name not in variables or variables[name] != value:
                seen = f"vars.{name} = {value}, not {variables.get(name)}"
                raise Differs(f"{_at(fact)}: {issued.command_id} sees {seen}")
        if issued.payload["kind"] != "step":
            return
        self._compare_limits(fact, issued, begun)
        ours = {name: outcome.status for name, outcome in begun.scope.outcomes.items()}
        theirs = {name: outcome["status"] for name, outcome in scope["steps"].items()}
        for name in theirs.keys() | (begun.step.reads & ours.keys()):
            if theirs.get(name) != ours.get(name):
                sees = f"sees {name} as {theirs.get(name)}, not as {ours.get(name)}"
                raise Differs(f"{_at(fact)}: {issued.command_id} {sees}")

    def _compare_limits(self, fact: Entry, issued: Entry, begun: Begun) -> None:
        limits = issued.payload.get("limits") or {}
        theirs = {name: (given["key"], given["limit"]) for name, given in limits.items() if name != "execution"}
        ours = {name: (key or theirs.get(name, ("",))[0], limit) for name, (key, limit) in begun.limits.items()}
        if theirs != ours:
            raise Differs(f"{_at(fact)}: {issued.command_id} is limited by {theirs}, and should by {ours}")

    def _compare_skipped(self, fact: Entry, decided: list[Entry], ours: list[str]) -> None:
        theirs = {str(entry.step) for entry in decided if entry.type == "step.skipped"}
        if theirs != set(ours):
            raise Differs(f"{_at(fact)}: {sorted(theirs)} are skipped, and {sorted(ours)} should be")


def _compensation(error: Mapping[str, Any]) -> Any:
    """What was undone, in order, and what was not, and why."""
    found = error.get("compensation")
    return found and {**found, "failed": [(entry["step"], entry.get("code")) for entry in found["failed"]]}


def _at(fact: Entry) -> str:
    return f"seq {fact.seq} {fact.type} {fact.command_id or fact.step or ''}".strip()


def _names(entries: Sequence[Entry]) -> str:
    return ", ".join(f"{entry.type} {entry.command_id or entry.step or ''}".strip() for entry in entries) or "nothing"


def _keys(keys: Any) -> str:
    return ", ".join(f"{step}#{generation}" for step, generation in sorted(keys)) or "nothing"


def _decides(data: Any) -> bool:
    if not isinstance(data, Mapping) or not {"approved"} <= set(data) <= {"approved", "comment"}:
        return False
    comment = data.get("comment") or ""
    return data["approved"] in (True, False) and type(data["approved"]) is bool and type(comment) is str


def _extracted(ref: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What is read of a reference without fetching it; of a list that was accumulated, its length."""
    if not ref:
        return None
    counts = {
        name: kept["count"] for name, kept in (ref.get("collected") or {}).items() if kept.get("count") is not None
    }
    return {**(ref.get("extracted") or {}), **{name: Counted(count) for name, count in counts.items()}}
