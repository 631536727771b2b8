"""The event store in memory: does what `PostgresEventStore` does, row for row, for tests, simulation and private runs.

Everything that can be refused is refused before anything is written, so that a call that raises has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from ..engine.events import Event
from ..ports import EventStore, LockedExecution
from ..protocol import CommandKey, Held
from ..records import (
    EPOCH,
    Claimant,
    CommitResult,
    DeadLetter,
    DueTimer,
    ExecutionCommit,
    IdempotentStart,
    Inbox,
    Lease,
    LoadedExecution,
    PendingWork,
    QuarantinedExecution,
    ReportedFact,
    UnstorableCommit,
)
from ..store.loaded_execution import quarantined_fact
from ..store.projections import claim_issued, execution_row, project, still_open
from .commands import CommandTable
from .fair_claims import Key
from .locked_execution import LockedInMemory
from .rows import (
    CommandRow,
    ExecutionRow,
    PreparedCommit,
    frame_key,
    inbox_page,
    loaded,
    pending_pointer,
    quarantined,
    running_children,
    stored_event,
    stored_form,
)


class MemoryEventStore(EventStore):
    """`clock`: seconds since 1970."""

    def __init__(self, clock: Callable[[], float], pool: Callable[[str], str] = lambda step: "shared") -> None:
        self._clock = clock
        self._pool = pool
        self._inbox_id = 0
        self.executions: dict[str, ExecutionRow] = {}
        self.commands = CommandTable(clock, self.executions)
        # by execution and key
        self.refs: dict[Key, dict[str, Any]] = {}
        self.quarantine: dict[str, dict[str, Any]] = {}

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        return {id: loaded(self.executions[id]) for id in ids if id in self.executions}

    async def read_inbox(self, execution_id: str) -> Inbox:
        execution = self.executions.get(execution_id)
        return inbox_page(execution.inbox) if execution else Inbox([])

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        accepted = set()
        for fact, event, refs in [(fact, stored_event(fact.event), stored_form(fact.refs)) for fact in facts]:
            key = (fact.execution_id, event.command_id or "")
            row = self.commands.get(key)
            if row is None or row.status != "claimed" or (row.fence, row.worker) != (fact.fence, fact.worker):
                continue
            del self.commands[key]
            self._put(fact.execution_id, event)
            self._register(fact.execution_id, refs)
            accepted.add((*key, fact.fence))
        return accepted

    async def clear_inbox(self, execution_id: str) -> None:
        execution = self.executions.get(execution_id)
        if execution is not None and execution.status != "RUNNING":
            execution.inbox.clear()

    async def events(self, execution_id: str, after: int = 0, limit: int = 100_000) -> list[Event]:
        execution = self.executions.get(execution_id)
        return [event for event in execution.events if event.seq > after][:limit] if execution else []

    async def starts_by_key(self, keys: Sequence[str]) -> dict[str, IdempotentStart]:
        return {
            key: IdempotentStart(id, execution.loaded.version, execution.request_hash, execution.loaded.principal)
            for id, execution in self.executions.items()
            if (key := execution.idempotency_key) is not None and key in keys
        }

    async def commit_exclusively(
        self, execution_id: str, decide: Callable[[LockedExecution], ExecutionCommit | None]
    ) -> tuple[ExecutionCommit, CommitResult] | None:
        execution = self.executions.get(execution_id)
        part = decide(LockedInMemory(execution, self.executions, self.quarantine)) if execution else None
        return None if part is None else (part, await self.commit([part]))

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        try:
            prepared = [self._prepare(part) for part in commits]
        except orjson.JSONEncodeError as error:
            raise UnstorableCommit(str(error)) from error
        commands = [row for each in prepared for row in each.rows.commands]
        if claimant is not None:
            claim_issued(commands, claimant)
        good = {part.execution.execution_id for part in commits if part.new_row is None and self._is_current(part)}
        good |= self._opened(commits, good)
        writing = [each for each in prepared if each.id in good]
        for each in writing:
            self._check_unwritten(each)
        for each in writing:
            self._write(each)
        issued = {(row["id"], row["command"]): row for row in commands if row["id"] in good}
        claimed = self.commands.issue(issued)
        waiting = [pending_pointer(row) for row in issued.values() if row["status"] == "pending"]
        appended = {id for each in writing for id, fact in each.appends if self._append(id, fact)}
        for each in writing:
            self._quarantine(each)
        return CommitResult(frozenset(good), claimed, waiting, sorted(appended))

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        return self.commands.claim(claimant, keys)

    async def recover_leases(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        return self.commands.recover_leases(worker, lease, holding)

    async def extend_leases(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        return self.commands.extend_leases(worker, held, lease)

    async def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        return self.commands.release_leases(worker, held, begun)

    async def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        return self.commands.expire_leases(deliveries, limit)

    async def undeliverable(self, deliveries: int, limit: int) -> list[DeadLetter]:
        return self.commands.undeliverable(deliveries, limit)

    async def pools_with_pending(self, age: float) -> list[str]:
        return self.commands.pools_with_pending(age)

    async def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        return self.commands.due_timers(limit, after)

    async def loop_opened(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        execution = self.executions[execution_id]
        seq: int = execution.stages[(step, generation)]["seq"]
        return execution.events[seq - 1].payload

    async def add_dead_letter(self, dead: DeadLetter) -> None:
        execution = self.executions.get(dead.execution_id)
        issued = execution.events[dead.seq - 1 : dead.seq] if execution else []
        for row in project(dead.execution_id, issued, self._pool).commands:
            dead_letter = CommandRow(
                row={**row, "status": "dead"},
                issued_at=issued[0].at / 1000,
                status="dead",
                worker=dead.worker,
                fence=0,
                lease_until=0.0,
                deliveries=dead.deliveries,
            )
            self.commands.setdefault((row["id"], row["command"]), dead_letter)

    async def executions_with_inbox(self, limit: int, after: str = "0") -> list[str]:
        waiting = [int(id) for id, execution in self.executions.items() if execution.inbox and int(id) > int(after)]
        return [str(id) for id in sorted(waiting)[:limit]]

    async def list_quarantined(self, limit: int, after: str = "0") -> list[QuarantinedExecution]:
        ids = [id for id in self.quarantine if int(id) > int(after)]
        return [
            replace(quarantined(self.quarantine[id], self.executions[id]), facts=[])
            for id in sorted(ids, key=int)[:limit]
        ]

    async def get_quarantined(self, execution_id: str) -> QuarantinedExecution | None:
        return (
            quarantined(self.quarantine[execution_id], self.executions[execution_id])
            if execution_id in self.quarantine
            else None
        )

    async def is_descendant(self, execution_id: str, ancestor: str) -> bool:
        execution = self.executions.get(execution_id)
        if execution is None or execution.parent_id is None:
            return False
        return execution.parent_id == ancestor or await self.is_descendant(execution.parent_id, ancestor)

    async def running_children(self, execution_id: str) -> list[str]:
        return running_children(self.executions, execution_id)

    async def pending_work(self, age: float) -> PendingWork:
        return PendingWork(
            has_expired_leases=self.commands.has_expired_leases(),
            has_pending_commands=bool(self.commands.pools_with_pending(age)),
            has_due_timers=bool(self.commands.due_timers(1)),
            has_inboxes=bool(await self.executions_with_inbox(1)),
            has_due_schedules=False,
            maintenance=False,
        )

    async def ensure_partitions(self) -> None:
        return

    # -- commit

    def _prepare(self, part: ExecutionCommit) -> PreparedCommit:
        """Raises JSONEncodeError."""
        id = part.execution.execution_id
        rows = project(id, part.events, part.pool_of or self._pool, part.execution.path, part.weight)
        rows.commands = [*still_open(rows.commands, part.execution.state), *part.reissued]
        appends = [
            (
                fact["id"],
                Event(
                    fact["type"],
                    fact["at"],
                    step=fact.get("step"),
                    generation=fact.get("generation"),
                    payload=fact["payload"],
                ),
            )
            for fact in part.inbox_facts
        ]
        return PreparedCommit(
            commit=part,
            row=stored_form(execution_row(part)),
            rows=rows,
            events=[stored_event(event) for event in part.events],
            refs=stored_form(part.refs),
            appends=[(other, stored_event(fact)) for other, fact in appends],
            quarantined=stored_form(part.quarantine),
        )

    def _is_current(self, part: ExecutionCommit) -> bool:
        execution = self.executions.get(part.execution.execution_id)
        if execution is None or execution.head != part.expected_head:
            return False
        return all(self._closes(part.execution.execution_id, *close, part.worker) for close in part.closes)

    def _closes(self, id: str, command: str, fence: int, worker: str | None) -> bool:
        row = self.commands.get((id, command))
        return row is not None and (row.fence, row.worker) == (fence, worker) and row.status in ("claimed", "timer")

    def _opened(self, parts: Sequence[ExecutionCommit], good: set[str]) -> set[str]:
        """The executions that are created. Raises UnstorableCommit if a parent would continue without its child."""
        opened: set[str] = set()
        keys: set[str] = set()
        for part in parts:
            if part.new_row is None:
                continue
            id, key = part.execution.execution_id, part.new_row.get("idempotency_key")
            if id not in opened and key not in keys and self._can_open(part, good):
                opened.add(id)
                keys |= {key} if key is not None else set()
            elif part.new_row["parent_execution_id"] in good:
                raise UnstorableCommit(f"the id of the child execution {id} is taken")
        return opened

    def _can_open(self, part: ExecutionCommit, good: set[str]) -> bool:
        assert part.new_row is not None
        key, parent = part.new_row.get("idempotency_key"), part.new_row["parent_execution_id"]
        taken = part.execution.execution_id in self.executions
        known = key is not None and any(other.idempotency_key == key for other in self.executions.values())
        return not taken and not known and (parent is None or parent in good)

    def _check_unwritten(self, each: PreparedCommit) -> None:
        """Raises UnstorableCommit if it would write rows that exist already."""
        execution = self.executions.get(each.id)
        written = len(execution.events) if execution else 0
        for seq, event in enumerate(each.events, written + 1):
            if event.seq != seq:
                raise UnstorableCommit(f"event {event.seq} follows {seq - 1}")
        frames = set(execution.frames) if execution else set()
        for frame in each.rows.frames:
            if frame_key(frame) in frames:
                raise UnstorableCommit(f"the frame {frame_key(frame)} is written twice")
            frames.add(frame_key(frame))

    def _write(self, each: PreparedCommit) -> None:
        part, row = each.commit, each.row
        if part.new_row is not None:
            self.executions[each.id] = ExecutionRow(
                loaded=part.execution,
                workload=stored_form(part.new_row["workload"]),
                parent_id=part.new_row["parent_execution_id"],
                idempotency_key=part.new_row.get("idempotency_key"),
                request_hash=part.new_row.get("request_hash"),
                created_at=part.new_row["at"],
            )
        execution = self.executions[each.id]
        execution.status, execution.head, execution.finished = row["status"], row["head"], row["finished"]
        execution.result, execution.error, execution.ended_at = row.get("result"), row.get("error"), row.get("ended")
        if "state" in row:
            execution.folded, execution.state = row["head"], orjson.dumps(row["state"])
            execution.form = row["state_version"]
        for command, _ in part.closes:
            self.commands.pop((each.id, command), None)
        for taken in part.consumed:
            execution.inbox.pop(taken, None)
        for event in each.events:
            self._store(execution, event)
        for stage in each.rows.stages:
            kept = execution.stages.setdefault((stage["step"], stage["generation"]), stage)
            kept["status"] = stage["status"]
        execution.frames.update({frame_key(frame): frame for frame in each.rows.frames})
        if execution.status != "RUNNING":
            for key in [key for key, held in self.commands.items() if key[0] == each.id and held.status != "dead"]:
                del self.commands[key]
        self._register(each.id, each.refs)

    def _store(self, execution: ExecutionRow, event: Event) -> None:
        execution.events.append(event)

    def _quarantine(self, each: PreparedCommit) -> None:
        if each.quarantined:
            inbox = self.executions[each.id].inbox
            facts = [*each.quarantined["facts"], *[quarantined_fact(fact) for fact in inbox.values()]]
            inbox.clear()
            self.quarantine[each.id] = {**each.quarantined, "facts": facts}
        elif each.quarantined is not None and (freed := self.quarantine.pop(each.id, None)) is not None:
            for fact in freed["facts"] if self.executions[each.id].status == "RUNNING" else ():
                self._put(
                    each.id,
                    Event(
                        fact["type"],
                        fact["at"],
                        step=fact["step"],
                        generation=fact["generation"],
                        command_id=fact["command"],
                        payload=fact["payload"],
                    ),
                )

    def _append(self, id: str, fact: Event) -> bool:
        execution = self.executions.get(id)
        if execution is None or execution.status != "RUNNING":
            return False
        self._put(id, fact)
        return True

    def _put(self, execution_id: str, fact: Event) -> None:
        self._inbox_id += 1
        self.executions[execution_id].inbox[self._inbox_id] = fact

    def _register(self, id: str, refs: Iterable[dict[str, Any]]) -> None:
        for ref in refs:
            self.refs.setdefault((id, ref["key"]), {**ref, "execution_id": id})
