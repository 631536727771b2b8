"""Faults planted in the engine, each of which the simulation must find.

A mutant is a context manager that patches the engine at run time and puts it right again at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import orjson

from noetl_serverless.engine import decide, decision, evolve_loops, evolve_steps, frames, joins, loops
from noetl_serverless.engine import events as e
from noetl_serverless.orchestrator import start
from noetl_serverless.orchestrator.commits import Commits
from noetl_serverless.orchestrator.execution_cache import ExecutionCache
from noetl_serverless.orchestrator.reports import Reports
from noetl_serverless.orchestrator.transition import Transition
from noetl_serverless.playbook import sandbox, values
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.records import ExecutionCommit
from noetl_serverless.results.reader import ReferenceNotAvailable, Resolver
from noetl_serverless.store.keychain import Keychain, Slot
from noetl_serverless.store.schedules import DueRun
from noetl_serverless.testing import rows
from noetl_serverless.testing.commands import CommandTable
from noetl_serverless.testing.event_store import MemoryEventStore
from noetl_serverless.testing.rows import CommandRow, PreparedCommit
from noetl_serverless.worker.drain.drain import Drain
from noetl_serverless.worker.drain.speculative_run import SpeculativeStep
from noetl_serverless.worker.execution import task_call
from noetl_serverless.worker.execution.cursor import CursorRun
from noetl_serverless.worker.execution.frame import FrameRun
from noetl_serverless.worker.execution.keychain import Secrets
from noetl_serverless.worker.execution.pipeline import Pipeline

Mutant = Callable[[], Any]


def skip_the_fence_check() -> Any:
    def closes(self: MemoryEventStore, id: str, command: str, fence: int, worker: str | None) -> bool:
        return (id, command) in self.commands

    return patch.object(MemoryEventStore, "_closes", closes)


def drop_the_compare_and_set() -> Any:
    def may(self: MemoryEventStore, part: ExecutionCommit) -> bool:
        execution = self.executions.get(part.execution.execution_id)
        id = part.execution.execution_id
        return execution is not None and all(self._closes(id, *close, part.worker) for close in part.closes)

    return patch.object(MemoryEventStore, "_is_current", may)


@contextmanager
def write_without_looking_at_the_sequence() -> Iterator[None]:
    store = MemoryEventStore._store

    def blind(self: MemoryEventStore, execution: Any, event: Any) -> None:
        kept = list(execution.events)
        execution.events[:] = kept[: event.seq - 1] + kept[:0]
        while len(execution.events) < event.seq - 1:
            execution.events.append(kept[-1])
        store(self, execution, event)
        execution.events += kept[event.seq :]

    fits = patch.object(MemoryEventStore, "_check_unwritten", lambda self, each: None)
    with drop_the_compare_and_set(), fits, patch.object(MemoryEventStore, "_store", blind):
        yield


def forget_the_join() -> Any:
    return patch.object(decide, "blocked", lambda plan, state, join: False)


def acknowledge_before_the_claim() -> Any:
    follow = Drain._claim_pointed

    async def hasty(self: Drain, pointers: Any) -> None:
        await self._ack(pointers)
        await follow(self, pointers)

    return patch.object(Drain, "_claim_pointed", hasty)


def answer_before_the_commit() -> Any:
    decide_them = Reports._decide_and_commit

    async def hasty(self: Reports, batch: Any, fresh: bool) -> None:
        for outcomes in batch.work.values():
            for outcome in outcomes:
                batch.settle(outcome, "accepted")
        await decide_them(self, batch, fresh)
        batch.work.clear()

    return patch.object(Reports, "_decide_and_commit", hasty)


def lose_the_rest_of_a_frame() -> Any:
    after = evolve_loops.after_frame

    def forgetful(loop: Any, frame: Any, payload: Any) -> Any:
        return after(loop, (frame[0], frame[1], payload["end"], frame[3]), payload)

    return patch.object(evolve_loops, "after_frame", forgetful)


def let_the_last_report_of_a_loop_win() -> Any:
    def assign(state: Any, event: Any) -> None:
        state.assign(event.payload.get("set", {}), event.payload.get("set_refs", {}), event.at, event.step)

    return patch.object(evolve_loops, "assign", assign)


def forget_what_a_suspended_item_has_set() -> Any:
    store = FrameRun._store_state

    async def forgetful(self: FrameRun, value: dict[str, Any], part: str) -> dict[str, Any]:
        return await store(self, {} if part == "/set" else value, part)

    return patch.object(FrameRun, "_store_state", forgetful)


def show_items_what_others_have_set() -> Any:
    return patch.object(loops, "_shares_ctx", lambda step, loop, scope: step.ctx_is_stable and bool(scope["ctx"]))


def never_expire_a_lease() -> Any:
    async def expire(self: MemoryEventStore, deliveries: int, limit: int) -> list[Any]:
        return []

    return patch.object(MemoryEventStore, "expire_leases", expire)


def expire_leases_early() -> Any:
    def overdue(self: CommandTable) -> list[CommandRow]:
        return [row for row in self.values() if row.status == "claimed"]

    return patch.object(CommandTable, "_overdue", overdue)


def tell_the_parent_twice() -> Any:
    tell = Transition._notify_parent

    def twice(self: Transition, at: int) -> None:
        tell(self, at)
        tell(self, at)

    return patch.object(Transition, "_notify_parent", twice)


def do_not_tell_the_parent() -> Any:
    return patch.object(Transition, "_notify_parent", lambda self, at: None)


def leave_children_running() -> Any:
    return patch.object(Transition, "cancel_children", lambda self, children, at, reason, *, undo: None)


def fold_decisions_before_their_fact() -> Any:
    return patch.object(
        rows,
        "logical_order",
        lambda events: sorted(events, key=lambda event: (event.cause or event.seq, -event.seq)),
    )


def take_in_a_fact_twice() -> Any:
    """What was taken out of the inbox is left in it."""
    part = Transition.to_commit

    def leaving(self: Transition, row: Any = None) -> Any:
        made = part(self, row)
        made.consumed = []
        return made

    return patch.object(Transition, "to_commit", leaving)


def leave_the_inbox_to_itself() -> Any:
    async def lagging(self: MemoryEventStore, limit: int, after: str = "0") -> list[str]:
        return []

    return patch.object(MemoryEventStore, "executions_with_inbox", lagging)


def leave_a_timer_open() -> Any:
    append = Commits.commit_fact

    async def open_ended(self: Commits, id: str, fact: Any = None, closes: Any = None, claimant: Any = None) -> Any:
        return await append(self, id, fact, None, claimant)

    return patch.object(Commits, "commit_fact", open_ended)


def ignore_the_idempotency_key() -> Any:
    async def started(self: MemoryEventStore, key: str) -> None:
        return None

    may_open = MemoryEventStore._can_open

    def may(self: MemoryEventStore, part: ExecutionCommit, good: Any) -> bool:
        row = part.new_row
        assert row is not None
        key, row["idempotency_key"] = row.get("idempotency_key"), None
        try:
            return may_open(self, part, good)
        finally:
            row["idempotency_key"] = key

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(MemoryEventStore, "starts_by_key", started), patch.object(MemoryEventStore, "_can_open", may):
            yield

    return both()


def never_look_again() -> Any:
    """A case that turned out to be old is kept."""
    get = ExecutionCache.get

    async def stale(self: ExecutionCache, ids: Any, fresh: bool = False) -> Any:
        return await get(self, ids)

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(ExecutionCache, "get", stale), patch.object(ExecutionCache, "evict", lambda self, id: None):
            yield

    return both()


def give_results_as_they_came() -> Any:
    @contextmanager
    def unsorted() -> Iterator[None]:
        evolve_loops.sorted = lambda parts, key=None: list(parts)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            del evolve_loops.sorted  # type: ignore[attr-defined]

    return unsorted()


def count_the_rest_twice() -> Any:
    take = evolve_steps._take_frame

    def again(state: Any, key: str, frame: Any) -> None:
        before = state.loops[key]
        take(state, key, frame)
        if before.returned:
            state.loops[key] = replace(state.loops[key], returned=before.returned)

    return patch.object(evolve_steps, "_take_frame", again)


def resume_under_the_same_name() -> Any:
    command_id: Callable[..., str] = vars(decision)["command_id"]

    def nameless(step: str, generation: int, frame: Any = None, attempt: int = 1, opening: bool = False) -> str:
        return command_id(step, generation, frame, 1, opening)

    return patch.object(decision, "command_id", nameless)


def forget_where_a_command_stopped() -> Any:
    resume = decide.Decider.resume

    def forgetful(self: Any, suspended: Any, resumed: Any, **source: str) -> None:
        child = {"child": resumed["child"]} if resumed and "child" in resumed else None
        resume(self, suspended, child, **source)

    return patch.object(decide.Decider, "resume", forgetful)


def forget_the_skipped() -> Any:
    return patch.object(decide, "unreachable", lambda plan, state, targets: [])


def draw_a_key_for_each_fire() -> Any:
    count = iter(range(1_000_000))
    return patch.object(DueRun, "idempotency_key", property(lambda self: f"schedule:{next(count)}"))


def do_not_keep_leases_alive() -> Any:
    async def extend(self: MemoryEventStore, worker: str, held: Any, lease: float) -> Any:
        return {(key.execution_id, key.command_id, key.fence) for key in held if self.commands._holds(worker, key)}

    return patch.object(MemoryEventStore, "extend_leases", extend)


def widen_the_loop_without_end() -> Any:
    """A sequential loop that does not wait for the item before."""
    shape = frames.next_frame

    def eager(loop: Any, out: Any) -> Any:
        return shape(loop, 0)

    return patch.object(loops, "next_frame", eager)


def spend_without_asking() -> Any:
    return patch.object(decide.Decider, "affords", lambda self, step: True)


def believe_who_ran_ahead() -> Any:
    """A worker's word is taken for all that follows, whoever holds the command before it."""
    take = Reports._apply_outcome

    async def credulous(self: Reports, batch: Any, turn: Any, outcome: Any, held: Any) -> None:
        await take(self, batch, turn, outcome, None)
        if turn is not None and turn.closes and outcome.order is None:
            turn.closes.pop()

    return patch.object(Reports, "_apply_outcome", credulous)


