"""The commands of the event store in memory: pending, claimed, dead, and timers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..protocol import CommandKey, Held
from ..records import EPOCH, Claimant, DeadLetter, DueTimer, Lease
from .fair_claims import FairClaims, Key, PendingQueue
from .limits import Limits
from .rows import CommandRow, ExecutionRow, pending_pointer, with_lost_lease


class CommandTable(dict[Key, CommandRow]):
    """The rows of `noetl.command` by execution and command id, and the statements that claim and release them.

    `clock`: seconds since 1970; `executions`: by id, only read."""

    def __init__(self, clock: Callable[[], float], executions: Mapping[str, ExecutionRow]) -> None:
        self._clock = clock
        self._executions = executions
        self._fence = 0
        self._fair_claims = FairClaims()
        self.limits = Limits(clock, self, executions)
        # which half of the room for a claim without keys is the greater one
        self._limited_first = False

    def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        wanted = None if keys is None else {(key.execution_id, key.command_id) for key in keys}
        until = self._clock() + claimant.lease_seconds

        def lease(key: Key) -> None:
            self.lease(key, claimant.worker, until)

        taken: list[Key] = []
        if wanted is None and self.limits.waiting(claimant.pool):
            self._limited_first = not self._limited_first
            taken = self.limits.take(claimant, (claimant.limit + self._limited_first) // 2, None, lease)
        room = claimant.limit - len(taken)
        found = [
            key
            for key, row in self.items()
            if row.status == "pending" and row.row["pool"] == claimant.pool and (wanted is None or key in wanted)
        ]
        found = self._in_order(found)
        plain = found[:room] if keys is not None else self._in_fair_order(found, room)
        for key in plain:
            lease(key)
        taken += plain
        return self._leases([*taken, *self.limits.take(claimant, claimant.limit - len(taken), wanted, lease)])

    def recover_leases(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        known = {(key.execution_id, key.command_id) for key in holding}
        until = self._clock() + lease
        found = [
            key for key, row in self.items() if row.status == "claimed" and row.worker == worker and key not in known
        ]
        for key in found:
            self[key].lease_until = until
        return self._leases(found)

    def extend_leases(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        kept = {(key.execution_id, key.command_id, key.fence) for key in held if self._holds(worker, key)}
        until = self._clock() + lease
        for id, command, _ in kept:
            self[id, command].lease_until = until
        return kept

    def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        waiting: list[tuple[str, CommandKey]] = []
        for key, had_begun in (*((key, True) for key in begun), *((key, False) for key in held)):
            if self._holds(worker, key):
                row = self[(key.execution_id, key.command_id)]
                if had_begun:
                    row.lost = with_lost_lease(row, self._clock())
                row.deliveries -= 1
                waiting += self._give_back(row)
        return waiting

    def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        waiting: list[tuple[str, CommandKey]] = []
        count = 0
        for row in self._overdue():
            if row.deliveries < deliveries and count < limit:
                row.lost = with_lost_lease(row, None)
                count += 1
                waiting += self._give_back(row)
        return waiting

    def has_expired_leases(self) -> bool:
        return bool(self._overdue())

    def undeliverable(self, deliveries: int, limit: int) -> list[DeadLetter]:
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

    def pools_with_pending(self, age: float) -> list[str]:
        latest = self._clock() - age
        return sorted({row.row["pool"] for row in self.values() if row.status == "pending" and row.issued_at < latest})

    def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        now, since = self._clock() * 1000, after.timestamp() * 1000
        rows = [row.row for row in self.values() if row.status == "timer" and since <= row.row["due"] <= now]
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

    def issue(self, issued: dict[Key, dict[str, Any]]) -> list[Lease]:
        """The leases of commands that are claimed with the commit. A command that exists already stays as it is."""
        now, claimed = self._clock(), []
        for key, row in issued.items():
            if key in self:
                continue
            issued_row = self[key] = CommandRow(row=row, issued_at=now, status=row["status"])
            if row["kind"] != "timer":
                issued_row.admission = None if key[0] in self.limits.begun else row.get("admission")
                issued_row.status = "paused" if row["status"] == "paused" else issued_row.waiting_status
            if row["status"] == "claimed":
                self.lease(key, row["worker"], now + row["lease"])
                claimed.append(self.as_lease(key))
        # the lease includes its order; the opening of its loop is loaded separately
        return [replace(lease, loop_opened=None) for lease in claimed]

    def pause(self, id: str) -> None:
        for key, row in self.items():
            if key[0] == id and row.status in ("pending", "limited", "timer"):
                row.status = "paused"

    def go_on(self, id: str, timers: Mapping[str, int]) -> list[tuple[str, CommandKey]]:
        """Returns (pool, key) of the commands that are pending again; `timers`: when they are due now, in ms."""
        waiting: list[tuple[str, CommandKey]] = []
        for key, row in self.items():
            if key[0] != id or row.status != "paused":
                continue
            if row.row["kind"] == "timer":
                row.status, row.row = "timer", {**row.row, "due": timers.get(key[1], row.row["due"])}
            else:
                row.status = row.waiting_status
                waiting.append(pending_pointer(row.row))
        return waiting

    def timers(self, id: str) -> dict[str, int]:
        return {key[1]: row.row["due"] for key, row in self.items() if key[0] == id and row.row["kind"] == "timer"}

    def lease(self, key: Key, worker: str, until: float) -> None:
        row = self[key]
        self._fence += 1
        row.status, row.worker, row.fence = "claimed", worker, self._fence
        row.lease_until, row.deliveries = until, row.deliveries + 1
        row.claimed_at = self._clock()

    def as_lease(self, key: Key) -> Lease:
        row, execution = self[key], self._executions[key[0]]
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

    def _give_back(self, row: CommandRow) -> list[tuple[str, CommandKey]]:
        row.worker, row.lease_until = None, 0.0
        row.status = "paused" if self._executions[row.row["id"]].is_paused else row.waiting_status
        return [] if row.status == "paused" else [pending_pointer(row.row)]

    def _holds(self, worker: str, key: Held) -> bool:
        row = self.get((key.execution_id, key.command_id))
        return row is not None and row.status == "claimed" and (row.fence, row.worker) == (key.fence, worker)

    def _overdue(self) -> list[CommandRow]:
        now = self._clock()
        late = [row for row in self.values() if row.status == "claimed" and row.lease_until < now]
        return sorted(late, key=lambda row: row.lease_until)

    def _in_order(self, keys: Iterable[Key]) -> list[Key]:
        """The keys, longest waiting first."""

        def waited(key: Key) -> tuple[float, int, int]:
            row = self[key]
            return row.issued_at, int(key[0]), row.row["seq"]

        return sorted(keys, key=waited)

    def _in_fair_order(self, keys: Iterable[Key], limit: int) -> list[Key]:
        """At most `limit` of `keys`, which are in order."""
        waiting: dict[str, list[Key]] = {}
        for key in keys:
            waiting.setdefault(key[0], []).append(key)
        heads = {id: self[queue[0]].row for id, queue in waiting.items()}
        queues = {id: PendingQueue(waiting[id], head["playbook"], head["weight"]) for id, head in heads.items()}
        held = [(key, row.row) for key, row in self.items() if row.status == "claimed"]
        running = Counter(key[0] for key, _ in held)
        return self._fair_claims.take(queues, running, {row["playbook"] for _, row in held}, limit)

    def _leases(self, keys: Iterable[Key]) -> list[Lease]:
        return [self.as_lease(key) for key in self._in_order(keys)]
