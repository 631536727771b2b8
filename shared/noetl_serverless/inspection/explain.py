"""Why a step waits, was skipped, was retried, failed or ran: the chain of events and conditions behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.joins import blockers
from ..engine.replay import fold, logical_order
from ..engine.state import State, Token, Wait, split_token_key, token_key
from ..playbook.awaited import awaited_of
from ..playbook.callbacks import steps_that_wait
from ..playbook.plan import Arc, Plan
from .condition_trace import EvaluatedCondition, trace_conditions
from .event_text import code_line, error_text, event_texts, pause_text
from .failed_items import MAX_ITEMS, FailedItems
from .quarantine_periods import EffectiveTimes, QuarantinePeriod
from .runs import run_of
from .signal_senders import senders
from .trace import StepRun, Trace, trace

Json = dict[str, Any]


def explain(
    execution_id: str,
    events: Sequence[Event],
    plan: Plan,
    workload: Mapping[str, Any] | None = None,
    step: str | None = None,
) -> Json:
    """Explain one step, or all steps more briefly; raises KeyError for a step that the playbook does not have.

    {execution_id, restarted_from, status, paused, kept_signals: [{signal, count, advice}], error, warnings,
    quarantined, dropped, retried: [{since, until}], waits: [{for, step, ...}], steps: [{step, generation, status,
    why, pool, called, frame_rows, stored, unmatched, failed_items, chain}]}, where a chain is a list of {seq, at,
    event, step, text, asked: [conditions]}, with the fields that `event_text.event_texts` adds. `pool` is what the
    playbook names, if it does. `called`, of a step that calls tools of the catalog, is [{task, path, version}].
    `frame_rows`, of a loop with `process: frame`, says how many rows each of its items is at most. `stored` is the
    reference of a result that is stored by reference, `unmatched` lists what `output.select` names and is not in it,
    as [{path, as}]. `item_results`, of a loop that has ended well, is the length of the list that is its result.
    `paused` is {since, reason?, by?} of an execution that is paused. A wait that a timer ends has `due`, or `left_ms`
    while its time stands still. One step comes with its compensation, if that ran.
    `failed_items`, for a loop with failed items, is {count, first: [{index, error, attempts}], unnamed: [{start, end,
    failed}]}; for one step it has all that the log names. `quarantined` is {type, step, generation, command, at} of the
    fact that could not be decided, `dropped` is {at, by} of an execution that was dropped from quarantine, and
    `retried` lists the periods in quarantine that ended with a retry. `at` in a chain is when the event took effect:
    later than it came, if it was kept in quarantine.
    """
    if step is not None and step not in plan.steps:
        raise KeyError(step)
    conditions = trace_conditions(execution_id, events, plan, workload)
    state = fold(execution_id, events, workload)
    return _Explainer(plan, logical_order(events), conditions, state).document(execution_id, step)


def _reference(run_events: Sequence[Event]) -> Json | None:
    """That of the run's result, if it is stored by reference; not that of a loop's, nor of its collection."""
    opening = {event.command_id for event in run_events if event.type == e.ISSUED and event.payload["kind"] == "open"}
    ends = (
        event
        for event in reversed(run_events)
        if event.type in (e.CALL_DONE, e.CALL_ERROR) and event.command_id not in opening
    )
    ref = next((event.payload.get("ref") for event in ends if e.IGNORED not in event.payload), None)
    return ref if isinstance(ref, dict) and "key" in ref else None


def _items(run_events: Sequence[Event]) -> int | None:
    """How many results there are of a loop that has ended well."""
    ends = (event.payload for event in reversed(run_events) if event.type == e.LOOP_DONE)
    payload = next(ends, {})
    return (payload.get("stats") or {}).get("total") if payload.get("status") == "ok" else None


class _Explainer:
    def __init__(self, plan: Plan, log: list[Event], conditions: list[EvaluatedCondition], state: State) -> None:
        self.plan, self.log, self.state = plan, log, state
        self.trace: Trace = trace(log)
        self.effects = EffectiveTimes(log)
        if self.trace.dropped is not None:
            # the state keeps what would continue after a retry, which is not possible any more
            for container in (state.tokens, state.waiting):
                container.clear()
        self.conditions: dict[tuple[int, str], list[EvaluatedCondition]] = {}
        for condition in conditions:
            self.conditions.setdefault((condition.seq, condition.step), []).append(condition)
        self.by_seq = {event.seq: event for event in log}
        self.senders = senders(log)
        # of the timers that pauses have moved
        self.later_due: dict[str, int] = {}
        for event in log:
            if event.type == e.RESUMED:
                self.later_due |= event.payload.get("timers", {})
        # run -> its events
        self.events_by_run: dict[str, list[Event]] = {}
        for event in log:
            if event.step is not None and event.generation is not None:
                self.events_by_run.setdefault(token_key(event.step, event.generation), []).append(event)
        # run -> the event that has its route
        self.routes: dict[str, Event] = {}
        for event in log:
            for route in event.payload.get("routes", ()):
                self.routes.setdefault(token_key(route["step"], route["generation"]), event)

    def document(self, execution_id: str, step: str | None) -> Json:
        steps = list(self.plan.steps) if step is None else self._with_compensation(step)
        runs = [run for name in steps for run in self.trace.runs.values() if run.step == name]
        found = [self._run(run, whole=step is not None) for run in runs]
        ran = {run.step for run in self.trace.runs.values()}
        found += [self._not_run(name) for name in steps if name not in ran and name in self.plan.workflow]
        return {
            "execution_id": execution_id,
            "restarted_from": self.state.restart_of,
            "status": self.trace.status,
            "paused": self.trace.paused,
            "kept_signals": self._kept_signals(),
            "error": self.trace.error,
            "warnings": self.trace.warnings,
            "quarantined": self._quarantined(),
            "dropped": self.trace.dropped,
            "retried": [{"since": s.since, "until": s.until} for s in self.effects.periods if s.ended_by == e.RETRIED],
            "waits": [wait for wait in self._waits() if wait["step"] in steps],
            "steps": found,
        }

    def _with_compensation(self, step: str) -> list[str]:
        compensation = self.plan.steps[step].compensation
        return [step] if compensation is None else [step, compensation]

    def _quarantined(self) -> Json | None:
        fact = self.trace.quarantined
        return None if fact is None else {name: value for name, value in fact.items() if name != "payload"}

    # -- a run of a step

    def _run(self, run: StepRun, *, whole: bool) -> Json:
        key = token_key(run.step, run.generation)
        run_events = self.events_by_run.get(key, [])
        chain = self._causes(run)
        chain += [self._with_sender(entry) for entry in event_texts(run_events, self.effects)]
        chain += [
            entry
            for period in self.effects.periods
            if self._was_under_way(key, run_events, period.seq)
            for entry in _period_entries(period)
        ]
        chain += [
            {"seq": event.seq, "at": self.effects.at(event), "event": event.type, "step": None, "text": text}
            for event in self.log
            if (text := pause_text(event)) is not None and self._was_under_way(key, run_events, event.seq)
        ]
        decided = [event for event in run_events if event.type not in (e.LOOP_REUSED, e.FRAME_REUSED)]
        first = min((event.cause or event.seq for event in decided), default=0)
        admission = [
            condition for condition in self.conditions.get((first, run.step), ()) if condition.about == "admission"
        ]
        if admission:
            chain.append(self._conditions_entry(first, run.step, "evaluates its admission rules", admission))
        if (exit_entry := self._exit(key, run, run_events)) is not None:
            chain.append(exit_entry)
        status, why = self._verdict(run, run_events)
        document: Json = {"step": run.step, "generation": run.generation, "status": status, "why": why}
        if (pool := self._pool(run.step)) is not None:
            document["pool"] = pool
        if called := self._called(run.step):
            document["called"] = called
        if (rows := self._frame_rows(run.step)) is not None:
            document["frame_rows"] = rows
        if (reference := _reference(run_events)) is not None:
            document["stored"] = reference
            if unmatched := self._unmatched(run.step, reference):
                document["unmatched"] = unmatched
        if (count := _items(run_events)) is not None:
            document["item_results"] = count
        failed = FailedItems(None if whole else MAX_ITEMS)
        for event in run_events:
            if event.type == e.FRAME_COMMITTED:
                failed.add(event.payload)
        if failed.count:
            document["failed_items"] = {"count": failed.count, "first": failed.named, "unnamed": failed.unnamed}
        return {**document, "chain": _sorted(chain)}

    def _with_sender(self, entry: Json) -> Json:
        sender = self.senders.get(entry["seq"])
        return entry if sender is None else {**entry, "text": f"{entry['text']}; sent by {sender}"}

    def _pool(self, step: str | None) -> str | None:
        """The pool that the playbook names for the step."""
        found = self.plan.steps.get(step or "")
        return None if found is None else found.pool

    def _called(self, step: str) -> list[Json]:
        """The tools of the catalog that its tasks call, in the versions that the playbook was registered with."""
        known = self.plan.steps.get(step)
        return [
            {"task": task.name, "path": task.interface.path, "version": task.interface.version}
            for task in (known.tasks if known is not None else ())
            if task.interface is not None
        ]

    def _frame_rows(self, step: str) -> int | None:
        """How many rows an item is at most, of a loop over a cursor with `process: frame`."""
        known = self.plan.steps.get(step)
        cursor = known.loop.cursor if known is not None and known.loop is not None else None
        return cursor.max_rows if cursor is not None and not cursor.by_row else None

    def _unmatched(self, step: str, reference: Mapping[str, Any]) -> list[Json]:
        """What `output.select` of its tasks names, and its result does not have."""
        known = self.plan.steps.get(step)
        tasks = known.tasks if known is not None else ()
        chosen = [item for task in tasks for item in task.output.get("select") or ()]
        there = reference.get("extracted") or {}
        return [{"path": str(item["path"]), "as": str(item["as"])} for item in chosen if item["as"] not in there]

    def _was_under_way(self, key: str, run_events: Sequence[Event], seq: int) -> bool:
        """Whether a run was under way at an event of the whole execution: a pause, or the begin of a quarantine."""
        began = min((event.cause or event.seq for event in run_events), default=seq)
        routed_by = self.routes.get(key)
        return began < seq and (routed_by is None or (routed_by.cause or routed_by.seq) > seq)

    def _causes(self, run: StepRun) -> list[Json]:
        """The ends of the runs that led to it, with the conditions of the arcs that were taken."""
        if run.reused is not None:
            return []
        if not run.after:
            return [
                {"seq": 1, "at": self.log[0].at, "event": e.STARTED, "step": None, "text": "the playbook starts here"}
            ]
        found = []
        for source in run.after:
            event = self.routes.get(source)
            if event is None and self.trace.runs[source].reused is not None:
                found += event_texts(self.events_by_run[source], self.effects)
            if event is not None:
                name = split_token_key(source)[0]
                conditions = [item for item in self._arcs(event, name) if item.target == run.step]
                end = self._end_of(source, event)
                found.append(self._conditions_entry(end, name, f"{source} leads to {run.step}", conditions))
        return found

    def _end_of(self, key: str, event: Event) -> int:
        """The seq of the end of a run whose route `event` has: the fact, or what the engine decided of it first."""
        cause = event.cause or event.seq
        ends = [one.seq for one in self.events_by_run.get(key, ()) if one.type in ENDINGS and one.cause == cause]
        return ends[-1] if ends else cause

    def _exit(self, key: str, run: StepRun, run_events: Sequence[Event]) -> Json | None:
        event = self.routes.get(key)
        if event is None:
            # its arcs were evaluated, and a condition failed
            for end in reversed(run_events):
                if conditions := self._arcs(end, run.step):
                    return self._conditions_entry(
                        end.cause or end.seq, run.step, f"the arcs of {key} could not be evaluated", conditions
                    )
            return None
        targets = ", ".join(run.arcs) or "no other step"
        return self._conditions_entry(
            self._end_of(key, event), run.step, f"{key} leads to {targets}", self._arcs(event, run.step)
        )

    def _arcs(self, event: Event, step: str) -> list[EvaluatedCondition]:
        return [
            condition
            for condition in self.conditions.get((event.cause or event.seq, step), ())
            if condition.about == "arc"
        ]

    def _conditions_entry(self, seq: int, step: str, text: str, conditions: list[EvaluatedCondition]) -> Json:
        fact = self.by_seq[seq]
        entry: Json = {"seq": seq, "at": self.effects.at(fact), "event": fact.type, "step": step, "text": text}
        documents = [condition.document() for condition in conditions if condition.when is not None]
        return {**entry, "asked": documents} if documents else entry

    def _verdict(self, run: StepRun, run_events: Sequence[Event]) -> tuple[str, str]:
        if run.reused is not None:
            outcome = self.state.outcomes.get(run.step, {}) if run.generation == self._latest(run.step) else {}
            status = {"ok": "ok", "skipped": "skipped"}.get(outcome.get("status", "ok"), "failed")
            return status, f"execution {run.reused['execution_id']} has done it, and its result is reused"
        if run.skipped:
            return "skipped", "its admission rules rejected it"
        token = self.state.tokens.get(token_key(run.step, run.generation))
        if token is not None and self.trace.quarantined is not None:
            return "stopped", QUARANTINE
        if token is not None:
            of_run = (run.step, run.generation)
            waits = [wait for wait in self._waits() if (wait["step"], wait.get("generation")) == of_run]
            return self._status(token, waits), "; ".join(wait["text"] for wait in waits) or "it is in progress"
        last = next((event for event in reversed(run_events) if event.type in ENDINGS), None)
        if last is None:
            return "stopped", self._why_stopped()
        routed = token_key(run.step, run.generation) in self.routes
        if not routed and self.trace.error is not None and self.trace.error.get("step") == run.step:
            return "failed", error_text(self.trace.error)
        if _continued(run, run_events, last):
            return "stopped", self._why_stopped()
        error = last.payload.get("error")
        tries = last.payload.get("meta", {}).get("attempt", 1)
        attempts = f", after {tries} attempts" if isinstance(tries, int) and tries > 1 else ""
        if last.type == e.LOOP_DONE:
            attempts = self._failed_attempts(run_events)
        if isinstance(error, Mapping) and (last.type in FAILING or last.payload.get("status") == "error"):
            return "failed", error_text(error) + code_line(last.payload) + attempts
        return "ok", f"it completed{attempts}"

    def _why_stopped(self) -> str:
        if self.state.compensating is not None:
            return "the execution is to fail, and undoes what it has done"
        return f"the execution ended ({self.trace.status}) before it did"

    def _status(self, token: Token, waits: Sequence[Json]) -> str:
        """As it is called everywhere; whether a worker has leased what is queued, the log does not say."""
        places = {WAITING_STATUS.get(wait["for"]) for wait in waits}
        if None in places or not places:
            return token.status
        if "delayed" in places:
            return "delayed" if self.trace.paused is None else "paused"
        return "parked"

    def _latest(self, step: str) -> int:
        return self.state.generations.get(step, 0)

    def _failed_attempts(self, run_events: Sequence[Event]) -> str:
        """A phrase about the failed attempts of a loop's items."""
        frames = [event for event in run_events if event.type == e.FRAME_COMMITTED]
        failed = sum(run_of(event.payload.get("meta"), event.at, None).failed for event in frames)
        return f"; failed attempts of its items: {failed}" if failed else ""

    # -- a step that has not run

    def _not_run(self, step: str) -> Json:
        if step in self.state.waiting:
            others = ", ".join(sorted(blockers(self.plan, self.state, step)))
            status, why = "waiting", f"it waits at its join for {others}, which can still reach it"
            if self.trace.quarantined is not None:
                status, why = "stopped", f"it was waiting at its join for {others}; {QUARANTINE}"
            return {"step": step, "generation": None, "status": status, "why": why, "chain": self._arrivals(step)}
        error = self.trace.error or {}
        arrivals = self._arrivals(step)
        if error.get("step") == step and (arrivals or step == self.plan.entry):
            why = f"it could not start: {error_text(error)}"
            return {"step": step, "generation": None, "status": "failed", "why": why, "chain": arrivals}
        skips = (e.STEP_SKIPPED, e.REUSED)
        skipped = next((event for event in self.log if event.type in skips and event.step == step), None)
        chain = self._untaken_arcs(step)
        if skipped is not None:
            chain += event_texts([skipped], self.effects)
            why = "no step has led to it, and no step in progress can reach it any more"
            return {"step": step, "generation": None, "status": "skipped", "why": why, "chain": _sorted(chain)}
        if arrivals and (self.trace.status != "running" or self.state.compensating is not None):
            when = "began to undo what it has done" if self.state.compensating else f"ended ({self.trace.status})"
            why = f"it was waiting at its join when the execution {when}"
            return {"step": step, "generation": None, "status": "stopped", "why": why, "chain": arrivals}
        alive = [token.step for token in self.state.tokens.values()] + list(self.state.waiting)
        reaching = sorted({name for name in alive if step in self.plan.reach[name]})
        why = (
            f"it may still be reached from {', '.join(reaching)}{', after a retry' if self.trace.quarantined else ''}"
            if reaching
            else "no step has led to it"
            + ("" if self.trace.status == "running" else f", and the execution has {self._end()}")
        )
        status = "not reached yet" if reaching else "not reached"
        return {"step": step, "generation": None, "status": status, "why": why, "chain": _sorted(chain)}

    def _end(self) -> str:
        return {"completed": "completed", "failed": "failed", "cancelled": "been cancelled"}[self.trace.status]

    def _arrivals(self, step: str) -> list[Json]:
        found = []
        for key, run in self.trace.runs.items():
            if step in run.arcs and (event := self.routes.get(key)) is not None:
                conditions = [item for item in self._arcs(event, run.step) if item.target == step]
                found.append(
                    self._conditions_entry(event.cause or event.seq, run.step, f"{key} leads to {step}", conditions)
                )
        return _sorted(found)

    def _untaken_arcs(self, step: str) -> list[Json]:
        """Every end of a step that has an arc to this one, and why that arc was not taken."""
        found = []
        for key, run in self.trace.runs.items():
            event = self.routes.get(key)
            if event is None or run.step not in self.plan.steps:
                continue
            for arc in self.plan.steps[run.step].arcs:
                if arc.target == step and step not in run.arcs:
                    found.append(self._untaken_arc(key, run, event, arc))
        return found

    def _untaken_arc(self, key: str, run: StepRun, event: Event, arc: Arc) -> Json:
        seq = event.cause or event.seq
        conditions = [item for item in self._arcs(event, run.step) if item.index == arc.index]
        if conditions:
            return self._conditions_entry(
                seq, run.step, f"{key} does not lead to {arc.target}: its condition is not met", conditions
            )
        name = (run.route or {}).get("event")
        reason = f"{key} leads to {', '.join(run.arcs)}, and only the first matching arc is taken"
        if name in ASK_ONLY_FAILURES and not arc.handles_failure:
            reason = f"{key} ended with {name}, and this arc does not handle that event"
        elif self.trace.error is not None and not run.arcs:
            reason = f"the execution failed at the end of {key}"
        return self._conditions_entry(
            seq, run.step, f"the arc to {arc.target} is not taken: {reason}", self._arcs(event, run.step)
        )

    # -- what is waited for

    def _kept_signals(self) -> list[Json]:
        """By name, in the order in which the first ones came."""
        awaited = awaited_of(self.plan)
        undecided = {wait.signal for wait in self.state.waits.values() if wait.approval}
        found: list[Json] = []
        for name, count in Counter(signal.name for signal in self.state.signals).items():
            advice = awaited.advice(name)
            if name in undecided:
                advice = f"no decision: the approval '{name}' takes only {{approved: true}} or {{approved: false}}"
            found.append({"signal": name, "count": count, "advice": advice})
        return found

    def _waits(self) -> list[Json]:
        found: list[Json] = []
        if self.state.ended:
            # in quarantine the state keeps what was under way
            return found
        for name, command in self.state.commands.items():
            issued = next(event for event in reversed(self.log) if event.type == e.ISSUED and event.command_id == name)
            text, since = f"command {name} was queued at event {issued.seq}", self.effects.at(issued)
            if (pool := self._pool(issued.step)) is not None:
                text += f" for the pool {pool}"
            if retries := [
                period for period in self.effects.periods if period.ended_by == e.RETRIED and period.seq > issued.seq
            ]:
                text, since = f"{text} and again at event {retries[-1].left_seq}", retries[-1].until or since
            found.append(_wait("worker", command.key, text, since, name))
        for timer, suspended in self.state.timers.items():
            if suspended.kind == "deadline":
                continue
            timer_set = self._timer_set(timer)
            assert timer_set is not None
            wait = _wait("timer", suspended.key, "it continues when its delay ends", self.effects.at(timer_set), timer)
            found.append({**wait, **self._due(timer_set)})
        for child, suspended in self.state.children.items():
            child_started = next(
                event for event in self.log if event.type == e.CHILD_STARTED and event.payload["execution_id"] == child
            )
            text = f"its sub-playbook runs as execution {child}"
            found.append({**_wait("child", suspended.key, text, self.effects.at(child_started), None), "child": child})
        for name, suspended in self.state.waits.items():
            found.append(self._signal_wait(name, suspended))
        for name in self.state.waiting:
            others = sorted(blockers(self.plan, self.state, name))
            text = f"its join waits for {', '.join(others)}"
            found.append({"for": "join", "step": name, "text": text, "steps": others})
        return found

    def _signal_wait(self, name: str, wait: Wait) -> Json:
        begun = next(event for event in self.log if event.type == e.WAIT_STARTED and event.payload["wait"] == name)
        timer = self._timer_set(name)
        due = {} if timer is None else self._due(timer, stands_still=not wait.fixed)
        if wait.signal is None:
            kind, text = "timer", "it continues when its time has come"
        elif wait.approval:
            kind, text = "approval", f"it waits for the approval '{wait.signal}'"
        else:
            kind, text = "signal", f"it waits for the signal '{wait.signal}'"
        signal: Json = {} if wait.signal is None else {"signal": wait.signal}
        if wait.signal is not None and (callbacks := self._callbacks(split_token_key(wait.key)[0])):
            signal["callbacks"] = callbacks
            text += f", which the URL of {' or '.join(f'keychain.{name}' for name in callbacks)} answers"
        return {**_wait(kind, wait.key, text, self.effects.at(begun), None), **signal, **due}

    def _timer_set(self, timer: str) -> Event | None:
        return next(
            (event for event in self.log if event.type == e.TIMER_SET and event.payload["timer"] == timer), None
        )

    def _due(self, timer_set: Event, *, stands_still: bool = True) -> Json:
        """`due`, or `left_ms` while the execution is paused, and the time of the timer stands still with it."""
        timer, due = timer_set.payload["timer"], timer_set.payload["due"]
        due = self.later_due.get(timer, due)
        paused = self.state.paused
        if paused is None or not stands_still:
            return {"due": due}
        due, since = paused.timers.get(timer, (due, max(paused.at, timer_set.at)))
        return {"left_ms": max(0, due - since)}

    def _callbacks(self, step: str) -> list[str]:
        """The entries of the keychain whose URLs answer a wait of the step."""
        entries = (entry for entry in self.plan.keychain.values() if entry.kind == "callback")
        return [entry.name for entry in entries if step in steps_that_wait(self.plan, entry)]