# -- values, order, isolation


def keep_values_as_python_has_them() -> Any:
    """What a template gives is decided on as it is, and stored otherwise."""
    return patch.object(sandbox, "stored", lambda value, foreign=None: value)


def let_any_value_pass() -> Any:
    """A template's value is brought into form, but for what the rules refuse."""

    def lenient(value: Any, foreign: Any = None) -> Any:
        try:
            return values.stored(value, foreign or values.refuse)
        except values.InvalidValue:
            return str(value)

    return patch.object(sandbox, "stored", lenient)


def do_not_say_where() -> Any:
    return patch.object(values.InvalidValue, "__str__", lambda self: self.rule)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def store_events_as_jsonb() -> Any:
    """Which sorts the keys of objects, the shortest first."""
    store = MemoryEventStore._store

    def sorting(self: MemoryEventStore, execution: Any, event: Any) -> None:
        store(self, execution, replace(event, payload=_sorted(event.payload)))

    return patch.object(MemoryEventStore, "_store", sorting)


def store_states_as_jsonb() -> Any:
    write = MemoryEventStore._write

    def sorting(self: MemoryEventStore, part: PreparedCommit) -> None:
        write(self, part)
        execution = self.executions[part.id]
        execution.state = orjson.dumps(_sorted(orjson.loads(execution.state)))

    return patch.object(MemoryEventStore, "_write", sorting)


