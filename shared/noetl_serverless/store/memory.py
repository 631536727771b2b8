"""The event store's in-memory twin: the same contract, for tests and simulation, with a clock of the caller's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from ..engine.events import Event
from ..engine.evolve import apply
from ..engine.replay import logical_order
from ..engine.state import State
from ..engine.upcast import STATE_VERSION, STATES
from ..protocol import CommandKey, Held
from .log import (
    BEGINNING,
    Case,
    Claimant,
    Committed,
    Dead,
    Known,
    Lease,
    Part,
    Pulse,
    Quarantined,
    Reported,
    Timer,
    execution_row,
    still_open,
)
from .projections import project

Key = tuple[str, str]


@dataclass(slots=True)
class Execution:
    case: Case
    workload: dict[str, Any]
    status: str
    head: int
    folded: int
    # as JSON, so that nobody shares it
    state: bytes
    parent_id: str | None
    idempotency_key: str | None
    request_hash: str | None
    events: list[Event] = field(default_factory=list)
    stages: dict[tuple[str, int], int] = field(default_factory=dict)
    inbox: dict[int, Event] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """A command."""

    row: dict[str, Any]
    issued_at: float
    status: str
    worker: str | None = None
    fence: int = 0
    lease_until: float = 0.0
    deliveries: int = 0
    claimed_at: float = 0.0
    lost: list[dict[str, Any]] = field(default_factory=list)


class MemoryLog:
    """`clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float], pool: Callable[[str], str] = lambda step: "shared") -> None:
        self._clock = clock
        self._pool = pool
        self._fence = 0
        self._inbox_id = 0
        self.executions: dict[str, Execution] = {}
        self.commands: dict[Key, Row] = {}
        self.refs: dict[str, dict[str, Any]] = {}
        self.quarantine: dict[str, dict[str, Any]] = {}

    async def load(self, ids: Sequence[str]) -> dict[str, Case]:
        return {id: self._case(self.executions[id]) for id in ids if id in self.executions}

    async def inbox(self, execution_id: str) -> list[tuple[int, Event]]:
        return list(self.executions[execution_id].inbox.items())

    async def append(self, facts: Sequence[Reported]) -> set[tuple[str, str, int]]:
        accepted = set()
        for fact in facts:
            key = (fact.execution_id, fact.event.command_id or "")
            row = self.commands.get(key)
            if row is None or row.status != "claimed" or (row.fence, row.worker) != (fact.fence, fact.worker):
                continue
            del self.commands[key]
            self._put(fact.execution_id, fact.event)
            self.refs.update({ref["ref"]: {**ref, "execution_id": fact.execution_id} for ref in fact.refs})
            accepted.add((*key, fact.fence))
        return accepted

    async def discard(self, execution_id: str) -> None:
        execution = self.executions[execution_id]
        if execution.status != "RUNNING":
            execution.inbox.clear()

    async def events(self, execution_id: str, after: int = 0, limit: int = 100_000) -> list[Event]:
        execution = self.executions.get(execution_id)
        return [event for event in execution.events if event.seq > after][:limit] if execution else []

    async def started(self, idempotency_key: str) -> Known | None:
        for id, execution in self.executions.items():
            if execution.idempotency_key == idempotency_key:
                return Known(id, execution.case.version, execution.request_hash)
        return None

    async def exclusively(
        self, execution_id: str, decide: Callable[[Case, list[tuple[int, Event]]], Part | None]
    ) -> tuple[Part, Committed] | None:
        execution = self.executions.get(execution_id)
        part = decide(self._case(execution), list(execution.inbox.items())) if execution else None
        return None if part is None else (part, await self.commit([part]))

    async def commit(self, parts: Sequence[Part], claimant: Claimant | None = None) -> Committed:
        good = {part.case.execution_id for part in parts if part.row is None and self._may(part)}
        for part in parts:
            if part.row is not None and self._may_open(part, good):
                good.add(part.case.execution_id)
        claimed: list[Lease] = []
        waiting: list[tuple[str, CommandKey]] = []
        appended: list[str] = []
        for part in parts:
            if part.case.execution_id in good:
                self._write(part)
        for part in parts:
            if part.case.execution_id in good:
                self._issue(part, claimant, claimed, waiting)
                self._keep_apart(part)
                appended += [fact["id"] for fact in part.appends if self._append(fact)]
        return Committed(frozenset(good), claimed, waiting, sorted(set(appended)))

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        wanted = None if keys is None else {(key.execution_id, key.command_id) for key in keys}
        found = [
            key
            for key, row in sorted(self.commands.items(), key=lambda item: item[1].issued_at)
            if row.status == "pending" and row.row["pool"] == claimant.pool and (wanted is None or key in wanted)
        ]
        return [self._lease(key, claimant.worker, claimant.lease) for key in found[: claimant.room]]

    async def held(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        known = {(key.execution_id, key.command_id) for key in holding}
        found = []
        for key, row in self.commands.items():
            if row.status == "claimed" and row.worker == worker and key not in known:
                row.lease_until = self._clock() + lease
                found.append(self._leased(key))
        return found

    async def opening(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        execution = self.executions[execution_id]
        return execution.events[execution.stages[(step, generation)] - 1].payload

    async def extend(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        kept = {(key.execution_id, key.command_id, key.fence) for key in held if self._holds(worker, key)}
        for id, command, _ in kept:
            self.commands[id, command].lease_until = self._clock() + lease
        return kept

    async def release(self, worker: str, held: Sequence[Held]) -> list[tuple[str, CommandKey]]:
        waiting: list[tuple[str, CommandKey]] = []
        for key in held:
            if self._holds(worker, key):
                row = self.commands[(key.execution_id, key.command_id)]
                row.status, row.worker, row.deliveries = "pending", None, row.deliveries - 1
                waiting.append(_pointer(row))
        return waiting

    async def expire(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        waiting: list[tuple[str, CommandKey]] = []
        for row in self._overdue():
            if row.deliveries < deliveries and len(waiting) < limit:
                row.lost = [*row.lost, _lost(row)][-10:]
                row.status, row.worker = "pending", None
                waiting.append(_pointer(row))
        return waiting

    async def poisoned(self, deliveries: int, limit: int) -> list[Dead]:
        return [
            Dead(
                row.row["id"],
                row.row["command"],
                row.fence,
                row.worker,
                row.deliveries,
                row.row["step"],
                row.row["generation"],
                row.row["kind"],
                row.row["seq"],
            )
            for row in self._overdue()
            if row.deliveries >= deliveries
        ][:limit]

    async def bury(self, dead: Dead) -> None:
        event = self.executions[dead.execution_id].events[dead.seq - 1]
        (row,) = project(dead.execution_id, [event], self._pool).commands
        key = (dead.execution_id, dead.command_id)
        self.commands.setdefault(
            key, Row({**row, "status": "dead"}, self._clock(), "dead", dead.worker, 0, 0.0, dead.deliveries)
        )

    async def waiting_pools(self, age: float) -> list[str]:
        latest = self._clock() - age
        return sorted(
            {row.row["pool"] for row in self.commands.values() if row.status == "pending" and row.issued_at < latest}
        )

    async def due(self, limit: int, after: datetime = BEGINNING) -> list[Timer]:
        now, since = self._clock() * 1000, after.timestamp() * 1000
        rows = [row.row for row in self.commands.values() if row.status == "timer" and since <= row.row["due"] <= now]
        return [
            Timer(
                row["id"],
                row["command"],
                row["step"],
                row["generation"],
                datetime.fromtimestamp(row["due"] / 1000, UTC),
            )
            for row in sorted(rows, key=lambda row: row["due"])[:limit]
        ]

    async def lagging(self, limit: int, after: str = "0") -> list[str]:
        waiting = [int(id) for id, execution in self.executions.items() if execution.inbox and int(id) > int(after)]
        return [str(id) for id in sorted(waiting)[:limit]]

    async def quarantined(self, limit: int, after: str = "0", execution_id: str | None = None) -> list[Quarantined]:
        ids = [id for id in self.quarantine if int(id) > int(after) and execution_id in (None, id)]
        found = []
        for id in sorted(ids, key=int)[:limit]:
            row, case = self.quarantine[id], self.executions[id].case
            at = datetime.fromtimestamp(row["at"] / 1000, UTC)
            found.append(Quarantined(id, case.path, case.version, row["seq"], at, row["error"], row["facts"]))
        return found

    async def drop_quarantined(self, execution_id: str) -> bool:
        return self.quarantine.pop(execution_id, None) is not None

    async def is_below(self, execution_id: str, above: str) -> bool:
        execution = self.executions.get(execution_id)
        if execution is None or execution.parent_id is None:
            return False
        return execution.parent_id == above or await self.is_below(execution.parent_id, above)

    async def children(self, execution_id: str) -> list[str]:
        return [
            id
            for id, execution in self.executions.items()
            if execution.parent_id == execution_id and execution.status == "RUNNING"
        ]

    async def pulse(self, age: float) -> Pulse:
        return Pulse(
            expired=any(True for _ in self._overdue()),
            waiting=bool(await self.waiting_pools(age)),
            due=bool(await self.due(1)),
            lagging=bool(await self.lagging(1)),
            scheduled=False,
            chores=False,
        )

    async def ensure_partitions(self) -> None:
        return

    # -- commit

    def _may(self, part: Part) -> bool:
        execution = self.executions.get(part.case.execution_id)
        if execution is None or execution.head != part.expect:
            return False
        return all(self._closes(part.case.execution_id, *close, part.worker) for close in part.closes)

    def _closes(self, id: str, command: str, fence: int, worker: str | None) -> bool:
        row = self.commands.get((id, command))
        return row is not None and (row.fence, row.worker) == (fence, worker) and row.status in ("claimed", "timer")

    def _may_open(self, part: Part, good: set[str]) -> bool:
        assert part.row is not None
        key, parent = part.row.get("idempotency_key"), part.row["parent_execution_id"]
        taken = part.case.execution_id in self.executions
        known = key is not None and any(other.idempotency_key == key for other in self.executions.values())
        return not taken and not known and (parent is None or parent in good)

    def _write(self, part: Part) -> None:
        id = part.case.execution_id
        row = json.loads(orjson.dumps(execution_row(part)))
        if part.row is not None:
            self.executions[id] = Execution(
                part.case,
                part.row["workload"],
                row["status"],
                0,
                0,
                b"",
                part.row["parent_execution_id"],
                part.row.get("idempotency_key"),
                part.row.get("request_hash"),
            )
        execution = self.executions[id]
        execution.status, execution.head = row["status"], row["head"]
        if "state" in row:
            execution.folded, execution.state = row["head"], orjson.dumps(row["state"])
        for command, _ in part.closes:
            del self.commands[(id, command)]
        for taken in part.taken:
            del execution.inbox[taken]
        for event in part.events:
            self._store(execution, event)
        if execution.status != "RUNNING":
            for key in [key for key, held in self.commands.items() if key[0] == id and held.status != "dead"]:
                del self.commands[key]
        self.refs.update({ref["ref"]: {**ref, "execution_id": id} for ref in part.refs})

    def _store(self, execution: Execution, event: Event) -> None:
        if event.seq != len(execution.events) + 1:
            raise AssertionError(f"event {event.seq} follows {len(execution.events)}")
        execution.events.append(replace(event, payload=json.loads(orjson.dumps(event.payload))))
        for stage in project(execution.case.execution_id, [event], self._pool).stages:
            execution.stages.setdefault((stage["step"], stage["generation"]), stage["seq"])

    def _issue(
        self, part: Part, claimant: Claimant | None, claimed: list[Lease], waiting: list[tuple[str, CommandKey]]
    ) -> None:
        id = part.case.execution_id
        made = project(id, part.events, part.pool or self._pool).commands
        rows = [*still_open(made, part.case.state), *part.again]
        for row in rows:
            key = (id, row["command"])
            self.commands.setdefault(key, Row(row, self._clock(), row["status"]))
            takes = claimant is not None and len(claimed) < claimant.room and row["pool"] == claimant.pool
            if row["status"] == "pending" and takes and claimant is not None:
                claimed.append(self._lease(key, claimant.worker, claimant.lease))
            elif row["status"] == "pending":
                waiting.append(_pointer(self.commands[key]))

    def _keep_apart(self, part: Part) -> None:
        id = part.case.execution_id
        if part.quarantined:
            self.quarantine[id] = json.loads(orjson.dumps(part.quarantined))
        elif part.quarantined is not None and (freed := self.quarantine.pop(id, None)) is not None:
            for fact in freed["facts"] if self.executions[id].status == "RUNNING" else ():
                names = (fact["step"], fact["generation"], fact["command"])
                self._put(id, Event(fact["type"], fact["at"], 0, None, *names, fact["payload"]))

    def _append(self, fact: dict[str, Any]) -> bool:
        if fact["id"] not in self.executions or self.executions[fact["id"]].status != "RUNNING":
            return False
        event = Event(
            fact["type"], fact["at"], 0, None, fact.get("step"), fact.get("generation"), None, fact["payload"]
        )
        self._put(fact["id"], event)
        return True

    def _put(self, execution_id: str, event: Event) -> None:
        self._inbox_id += 1
        kept = replace(event, payload=json.loads(orjson.dumps(event.payload)))
        self.executions[execution_id].inbox[self._inbox_id] = kept

    # -- rows

    def _case(self, execution: Execution) -> Case:
        id, broken = execution.case.execution_id, None
        try:
            state = STATES.restore(orjson.loads(execution.state), STATE_VERSION, execution.workload)
            for event in logical_order(execution.events[execution.folded :]):
                apply(state, event)
        except Exception as error:
            state, broken = State(id, seq=execution.head, status="running", workload=execution.workload), error
        return replace(execution.case, state=state, head=execution.head, snapshot=execution.folded, broken=broken)

    def _holds(self, worker: str, key: Held) -> bool:
        row = self.commands.get((key.execution_id, key.command_id))
        return row is not None and row.status == "claimed" and (row.fence, row.worker) == (key.fence, worker)

    def _overdue(self) -> list[Row]:
        now = self._clock()
        return [row for row in self.commands.values() if row.status == "claimed" and row.lease_until < now]

    def _lease(self, key: Key, worker: str, lease: float) -> Lease:
        row = self.commands[key]
        self._fence += 1
        row.status, row.worker, row.fence = "claimed", worker, self._fence
        row.lease_until, row.deliveries = self._clock() + lease, row.deliveries + 1
        row.claimed_at = self._clock()
        return self._leased(key)

    def _leased(self, key: Key) -> Lease:
        row, execution = self.commands[key], self.executions[key[0]]
        step, generation, seq = row.row["step"], row.row["generation"], row.row["seq"]
        until = datetime.fromtimestamp(row.lease_until, UTC).isoformat().replace("+00:00", "Z")
        order = execution.events[seq - 1].payload
        opening = (
            execution.events[execution.stages[(step, generation)] - 1].payload if order["kind"] == "frame" else None
        )
        lost = row.lost or None
        return Lease(*key, row.fence, until, row.deliveries, seq, step, generation, order, opening, lost)


def _lost(row: Row) -> dict[str, Any]:
    return {
        "worker": row.worker,
        "delivery": row.deliveries,
        "claimed_at": int(row.claimed_at * 1000),
        "lease_until": int(row.lease_until * 1000),
    }


def _pointer(row: Row) -> tuple[str, CommandKey]:
    return row.row["pool"], CommandKey(execution_id=row.row["id"], command_id=row.row["command"])
