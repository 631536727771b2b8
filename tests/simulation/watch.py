"""The log under watch: `MemoryLog`, and after every change what must always hold.

Everything here is found out again from the events themselves, beside the engine: who holds which command under which
fence, what is open, what was decided. A broken rule is kept in `faults`, with what it was broken by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.evolve import apply
from noetl_serverless.engine.state import State
from noetl_serverless.protocol import CommandKey, Held, ReportRequest, ReportResponse
from noetl_serverless.records import (
    Claimant,
    CommitResult,
    ExecutionCommit,
    Lease,
    LoadedExecution,
    PendingWork,
    ReportedFact,
)
from noetl_serverless.testing.event_store import MemoryEventStore
from noetl_serverless.testing.rows import ExecutionRow, loaded, manifest_parts

from .control_rules import signals_meet
from .exact import differing, same
from .limited import LimitWatch
from .rules import Diary, EventRules, Key, Note

# events that may leave children that nothing waits for
STOPPING = (e.STEP_TIMED_OUT, e.STEP_STOPPED, e.COMPENSATION_STARTED)
# after the last fault, a lease may still run out of what was held before
SETTLING = 90.0


class WatchedLog(EventRules, MemoryEventStore):
    def __init__(self, clock: Callable[[], float], note: Note) -> None:
        EventRules.__init__(self, note)
        MemoryEventStore.__init__(self, clock)
        self.diaries: dict[str, Diary] = {}
        # command -> the fence it is held under, for as long as it is
        self.holds: dict[Key, int] = {}
        self.ever_held: set[Key] = set()
        self._limits = LimitWatch()
        self.held_since: dict[Key, float] = {}
        self.scheduled: Callable[[], bool] = lambda: False
        # whether an event of a trigger is to be started
        self.triggered: Callable[[], bool] = lambda: False
        # called with each execution that ends, in the transaction of its end
        self.on_end: Callable[[ExecutionRow], None] = lambda execution: None
        # execution -> when its last event was written
        self.ended_at: dict[str, float] = {}
        # since when nothing goes wrong any more
        self.well_since: Callable[[], float] = lambda: float("inf")

    # -- what is said of it

    def check_answer(self, request: ReportRequest, answer: ReportResponse) -> None:
        """What a worker is told was accepted stands in the log, under its fence."""
        outcomes = {(item.execution_id, item.command_id): item for item in request.outcomes}
        for result in answer.results:
            key = (result.execution_id, result.command_id)
            if result.status == "accepted" and outcomes[key].status != "released":
                found = self.closed.get(key)
                self._must(found == outcomes[key].fence, "accepted and not in the log", f"{key} {found}")

    def check_ack(self, keys: Iterable[CommandKey]) -> None:
        """A notification is acknowledged once its command was claimed, or is gone."""
        for key in keys:
            name = (key.execution_id, key.command_id)
            row = self.commands.get(name)
            # one that was limited may have been let in only after the claim that it was notified for
            is_pending = row is not None and row.status == row.row["status"] == "pending"
            # nor could one be claimed in a pause, after which it was notified once more
            unclaimed = is_pending and name not in self.ever_held and not self.diaries[name[0]].was_paused
            self._must(not unclaimed, "acknowledged before it was claimed", name)

    async def parts(self, execution_id: str, step: str, generation: int) -> list[dict[str, Any]]:
        """The manifest of a loop."""
        return manifest_parts(self.executions[execution_id].events, step, generation)

    # -- statements

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        cases = await super().load(ids)
        for id, case in cases.items():
            diary = self.diaries[id]
            self._same(case.state, diary.shadow, "a loaded state is not the fold of its log")
        return cases

    async def pending_work(self, age: float) -> PendingWork:
        pending = await super().pending_work(age)
        return replace(pending, has_due_schedules=self.scheduled(), has_trigger_events=self.triggered())

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        leases = await super().claim(claimant, keys)
        self._take(leases, claimant.worker)
        return leases

    async def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        before = dict(self.holds.items())
        waiting = await super().release_leases(worker, held, begun)
        fences = {(key.execution_id, key.command_id): key.fence for key in (*held, *begun)}
        for name in self._give_back("release"):
            self._must(before.get(name) == fences.get(name), "released under a stale fence", name)
        self._are_pending(waiting)
        return waiting

    async def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        late = {key for key, row in self.commands.items() if row.lease_until < self._clock()}
        well = {key for key, at in self.held_since.items() if at > self.well_since() + SETTLING}
        waiting = await super().expire_leases(deliveries, limit)
        for name in self._give_back("expire"):
            self._must(name in late, "a lease was taken away before its end", name)
            self._must(name not in well, "a lease ran out, and nothing was wrong", name)
        self._are_pending(waiting)
        return waiting

    def _give_back(self, how: str) -> list[Key]:
        """What nobody holds any more, though it is not reported."""
        back = [name for name in self.holds if (row := self.commands.get(name)) and row.status != "claimed"]
        for name in back:
            self.moves.append((*name, how, self.holds.pop(name)))
            self._note(how, *name)
        return back

    def _are_pending(self, waiting: Iterable[tuple[str, CommandKey]]) -> None:
        for _, key in waiting:
            is_paused = self.diaries[key.execution_id].paused_at is not None
            self._must(not is_paused, "a command of what is paused is notified", key)

    def _take(self, leases: Sequence[Lease], worker: str) -> None:
        for lease in leases:
            key = (lease.execution_id, lease.command_id)
            self._must(key not in self.holds, "two workers hold one command", lambda key=key: key)
            is_paused = self.diaries[key[0]].paused_at is not None
            self._must(not is_paused, "a command was claimed in a pause", lambda key=key: key)
            self._must(lease.fence > self.closed.get(key, 0), "a command is run again after its end", key)
            self.moves.append((*key, "claim", lease.fence))
            self.holds[key] = lease.fence
            self.held_since[key] = self._clock()
            self.ever_held.add(key)
            self._note("claimed", lease.execution_id, f"{lease.command_id} fence {lease.fence} by {worker}")
        for lease in sorted(leases, key=lambda lease: lease.fence):
            key = (lease.execution_id, lease.command_id)
            broken = self._limits.broken(key, self.commands, self._clock())
            self._must(broken is None, "a limit is exceeded", broken)

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        heads = {id: len(execution.events) for id, execution in self.executions.items()}
        running = {id for id, execution in self.executions.items() if execution.status == "RUNNING"}
        committed = await super().commit(commits, claimant)
        for id in sorted(committed.committed):
            if self.executions[id].status != "RUNNING" and (id in running or id not in heads):
                self.on_end(self.executions[id])
        for part in commits:
            id = part.execution.execution_id
            if id in committed.committed:
                self._must(part.expected_head == heads.get(id), "a commit on a head that has moved", id)
                self._follow(part)
            else:
                self._note("lost", id, f"a commit on {part.expected_head}, the head is {heads.get(id)}")
        self._take(committed.leases, claimant.worker if claimant else "")
        for part in commits:
            if part.execution.execution_id in committed.committed:
                self._after(part)
        for id in committed.with_new_facts:
            self._note("told", id, " ".join(event.type for event in self.executions[id].inbox.values()))
        return committed

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        accepted = await super().append_to_inbox(facts)
        for fact in facts:
            key = (fact.execution_id, fact.event.command_id or "")
            if (*key, fact.fence) in accepted:
                self._closing(self.diaries[key[0]], key[1], fact.fence, "append")
                self._note("into the inbox", key[0], f"{fact.event.type} {key[1]}")
        return accepted

    def _same(self, one: State, other: State, rule: str) -> None:
        """One state, as two copies have it: the same to the last byte, order and types included."""
        try:
            if same(one, other):
                return
        except ValueError:
            rule = f"{rule}, and not even plain data"
        self.broken(rule, f"{one.execution_id} {differing(one, other)}")

    # -- one commit

    def _follow(self, part: ExecutionCommit) -> None:
        id = part.execution.execution_id
        if part.new_row is not None:
            self._must(id not in self.diaries, "an execution begins twice", id)
            self.diaries[id] = Diary(id, State(id, workload=part.new_row["workload"]))
        diary = self.diaries[id]
        new = self.executions[id].events[diary.seen : part.execution.head]
        self._note("commit", id, *(describe(event) for event in part.events))
        for command, fence in part.closes:
            self._closing(diary, command, fence, "commit")
        diary.fresh.clear()
        diary.anchors = {fence for _, fence in part.closes}
        for place, event in enumerate(new, diary.seen + 1):
            self._must(event.seq == place, "the sequence has a gap", f"{id}: {event.seq} at {place}")
            self.read(diary, event)
        self._order(diary, new)
        diary.seen += len(new)
        if part.execution.state.ended or any(event.type in STOPPING for event in new):
            self._children(diary, part, new)
        if not part.execution.state.ended:
            signals_meet(diary, self._must)

    def _children(self, diary: Diary, part: ExecutionCommit, new: list[Event]) -> None:
        """An end is told to the children that still run, unless it says to spare them."""
        notified = {fact["id"] for fact in part.inbox_facts if fact["type"] == e.CANCELLED}
        diary.notified |= notified
        spared = any(event.type == e.CANCELLED and not event.payload.get("cascade", True) for event in new)
        for child, how in diary.children.items():
            left = how == "dropped" or (how == "started" and part.execution.state.ended)
            runs = left and child not in diary.notified and self.executions[child].status == "RUNNING"
            self._must(not runs or spared, "a child was left running", f"{diary.id} {child}")

    def _closing(self, diary: Diary, command: str, fence: int, how: str) -> None:
        key = (diary.id, command)
        if command in diary.timers:
            return
        self.moves.append((*key, how, fence))
        if how == "append":
            self.inboxed.add(key)
        self._must(self.holds.get(key) == fence, "committed under a stale fence", f"{key} {fence}")
        self._must(key not in self.closed, "a command was closed twice", key)
        self.holds.pop(key, None)
        self.closed[key] = fence

    def _order(self, diary: Diary, new: list[Event]) -> None:
        """Each fact is decided once, in one commit, in its turn; the fold of it all is the state."""
        facts = {event.seq for event in new if event.cause is None}
        for event in new:
            if event.cause is not None:
                fresh = event.cause in facts and event.cause < event.seq
                self._must(fresh, "a fact was decided twice, or out of turn", f"{diary.id} {describe(event)}")
        diary.decided |= facts
        for event in sorted(new, key=lambda event: (event.cause or event.seq, event.seq)):
            apply(diary.shadow, event)
        self.loops_wrote(diary)

    def _after(self, part: ExecutionCommit) -> None:
        id = part.execution.execution_id
        diary, execution, state = self.diaries[id], self.executions[id], part.execution.state
        self._same(state, diary.shadow, "the state that is kept is not the fold of the log")
        if execution.folded == part.execution.head:
            # what is folded onto it later is the same as what is folded onto the shadow
            self._same(loaded(execution).state, diary.shadow, "the snapshot is not the fold of the log")
        rows = {command: row for (owner, command), row in self.commands.items() if owner == id and row.status != "dead"}
        out = {command: row.status for command, row in rows.items()}
        shown = {command for command, row in rows.items() if row.row["kind"] != "timer"}
        reported = {fact.command_id for fact in execution.inbox.values() if fact.command_id}
        self._must(not shown & reported, "a command is out and in the inbox", f"{id} {out} {reported}")
        timers = out.keys() - shown
        if state.ended:
            reported.clear()
        # in quarantine all is kept, so that it can go on as it was
        waits = [name for name in state.waits if diary.timers.get(name) == "set"]
        commands, waited = ((), ()) if state.quarantined else (state.commands, (*state.timers, *waits))
        self._must(shown | reported == set(commands), "commands are not those of the state", f"{id} {out}")
        self._must(timers == set(waited), "timers are not those of the state", f"{id} {out}")
        paused = {command for command, status in out.items() if status == "paused"}
        claimable = {command for command, status in out.items() if status != "claimed"}
        right = paused == (claimable if diary.paused_at is not None else set())
        self._must(right, "what is paused waits, and nothing else", f"{id} {out}")
        due = {name: rows[name].row["due"] for name in timers}
        early = diary.paused_at is None and due != {name: diary.timers_due.get(name) for name in timers}
        self._must(not early, "timers are due at another time than the log says", f"{id} {due} {diary.timers_due}")
        self._must(execution.status == state.status.upper(), "the status is not that of the state", id)
        delayed = any(timer.kind != "deadline" for timer in state.timers.values())
        goes_on = bool(state.commands or delayed or state.children or state.waits)
        self._must(
            state.ended or goes_on, "it runs, and waits for nothing", lambda: f"{id} {orjson.dumps(state.snapshot())!r}"
        )
        if state.ended:
            self.ended_at.setdefault(id, self._clock())
            self.moves += [(id, command, "end", 0) for command in sorted(diary.open)]
            for key in [key for key in self.holds if key[0] == id]:
                del self.holds[key]


def describe(event: Event) -> str:
    cause = f"<{event.cause}" if event.cause is not None else ""
    what = event.command_id or (f"{event.step}#{event.generation}" if event.step else "")
    return f"{event.seq}{cause} {event.type} {what}".strip()