# the status of a run by what it waits for, if it waits for no worker
WAITING_STATUS = {"timer": "delayed", "child": "parked", "signal": "parked", "approval": "parked"}
QUARANTINE = "the execution is in quarantine: it continues from here after a retry"
EXIT_TEXTS = {
    e.RETRIED: "the execution leaves quarantine and continues; open commands are queued again",
    e.CANCELLED: "the execution is cancelled while in quarantine",
    e.DROPPED: "the execution is dropped from quarantine; its status does not change",
}
ENDINGS = frozenset({e.CALL_DONE, e.CALL_ERROR, e.LOOP_DONE, e.CHILD_ENDED, e.WAIT_ENDED, e.STEP_TIMED_OUT})
FAILING = frozenset({e.CALL_ERROR, e.STEP_TIMED_OUT})
ASK_ONLY_FAILURES = frozenset({e.CALL_ERROR, e.STEP_SKIPPED, "loop.failed"})


def _continued(run: StepRun, run_events: Sequence[Event], last: Event) -> bool:
    """Whether a run continued after `last`: an outcome may open a loop, and after a sub-playbook the command may be
    issued again."""
    if run.loop is not None:
        return last.type != e.LOOP_DONE
    return any(event.type == e.ISSUED for event in run_events[run_events.index(last) :])


def _wait(kind: str, key: str, text: str, since: int, command: str | None) -> Json:
    step, generation = split_token_key(key)
    wait: Json = {"for": kind, "step": step, "generation": generation, "text": text, "since": since}
    return wait if command is None else {**wait, "command_id": command}


def _period_entries(period: QuarantinePeriod) -> Iterator[Json]:
    text = "the engine cannot decide how to continue; the execution goes into quarantine"
    yield {"seq": period.seq, "at": period.since, "event": e.FAILED, "step": None, "text": text}
    if period.left_seq is not None and period.ended_by is not None:
        yield {
            "seq": period.left_seq,
            "at": period.until,
            "event": period.ended_by,
            "step": None,
            "text": EXIT_TEXTS[period.ended_by],
        }


def _sorted(chain: list[Json]) -> list[Json]:
    return sorted(chain, key=lambda entry: entry["seq"])
