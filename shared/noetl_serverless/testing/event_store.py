"""The event store in memory: does what `PostgresEventStore` does, row for row, for tests, simulation and private runs.

Everything that can be refused is refused before anything is written, so that a call that raises has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    RelatedRestart,
    ReportedFact,
    Startable,
    UnstorableCommit,
)
from ..store.loaded_execution import quarantined_fact
from ..store.projections import claim_issued, execution_row, project, still_open
from .commands import CommandTable
from .fair_claims import Key
from .limits import FEW
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
    related_restarts,
    running_descendants,
    running_restarts,
    stored_event,
    stored_form,
)


@contextmanager
def _encoding() -> Iterator[None]:
    """Turn errors about values that cannot be stored into UnstorableCommit."""
    try:
        yield
    except orjson.JSONEncodeError as error:
        raise UnstorableCommit(str(error)) from error


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
        with _encoding():
            stored = [(fact, stored_event(fact.event), stored_form(fact.refs)) for fact in facts]
        for fact, event, refs in stored:
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

    async def events(self, execution_id: str) -> list[Event]:
        execution = self.executions.get(execution_id)
        return list(execution.events) if execution else []

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
        commit = decide(LockedInMemory(execution, self.executions, self.quarantine)) if execution else None
        return None if commit is None else (commit, await self.commit([commit]))

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        with _encoding():
            all_prepared = [self._prepare(commit) for commit in commits]
        commands = [row for prepared in all_prepared for row in prepared.rows.commands]
        if claimant is not None:
            claim_issued(commands, claimant)
        good = {
            commit.execution.execution_id for commit in commits if commit.new_row is None and self._is_current(commit)
        }
        good |= self._opened(commits, good)
        writing = [prepared for prepared in all_prepared if prepared.id in good]
        freed = self._freed(writing)
        for prepared in writing:
            self._check_unwritten(prepared)
        for prepared in writing:
            self._write(prepared)
        issued = {(row["id"], row["command"]): row for row in commands if row["id"] in good}
        claimed = self.commands.issue(issued)
        waiting = [pending_pointer(row) for row in issued.values() if row["status"] == "pending"]
        appended = {id for prepared in writing for id, fact in prepared.appends if self._append(id, fact)}
        for prepared in writing:
            self._quarantine(prepared)
        found = Startable([])
        if any("limits" in row for row in commands) or any(commit.frees for commit in commits):
            limited = {key for key, row in issued.items() if row["status"] == "limited"}
            left = {self.commands.limits.leave(prepared.id) for prepared in writing if self._leaves(prepared)}
            found = self.commands.limits.first_in_line(FEW, limited, freed, {key for key in left if key is not None})
            # not limited any more, since its execution has begun
            let_in = [
                pending_pointer(issued[key])
                for key in issued
                if key in limited and self.commands[key].status == "pending"
            ]
            found = replace(found, commands=[*let_in, *found.commands])
        # what may begin is a hint, in which a commit does not leave out what it pauses
        waiting += [pointer for prepared in writing for pointer in self._pause(prepared)]
        return CommitResult(
            frozenset(good), claimed, waiting, sorted(appended), startable=found.commands, next_start=found.next_start
        )

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

    async def startable(self, limit: int) -> Startable:
        return self.commands.limits.startable(limit)

    async def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        return self.commands.due_timers(limit, after)

    async def timers(self, execution_id: str) -> dict[str, int]:
        return self.commands.timers(execution_id)

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
        if execution_id == ancestor:
            return False
        line = {ancestor}
        while (goes_on := self.executions.get(ancestor)) is not None and goes_on.restart_of is not None:
            ancestor = goes_on.restart_of
            line.add(ancestor)
        if execution_id in line:
            return True
        execution = self.executions.get(execution_id)
        while execution is not None and execution.parent_id is not None:
            if execution.parent_id in line:
                return True
            execution = self.executions.get(execution.parent_id)
        return False

    async def related_restarts(self, execution_id: str) -> list[RelatedRestart]:
        return related_restarts(self.executions, self.quarantine, execution_id)

    async def running_restarts(self, execution_id: str) -> dict[str, str]:
        return running_restarts(self.executions, await self.related_restarts(execution_id))

    async def running_descendants(self, execution_id: str) -> list[str]:
        return running_descendants(self.executions, execution_id)

    async def pending_work(self, age: float) -> PendingWork:
        return PendingWork(
            has_expired_leases=self.commands.has_expired_leases(),
            has_pending_commands=bool(self.commands.pools_with_pending(age)),
            has_due_timers=bool(self.commands.due_timers(1)),
            has_inboxes=bool(await self.executions_with_inbox(1)),
            has_due_schedules=False,
            maintenance=False,
            has_limited_commands=bool(self.commands.limits.waiting()),
        )

    async def ensure_partitions(self) -> None:
        return

    # -- commit

    def _prepare(self, commit: ExecutionCommit) -> PreparedCommit:
        """Raises JSONEncodeError."""
        id = commit.execution.execution_id
        pool, paused = commit.pool_of or self._pool, commit.execution.state.paused is not None
        rows = project(id, commit.events, pool, commit.execution.path, commit.weight, paused=paused)
        rows.commands = [*still_open(rows.commands, commit.execution.state), *commit.reissued]
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
            for fact in commit.inbox_facts
        ]
        return PreparedCommit(
            commit=commit,
            row=stored_form(execution_row(commit)),
            rows=rows,
            events=[stored_event(event) for event in commit.events],
            refs=stored_form(commit.refs),
            appends=[(other, stored_event(fact)) for other, fact in appends],
            quarantined=stored_form(commit.quarantine),
            variables=stored_form(commit.variables),
        )

    def _is_current(self, commit: ExecutionCommit) -> bool:
        execution = self.executions.get(commit.execution.execution_id)
        if execution is None or execution.head != commit.expected_head:
            return False
        return all(self._closes(commit.execution.execution_id, *close, commit.worker) for close in commit.closes)

    def _closes(self, id: str, command: str, fence: int, worker: str | None) -> bool:
        row = self.commands.get((id, command))
        return row is not None and (row.fence, row.worker) == (fence, worker) and row.status in ("claimed", "timer")

    def _opened(self, commits: Sequence[ExecutionCommit], good: set[str]) -> set[str]:
        """The executions that are created. Raises UnstorableCommit if a parent would continue without its child."""
        opened: set[str] = set()
        keys: set[str] = set()
        for commit in commits:
            if commit.new_row is None:
                continue
            id, key = commit.execution.execution_id, commit.new_row.get("idempotency_key")
            if id not in opened and key not in keys and self._can_open(commit, good):
                opened.add(id)
                keys |= {key} if key is not None else set()
            elif commit.new_row["parent_execution_id"] in good:
                raise UnstorableCommit(f"the id of the child execution {id} is taken")
        return opened

    def _can_open(self, commit: ExecutionCommit, good: set[str]) -> bool:
        assert commit.new_row is not None
        key, parent = commit.new_row.get("idempotency_key"), commit.new_row["parent_execution_id"]
        if (restart_of := commit.new_row.get("restart_of")) is not None:
            related = related_restarts(self.executions, self.quarantine, restart_of)
            known, undoes = commit.new_row["related"], commit.new_row["undoes"]
            if any(
                (undoes and it.is_open) or (it.execution_id not in known and (undoes or it.undoes)) for it in related
            ):
                return False
            if not running_restarts(self.executions, related).keys() <= {*commit.new_row.get("seen", ())}:
                return False
        taken = commit.execution.execution_id in self.executions
        known = key is not None and any(other.idempotency_key == key for other in self.executions.values())
        return not taken and not known and (parent is None or parent in good)

    def _check_unwritten(self, prepared: PreparedCommit) -> None:
        """Raises UnstorableCommit if it would write rows that exist already."""
        execution = self.executions.get(prepared.id)
        written = len(execution.events) if execution else 0
        for seq, event in enumerate(prepared.events, written + 1):
            if event.seq != seq:
                raise UnstorableCommit(f"event {event.seq} follows {seq - 1}")
        frames = set(execution.frames) if execution else set()
        for frame in prepared.rows.frames:
            if frame_key(frame) in frames:
                raise UnstorableCommit(f"the frame {frame_key(frame)} is written twice")
            frames.add(frame_key(frame))

    def _write(self, prepared: PreparedCommit) -> None:
        commit, row = prepared.commit, prepared.row
        if commit.new_row is not None:
            self.executions[prepared.id] = ExecutionRow(
                loaded=commit.execution,
                workload=stored_form(commit.new_row["workload"]),
                parent_id=commit.new_row["parent_execution_id"],
                restart_of=commit.new_row.get("restart_of"),
                idempotency_key=commit.new_row.get("idempotency_key"),
                request_hash=commit.new_row.get("request_hash"),
                created_at=commit.new_row["at"],
                status=row["status"],
                head=row["head"],
                folded=row["head"],
                finished=row["finished"],
            )
        execution = self.executions[prepared.id]
        execution.status, execution.head, execution.finished = row["status"], row["head"], row["finished"]
        execution.result, execution.error, execution.ended_at = row.get("result"), row.get("error"), row.get("ended")
        if "state" in row:
            execution.folded, execution.state = row["head"], orjson.dumps(row["state"])
            execution.form = row["state_version"]
        for command, _ in commit.closes:
            self.commands.pop((prepared.id, command), None)
        for command in commit.drops:
            held = self.commands.get((prepared.id, command))
            if held is not None and held.status != "dead":
                del self.commands[prepared.id, command]
        for taken in commit.consumed:
            execution.inbox.pop(taken, None)
        for event in prepared.events:
            self._store(execution, event)
        if prepared.variables is not None:
            for name in prepared.variables["gone"]:
                execution.variables.pop(name, None)
            execution.variables.update({row["name"]: row for row in prepared.variables["set"]})
        for stage in prepared.rows.stages:
            kept = execution.stages.setdefault((stage["step"], stage["generation"]), stage)
            kept["status"] = stage["status"]
        execution.frames.update({frame_key(frame): frame for frame in prepared.rows.frames})
        if execution.status != "RUNNING":
            for key in [key for key, held in self.commands.items() if key[0] == prepared.id and held.status != "dead"]:
                del self.commands[key]
        self._register(prepared.id, prepared.refs)

    def _pause(self, prepared: PreparedCommit) -> list[tuple[str, CommandKey]]:
        pause = prepared.commit.pause
        if pause is None:
            return []
        self.executions[prepared.id].is_paused = pause["at"] is not None
        if pause["at"] is None:
            return self.commands.go_on(prepared.id, pause["timers"])
        self.commands.pause(prepared.id)
        return []

    def _freed(self, writing: Sequence[PreparedCommit]) -> set[str]:
        """The keys of slots of what is about to end."""
        ending: list[Key] = []
        for prepared in writing:
            commit = prepared.commit
            ending += [(prepared.id, command) for command in (*(name for name, _ in commit.closes), *commit.drops)]
            if commit.ended_at_ms is not None:
                ending += [key for key in self.commands if key[0] == prepared.id]
        return self.commands.limits.keys_of(ending)

    def _leaves(self, prepared: PreparedCommit) -> bool:
        """Whether it ends for good; in quarantine it may go on."""
        return prepared.commit.ended_at_ms is not None and prepared.id not in self.quarantine

    def _store(self, execution: ExecutionRow, event: Event) -> None:
        execution.events.append(event)

    def _quarantine(self, prepared: PreparedCommit) -> None:
        if prepared.quarantined:
            inbox = self.executions[prepared.id].inbox
            facts = [*prepared.quarantined["facts"], *[quarantined_fact(fact) for fact in inbox.values()]]
            inbox.clear()
            self.quarantine[prepared.id] = {**prepared.quarantined, "facts": facts}
        elif prepared.quarantined is not None and (freed := self.quarantine.pop(prepared.id, None)) is not None:
            for fact in freed["facts"] if self.executions[prepared.id].status == "RUNNING" else ():
                self._put(
                    prepared.id,
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