def store_numbers_as_jsonb() -> Any:
    """Which knows no difference between 1.0 and 1."""
    store = MemoryEventStore._store

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: whole(item) for key, item in value.items()}
        if isinstance(value, list):
            return [whole(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def blunt(self: MemoryEventStore, execution: Any, event: Any) -> None:
        store(self, execution, replace(event, payload=whole(event.payload)))

    return patch.object(MemoryEventStore, "_store", blunt)


def claim_in_another_order() -> Any:
    """A command that is claimed has its scope in another order than one that follows from a report."""
    claim = MemoryEventStore.claim

    async def sorting(self: MemoryEventStore, claimant: Any, keys: Any) -> Any:
        return [replace(lease, issued=_sorted(lease.issued)) for lease in await claim(self, claimant, keys)]

    return patch.object(MemoryEventStore, "claim", sorting)


def decide_from_an_old_copy() -> Any:
    """A commit is written onto the head that there is, whatever it was decided on."""
    may = MemoryEventStore._is_current

    def moved(self: MemoryEventStore, part: ExecutionCommit) -> bool:
        execution = self.executions.get(part.execution.execution_id)
        if execution is not None and part.expected_head is not None and execution.head > part.expected_head:
            shift = execution.head - part.expected_head
            part.events[:] = [replace(event, seq=event.seq + shift) for event in part.events]
            part.expected_head += shift
            part.execution = replace(part.execution, head=part.execution.head + shift)
        return may(self, part)

    return patch.object(MemoryEventStore, "_is_current", moved)


def take_an_outcome_under_any_fence() -> Any:
    """Of a worker that holds the command, though it held it twice and reports what it did the first time."""
    append, extend = MemoryEventStore.append_to_inbox, MemoryEventStore.extend_leases

    async def blind(self: MemoryEventStore, facts: Any) -> Any:
        for fact in facts:
            row = self.commands.get((fact.execution_id, fact.event.command_id))
            if row is not None and row.status == "claimed" and row.worker == fact.worker:
                row.fence = fact.fence
        return await append(self, facts)

    async def held(self: MemoryEventStore, worker: str, keys: Any, lease: float) -> Any:
        await extend(self, worker, keys, lease)
        rows = ((key, self.commands.get((key.execution_id, key.command_id))) for key in keys)
        return {(key.execution_id, key.command_id, key.fence) for key, row in rows if row and row.worker == worker}

    @contextmanager
    def both() -> Iterator[None]:
        with (
            patch.object(MemoryEventStore, "append_to_inbox", blind),
            patch.object(MemoryEventStore, "extend_leases", held),
        ):
            yield

    return both()


def let_one_stop_the_others() -> Any:
    """What cannot be decided is raised, in a report, in what follows a commit, in a pass of the reconciler."""

    def quarantine(self: Transition, fact: Any, error: Exception) -> None:
        raise error

    async def follow(self: Commits, ids: Any) -> None:
        for id in ids:
            await self.process_inbox(id)

    async def do(self: Reconciler, action: str, work: Any) -> int:
        return int(await work())

    @contextmanager
    def all_of_it() -> Iterator[None]:
        with (
            patch.object(Transition, "_quarantine", quarantine),
            patch.object(Commits, "process_inboxes", follow),
            patch.object(Reconciler, "_run_isolated", do),
        ):
            yield

    return all_of_it()


def begin_each_round_for_each_branch() -> Any:
    return patch.object(joins, "_reached_by_back_edge", lambda plan, state, step: False)


def hide_the_error_of_the_tool() -> Any:
    original = vars(decide)["error_of"]
    return patch.object(decide, "error_of", lambda error, outcome=None: original(error))


def mend_by_any_condition() -> Any:
    """A failed step may take every arc whose condition holds."""
    choose = decide.Decider._choose

    def any_arc(self: Any, step: Any, event: str, output: Any, values: Any) -> Any:
        arcs = tuple(replace(arc, handles_failure=arc.when is not None) for arc in step.arcs)
        return choose(self, replace(step, arcs=arcs), event, output, values)

    return patch.object(decide.Decider, "_choose", any_arc)


# -- claims, times to end in, secrets, what is collected


def claim_anew_after_a_loss() -> Any:
    """Whoever takes over a frame does not look whether its rows have been claimed."""

    async def nothing(self: CursorRun) -> None:
        return None

    return patch.object(CursorRun, "_claimed_before", nothing)


def believe_each_record_of_a_claim() -> Any:
    """Though its transaction was rolled back."""

    async def committed(self: CursorRun, transaction: int) -> bool:
        return True

    return patch.object(CursorRun, "_is_committed", committed)


def read_claimed_rows_as_far_as_they_have_no_gap() -> Any:
    load = Resolver._rows

    async def strict(self: Resolver, part: Any, first: int, uri: Any) -> Any:
        if part["start"] > first:
            raise ReferenceNotAvailable("items are missing")
        return await load(self, part, first, uri)

    return patch.object(Resolver, "_rows", strict)


def end_executions_early() -> Any:
    """The time that an execution may take is taken for milliseconds."""
    started = decide.Decider.started

    def hasty(self: Any) -> None:
        emit = self.emit

        def sooner(kind: str, payload: Any, **more: Any) -> Any:
            if payload.get("timer") == e.DEADLINE:
                payload = {**payload, "due": self.fact.at + round(payload["timeout"])}
            return emit(kind, payload, **more)

        with patch.object(self, "emit", sooner):
            started(self)

    return patch.dict(decide.DECIDE, {e.STARTED: hasty})


def give_children_no_time_to_end_in() -> Any:
    timeouts = vars(start)["_sorted"]
    return patch.object(start, "_sorted", lambda *given: timeouts(*given[1:]))


def let_everybody_fetch_a_secret() -> Any:
    """Also while somebody does, and while there is one."""
    find = Keychain.acquire

    async def acquire(self: Keychain, slot: Any, entry: Any) -> Any:
        found = await find(self, slot, entry)
        return replace(found, fetch_id=found.fetch_id or "any")

    return patch.object(Keychain, "acquire", acquire)


def keep_secrets_past_their_end() -> Any:
    find = Keychain.acquire

    async def acquire(self: Keychain, slot: Any, entry: Any) -> Any:
        known = vars(self).setdefault("kept", {})
        if slot not in known:
            found = await find(self, slot, entry)
            if found.data is None:
                return found
            known[slot] = replace(found, fetch_id=None)
        return known[slot]

    return patch.object(Keychain, "acquire", acquire)


def share_each_secret_with_all_executions() -> Any:
    of = Slot.of

    def wide(entry: Any, execution_id: int, owner: Any, inputs: str) -> Any:
        return of(replace(entry, scope="global"), execution_id, owner, inputs)

    return patch.object(Slot, "of", wide)


def do_not_mask_secrets() -> Any:
    async def bare(self: Secrets, value: Any) -> Any:
        return value

    return patch.object(Secrets, "masked", bare)


def collect_what_failed() -> Any:
    collect = Pipeline._accumulate

    async def all_of_it(self: Pipeline, how: Any, task: Any, output: Any) -> None:
        await collect(self, how, task, {**output, "status": "ok"})

    return patch.object(Pipeline, "_accumulate", all_of_it)


def forget_what_a_suspended_pipeline_has_collected() -> Any:
    restore = Pipeline._restore

    async def forgetful(self: Pipeline, resume: Any) -> None:
        await restore(self, resume)
        self.accumulated.restore({})

    return patch.object(Pipeline, "_restore", forgetful)


def check_no_results() -> Any:
    return patch.object(task_call, "_missing", lambda value, names: "")


# of those that show in playbooks of one construct only: the beginning of its recipe's name
OF_CONSTRUCTS = {
    "claim_anew_after_a_loss": "rows",
    "believe_each_record_of_a_claim": "rows",
    "read_claimed_rows_as_far_as_they_have_no_gap": "rows",
    "end_executions_early": "it_takes",
    "give_children_no_time_to_end_in": "a_child",
    "let_everybody_fetch_a_secret": "tokens",
    "keep_secrets_past_their_end": "tokens",
    "share_each_secret_with_all_executions": "tokens",
    "do_not_mask_secrets": "tokens",
    "collect_what_failed": "results_are_collected",
    "forget_what_a_suspended_pipeline_has_collected": "results_are_collected",
    "check_no_results": "results_are_checked",
}


def report_before_the_result_is_written() -> Any:
    return patch.object(SpeculativeStep, "can_be_reported", property(lambda self: self.outcome is not None))


MUTANTS: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        skip_the_fence_check,
        drop_the_compare_and_set,
        write_without_looking_at_the_sequence,
        forget_the_join,
        acknowledge_before_the_claim,
        answer_before_the_commit,
        lose_the_rest_of_a_frame,
        let_the_last_report_of_a_loop_win,
        forget_what_a_suspended_item_has_set,
        show_items_what_others_have_set,
        never_expire_a_lease,
        expire_leases_early,
        tell_the_parent_twice,
        do_not_tell_the_parent,
        leave_children_running,
        fold_decisions_before_their_fact,
        take_in_a_fact_twice,
        leave_the_inbox_to_itself,
        leave_a_timer_open,
        ignore_the_idempotency_key,
        never_look_again,
        give_results_as_they_came,
        count_the_rest_twice,
        resume_under_the_same_name,
        forget_where_a_command_stopped,
        forget_the_skipped,
        draw_a_key_for_each_fire,
        do_not_keep_leases_alive,
        widen_the_loop_without_end,
        spend_without_asking,
        believe_who_ran_ahead,
        keep_values_as_python_has_them,
        let_any_value_pass,
        do_not_say_where,
        store_events_as_jsonb,
        store_states_as_jsonb,
        store_numbers_as_jsonb,
        claim_in_another_order,
        decide_from_an_old_copy,
        take_an_outcome_under_any_fence,
        let_one_stop_the_others,
        begin_each_round_for_each_branch,
        hide_the_error_of_the_tool,
        mend_by_any_condition,
        claim_anew_after_a_loss,
        believe_each_record_of_a_claim,
        read_claimed_rows_as_far_as_they_have_no_gap,
        end_executions_early,
        give_children_no_time_to_end_in,
        let_everybody_fetch_a_secret,
        keep_secrets_past_their_end,
        share_each_secret_with_all_executions,
        do_not_mask_secrets,
        collect_what_failed,
        forget_what_a_suspended_pipeline_has_collected,
        check_no_results,
        report_before_the_result_is_written,
    )
}
