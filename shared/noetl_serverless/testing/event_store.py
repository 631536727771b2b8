"""The event store in memory: does what `PostgresEventStore` does, row for row, for tests, simulation and private runs.

Everything that can be refused is refused before anything is written, so that a call that raises has changed nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from .. import limits
from ..engine import events as e
from ..engine.events import Event
from ..engine.evolve import apply
from ..engine.replay import logical_order
from ..engine.upcast import STATE_VERSION, STATES
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
from ..store.loaded_execution import placeholder_state, quarantined_fact
from ..store.projections import Rows, claim_issued, execution_row, project, still_open
from .fair_claims import FairClaims, Key, PendingQueue

# how many lost leases of a command are kept
MAX_LOST = 10


@dataclass(kw_only=True, slots=True)
class ExecutionRow:
    loaded: LoadedExecution
    workload: dict[str, Any]
    parent_id: str | None
    idempotency_key: str | None
    request_hash: str | None
    # in ms
    created_at: int
    status: str = "RUNNING"
    head: int = 0
    folded: int = 0
    finished: int = 0
    # as JSON, so that it is never shared
    state: bytes = b""
    # the version of the state
    form: int = STATE_VERSION
    result: Any = None
    error: Any = None
    ended_at: int | None = None
    events: list[Event] = field(default_factory=list)
    # step, generation; the frames also by their first item
    stages: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    frames: dict[tuple[str, int, int], dict[str, Any]] = field(default_factory=dict)
    inbox: dict[int, Event] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class CommandRow:
    """A command. Without a lease `lease_until` is 0."""

    row: dict[str, Any]
    issued_at: float
    status: str
    worker: str | None = None
    fence: int = 0
    lease_until: float = 0.0
    deliveries: int = 0
    claimed_at: float = 0.0
    lost: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class PreparedCommit:
    """A commit that is to be written, with everything in its stored form."""

    commit: ExecutionCommit
    row: dict[str, Any]
    rows: Rows
    events: list[Event]
    refs: list[dict[str, Any]]
    # (execution id, fact) for other executions
    appends: list[tuple[str, Event]]
    quarantined: dict[str, Any] | None

    @property
    def id(self) -> str:
        return self.commit.execution.execution_id


class MemoryEventStore(EventStore):
    """`clock`: seconds since 1970."""

    def __init__(self, clock: Callable[[], float], pool: Callable[[str], str] = lambda step: "shared") -> None:
        self._clock = clock
        self._pool = pool
        self._fence = 0
        self._fair_claims = FairClaims()
        self._inbox_id = 0
        self.executions: dict[str, ExecutionRow] = {}
        self.commands: dict[Key, CommandRow] = {}
        # by execution and key
        self.refs: dict[Key, dict[str, Any]] = {}
        self.quarantine: dict[str, dict[str, Any]] = {}

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        return {id: self._loaded(self.executions[id]) for id in ids if id in self.executions}

    async def read_inbox(self, execution_id: str) -> Inbox:
        execution = self.executions.get(execution_id)
        return _inbox_page(execution.inbox) if execution else Inbox([])

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        accepted = set()
        for fact, event, refs in [(fact, _stored_event(fact.event), _stored_form(fact.refs)) for fact in facts]:
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
        part = decide(_LockedInMemory(self, execution)) if execution else None
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
        claimed = self._issue(issued)
        waiting = [_pointer(row) for row in issued.values() if row["status"] == "pending"]
        appended = {id for each in writing for id, fact in each.appends if self._append(id, fact)}
        for each in writing:
            self._quarantine(each)
        return CommitResult(frozenset(good), claimed, waiting, sorted(appended))

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        wanted = None if keys is None else {(key.execution_id, key.command_id) for key in keys}
        found = [
            key
            for key, row in self.commands.items()
            if row.status == "pending" and row.row["pool"] == claimant.pool and (wanted is None or key in wanted)
        ]
        found = self._in_order(found)
        taken = found[: claimant.limit] if keys is not None else self._in_fair_order(found, claimant.limit)
        until = self._clock() + claimant.lease_seconds
        for key in taken:
            self._lease(key, claimant.worker, until)
        return self._leases(taken)

    async def recover_leases(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        known = {(key.execution_id, key.command_id) for key in holding}
        until = self._clock() + lease
        found = [
            key
            for key, row in self.commands.items()
            if row.status == "claimed" and row.worker == worker and key not in known
        ]
        for key in found:
            self.commands[key].lease_until = until
        return self._leases(found)

    async def loop_opened(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        execution = self.executions[execution_id]
        seq: int = execution.stages[(step, generation)]["seq"]
        return execution.events[seq - 1].payload

    async def extend_leases(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        kept = {(key.execution_id, key.command_id, key.fence) for key in held if self._holds(worker, key)}
        until = self._clock() + lease
        for id, command, _ in kept:
            self.commands[id, command].lease_until = until
        return kept

    async def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        waiting: list[tuple[str, CommandKey]] = []
        for key, had_begun in (*((key, True) for key in begun), *((key, False) for key in held)):
            if self._holds(worker, key):
                row = self.commands[(key.execution_id, key.command_id)]
                if had_begun:
                    row.lost = _with_lost_lease(row, self._clock())
                row.status, row.worker, row.lease_until = "pending", None, 0.0
                row.deliveries -= 1
                waiting.append(_pointer(row.row))
        return waiting

    async def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        waiting: list[tuple[str, CommandKey]] = []
        for row in self._overdue():
            if row.deliveries < deliveries and len(waiting) < limit:
                row.lost = _with_lost_lease(row, None)
                row.status, row.worker, row.lease_until = "pending", None, 0.0
                waiting.append(_pointer(row.row))
        return waiting

    async def undeliverable(self, deliveries: int, limit: int) -> list[DeadLetter]:
        return [
            DeadLetter(
                execution_id=row.row["id"],
                command_id=row.row["command"],
                fence=row.fence,
                worker=row.worker,
                deliveries=row.deliveries,
                step=row.row["step"],
                generation=row.row["generation"],
                kind=row.row["kind"],
                seq=row.row["seq"],
            )
            for row in self._overdue()
            if row.deliveries >= deliveries
        ][:limit]

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

    async def pools_with_pending(self, age: float) -> list[str]:
        latest = self._clock() - age
        return sorted(
            {row.row["pool"] for row in self.commands.values() if row.status == "pending" and row.issued_at < latest}
        )

    async def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        now, since = self._clock() * 1000, after.timestamp() * 1000
        rows = [row.row for row in self.commands.values() if row.status == "timer" and since <= row.row["due"] <= now]
        return [
            DueTimer(
                execution_id=row["id"],
                name=row["command"],
                step=row["step"],
                generation=row["generation"],
                due_at=datetime.fromtimestamp(row["due"] / 1000, UTC),
            )
            for row in sorted(rows, key=lambda row: row["due"])[:limit]
        ]

    async def executions_with_inbox(self, limit: int, after: str = "0") -> list[str]:
        waiting = [int(id) for id, execution in self.executions.items() if execution.inbox and int(id) > int(after)]
        return [str(id) for id in sorted(waiting)[:limit]]

    async def list_quarantined(self, limit: int, after: str = "0") -> list[QuarantinedExecution]:
        ids = [id for id in self.quarantine if int(id) > int(after)]
        return [replace(self.quarantined(id), facts=[]) for id in sorted(ids, key=int)[:limit]]

    async def get_quarantined(self, execution_id: str) -> QuarantinedExecution | None:
        return self.quarantined(execution_id) if execution_id in self.quarantine else None

    async def is_descendant(self, execution_id: str, ancestor: str) -> bool:
        execution = self.executions.get(execution_id)
        if execution is None or execution.parent_id is None:
            return False
        return execution.parent_id == ancestor or await self.is_descendant(execution.parent_id, ancestor)

    async def running_children(self, execution_id: str) -> list[str]:
        return self._running_children(execution_id)

    def _running_children(self, execution_id: str) -> list[str]:
        return [
            id
            for id, execution in self.executions.items()
            if execution.parent_id == execution_id and execution.status == "RUNNING"
        ]

    async def pending_work(self, age: float) -> PendingWork:
        return PendingWork(
            has_expired_leases=any(True for _ in self._overdue()),
            has_pending_commands=bool(await self.pools_with_pending(age)),
            has_due_timers=bool(await self.due_timers(1)),
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
            row=_stored_form(execution_row(part)),
            rows=rows,
            events=[_stored_event(event) for event in part.events],
            refs=_stored_form(part.refs),
            appends=[(other, _stored_event(fact)) for other, fact in appends],
            quarantined=_stored_form(part.quarantine),
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
            if _frame(frame) in frames:
                raise UnstorableCommit(f"the frame {_frame(frame)} is written twice")
            frames.add(_frame(frame))

    def _write(self, each: PreparedCommit) -> None:
        part, row = each.commit, each.row
        if part.new_row is not None:
            self.executions[each.id] = ExecutionRow(
                loaded=part.execution,
                workload=_stored_form(part.new_row["workload"]),
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
        execution.frames.update({_frame(frame): frame for frame in each.rows.frames})
        if execution.status != "RUNNING":
            for key in [key for key, held in self.commands.items() if key[0] == each.id and held.status != "dead"]:
                del self.commands[key]
        self._register(each.id, each.refs)

    def _store(self, execution: ExecutionRow, event: Event) -> None:
        execution.events.append(event)

    def _issue(self, issued: dict[Key, dict[str, Any]]) -> list[Lease]:
        """The leases of commands that are claimed with the commit. A command that exists already stays as it is."""
        now, claimed = self._clock(), []
        for key, row in issued.items():
            if key in self.commands:
                continue
            self.commands[key] = CommandRow(
                row=row, issued_at=now, status="timer" if row["status"] == "timer" else "pending"
            )
            if row["status"] == "claimed":
                self._lease(key, row["worker"], now + row["lease"])
                claimed.append(self._leased(key))
        # the lease includes its order; the opening of its loop is loaded separately
        return [replace(lease, loop_opened=None) for lease in claimed]

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

    # -- rows

    def _loaded(self, execution: ExecutionRow) -> LoadedExecution:
        id, broken = execution.loaded.execution_id, None
        kept, newer = orjson.loads(execution.state), execution.events[execution.folded :]
        try:
            state = STATES.restore(kept, execution.form, execution.workload)
            for event in logical_order(newer):
                apply(state, event)
        except Exception as error:
            state, broken = placeholder_state(id, execution.head, execution.workload, kept, newer), error
        return replace(execution.loaded, state=state, head=execution.head, snapshot=execution.folded, read_error=broken)

    def quarantined(self, id: str) -> QuarantinedExecution:
        row, execution = self.quarantine[id], self.executions[id].loaded
        at = datetime.fromtimestamp(row["at"] / 1000, UTC)
        facts = row["facts"]
        return QuarantinedExecution(
            execution_id=id,
            path=execution.path,
            version=execution.version,
            seq=row["seq"],
            at=at,
            error=row["error"],
            fact_count=len(facts),
            facts=facts,
        )

    def _holds(self, worker: str, key: Held) -> bool:
        row = self.commands.get((key.execution_id, key.command_id))
        return row is not None and row.status == "claimed" and (row.fence, row.worker) == (key.fence, worker)

    def _overdue(self) -> list[CommandRow]:
        now = self._clock()
        late = [row for row in self.commands.values() if row.status == "claimed" and row.lease_until < now]
        return sorted(late, key=lambda row: row.lease_until)

    def _lease(self, key: Key, worker: str, until: float) -> None:
        row = self.commands[key]
        self._fence += 1
        row.status, row.worker, row.fence = "claimed", worker, self._fence
        row.lease_until, row.deliveries = until, row.deliveries + 1
        row.claimed_at = self._clock()

    def _in_order(self, keys: Iterable[Key]) -> list[Key]:
        """The keys, longest waiting first."""

        def waited(key: Key) -> tuple[float, int, int]:
            row = self.commands[key]
            return row.issued_at, int(key[0]), row.row["seq"]

        return sorted(keys, key=waited)

    def _in_fair_order(self, keys: Iterable[Key], room: int) -> list[Key]:
        """At most `room` of `keys`, which are in order."""
        waiting: dict[str, list[Key]] = {}
        for key in keys:
            waiting.setdefault(key[0], []).append(key)
        heads = {id: self.commands[queue[0]].row for id, queue in waiting.items()}
        queues = {id: PendingQueue(waiting[id], head["playbook"], head["weight"]) for id, head in heads.items()}
        held = [(key, row.row) for key, row in self.commands.items() if row.status == "claimed"]
        running = Counter(key[0] for key, _ in held)
        return self._fair_claims.take(queues, running, {row["playbook"] for _, row in held}, room)

    def _leases(self, keys: Iterable[Key]) -> list[Lease]:
        return [self._leased(key) for key in self._in_order(keys)]

    def _leased(self, key: Key) -> Lease:
        row, execution = self.commands[key], self.executions[key[0]]
        step, generation, seq = row.row["step"], row.row["generation"], row.row["seq"]
        until = datetime.fromtimestamp(row.lease_until, UTC).isoformat().replace("+00:00", "Z")
        order = execution.events[seq - 1].payload
        stage = execution.stages.get((step, generation)) if order["kind"] == "frame" else None
        opening = execution.events[stage["seq"] - 1].payload if stage else None
        return Lease(
            execution_id=key[0],
            command_id=key[1],
            fence=row.fence,
            lease_until=until,
            delivery=row.deliveries,
            seq=seq,
            step=step,
            generation=generation,
            issued=order,
            loop_opened=opening,
            lost=row.lost or None,
        )


def _inbox_page(inbox: Mapping[int, Event]) -> Inbox:
    """As `noetl.waiting` does in PostgreSQL."""
    facts: list[tuple[int, Event]] = []
    size = 0
    for place, fact in inbox.items():
        if len(facts) == limits.INBOX_FACTS or size >= limits.INBOX_BYTES:
            return Inbox(facts, more=True)
        facts.append((place, fact))
        size += len(orjson.dumps(fact.payload))
    return Inbox(facts)


class _LockedInMemory(LockedExecution):
    """An execution while a call is under way, during which nothing else happens."""

    def __init__(self, log: MemoryEventStore, row: ExecutionRow) -> None:
        self.execution = log._loaded(row)
        self._log = log
        self._row = row

    def inbox(self) -> Inbox:
        return _inbox_page(self._row.inbox)

    def quarantined(self) -> QuarantinedExecution | None:
        id = self.execution.execution_id
        return self._log.quarantined(id) if id in self._log.quarantine else None

    def issued(self) -> list[Event]:
        state = self.execution.state
        return [
            event
            for event in self._row.events
            if (event.type == e.ISSUED and event.command_id in state.commands)
            or (event.type == e.TIMER_SET and event.payload["timer"] in state.timers)
        ]

    def ended_children(self) -> list[LoadedExecution]:
        found = [self._log.executions[id] for id in self.execution.state.children if id in self._log.executions]
        return [self._log._loaded(child) for child in found if child.status != "RUNNING"]

    def running_children(self) -> list[str]:
        return self._log._running_children(self.execution.execution_id)


def _with_lost_lease(row: CommandRow, at: float | None) -> list[dict[str, Any]]:
    """The lost leases of a command, including the current one. `at`: when it was released; None if it expired."""
    holder = {
        "worker": row.worker,
        "delivery": row.deliveries,
        "claimed_at": int(row.claimed_at * 1000),
        "lease_until": int(row.lease_until * 1000),
    }
    return [*row.lost, holder if at is None else {**holder, "given_back_at": int(at * 1000)}][-MAX_LOST:]


def _stored_form(value: Any) -> Any:
    """A copy in stored form: not shared with anything, and as it comes back from JSON."""
    return orjson.loads(orjson.dumps(value))


def _stored_event(event: Event) -> Event:
    return replace(event, payload=_stored_form(event.payload))


def _frame(row: dict[str, Any]) -> tuple[str, int, int]:
    return row["step"], row["generation"], row["start"]


def _pointer(row: dict[str, Any]) -> tuple[str, CommandKey]:
    return row["pool"], CommandKey(execution_id=row["id"], command_id=row["command"])
