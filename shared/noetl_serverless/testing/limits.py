"""Limited commands of the event store in memory: which may begin, and what is counted. What migrations/0018_limits.sql
does in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from ..protocol import CommandKey
from ..records import Claimant, Startable
from .fair_claims import Key
from .rows import CommandRow, ExecutionRow, pending_pointer

# how many of a queue are named as those that may begin
FEW = 16
UNLIMITED = 2**31 - 1
COMMAND, EXECUTION = "command", "execution"


class Limits:
    """Keeps what is counted. `clock`: seconds since 1970; `commands` and `executions`: by key and id."""

    def __init__(
        self, clock: Callable[[], float], commands: Mapping[Key, CommandRow], executions: Mapping[str, ExecutionRow]
    ) -> None:
        self._clock = clock
        self._commands = commands
        self._executions = executions
        # execution -> the key of its slot, from its first command on
        self.begun: dict[str, str | None] = {}
        # (key, unit) -> when they began, and the longest window
        self.starts: dict[tuple[str, str], list[float]] = {}
        self._windows: dict[tuple[str, str], float] = {}

    def room(self, row: CommandRow) -> tuple[int, int]:
        """How many commands, and executions, with the limits of this command may begin now."""
        commands = executions = UNLIMITED
        if (slots := _part(row.limits, "concurrency")) is not None:
            held = sum(
                other.status == "claimed" and _key(other.limits, "concurrency") == slots["key"]
                for other in self._commands.values()
            )
            commands = max(0, slots["limit"] - held)
        if (slots := _part(row.admission, "concurrency")) is not None:
            under_way = sum(
                key == slots["key"] and self._executions[id].status == "RUNNING" for id, key in self.begun.items()
            )
            executions = max(0, slots["limit"] - under_way)
        if (rate := _part(row.limits, "rate")) is not None:
            commands = min(commands, max(0, rate["limit"] - len(self._within(rate, COMMAND))))
        if (rate := _part(row.admission, "rate")) is not None:
            executions = min(executions, max(0, rate["limit"] - len(self._within(rate, EXECUTION))))
        return commands, executions

    def may_begin(self, row: CommandRow) -> bool:
        commands, executions = self.room(row)
        return commands > 0 and (row.admission is None or executions > 0 or row.row["id"] in self.begun)

    def begin(self, row: CommandRow) -> None:
        """Count a command that is about to be claimed."""
        now, id = self._clock(), row.row["id"]
        if row.admission is not None and id not in self.begun:
            self.begun[id] = _key(row.admission, "concurrency")
            self._count(row.admission, EXECUTION, now)
        self._count(row.limits, COMMAND, now)
        for other in self._commands.values() if row.admission is not None else ():
            if other.row["id"] == id and other.status == "limited":
                other.admission = None
                other.status = other.waiting_status
        row.admission = None

    def waiting(self, pool: str | None = None, keys: Collection[Key] | None = None) -> list[CommandRow]:
        """The limited commands, longest waiting first."""
        found = [
            row
            for key, row in self._commands.items()
            if row.status == "limited" and pool in (None, row.row["pool"]) and (keys is None or key in keys)
        ]
        return sorted(found, key=lambda row: (row.issued_at, int(row.row["id"]), row.row["seq"]))

    def take(
        self, claimant: Claimant, limit: int, keys: Collection[Key] | None, lease: Callable[[Key], None]
    ) -> list[Key]:
        """Lease at most `limit` limited commands that may begin, each counted before the next one is looked at."""
        taken: list[Key] = []
        for row in self.waiting(claimant.pool, keys) if limit > 0 else ():
            if len(taken) == limit:
                break
            # of an execution that has begun by now, it may not be limited any more
            if row.status == "limited" and self.may_begin(row):
                self.begin(row)
                key = (row.row["id"], row.row["command"])
                lease(key)
                taken.append(key)
        return taken

    def keys_of(self, commands: Iterable[Key]) -> set[str]:
        """The keys of slots that these commands hold or wait for."""
        rows = (self._commands[key] for key in commands if key in self._commands)
        return {key for row in rows if (key := _key(row.limits, "concurrency")) is not None}

    def leave(self, execution_id: str) -> str | None:
        """The execution has ended; the key of the slot that it had."""
        return self.begun.pop(execution_id, None)

    def first_in_line(self, few: int, issued: Collection[Key], freed: set[str], left: set[str]) -> Startable:
        """Of the queues of `issued` and of what waits for the keys that were freed, by commands and by executions."""
        rows = [
            row
            for row in self.waiting()
            if (row.row["id"], row.row["command"]) in issued
            or _key(row.limits, "concurrency") in freed
            or _key(row.admission, "concurrency") in left
        ]
        return self.startable(few, {_queue(row): row for row in rows}.values())

    def startable(self, few: int, heads: Iterable[CommandRow] | None = None) -> Startable:
        if heads is None:
            heads = {_queue(row): row for row in reversed(self.waiting())}.values()
        named: list[tuple[str, CommandKey]] = []
        next_starts: list[float] = []
        for head in heads:
            queue = [row for row in self.waiting() if _queue(row) == _queue(head)]
            room = self.room(queue[0])[0] if self.may_begin(queue[0]) else 0
            found = queue[: min(room, few - 1) + 1] if room > 0 else []
            named += [pending_pointer(row.row) for row in found]
            if (len(found) <= room or room <= 0) and (start := self._next_start(queue[0])) is not None:
                next_starts.append(start)
        return Startable(named, max(0.0, min(next_starts) - self._clock()) if next_starts else None)

    def _next_start(self, row: CommandRow) -> float | None:
        slots = CommandRow(row={**row.row, "limits": _only_slots(row.limits)}, issued_at=0, status="limited")
        slots.admission = _only_slots(row.admission)
        if min(self.room(slots)) <= 0:
            return None
        found = []
        for limits, unit in ((row.limits, COMMAND), (row.admission, EXECUTION)):
            if (rate := _part(limits, "rate")) is not None:
                within = sorted(self._within(rate, unit))
                full = len(within) >= rate["limit"]
                found.append((within[-rate["limit"]] if full else self._clock()) + rate["per"])
        return max(found, default=None)

    def _within(self, rate: Mapping[str, Any], unit: str) -> Sequence[float]:
        since = self._clock() - rate["per"]
        return [at for at in self.starts.get((rate["key"], unit), ()) if at > since]

    def _count(self, limits: Mapping[str, Any] | None, unit: str, now: float) -> None:
        if (rate := _part(limits, "rate")) is None:
            return
        key = (rate["key"], unit)
        longest = self._windows[key] = max(self._windows.get(key, 0.0), rate["per"])
        self.starts[key] = [*(at for at in self.starts.get(key, ()) if at > now - longest), now]


def _part(limits: Mapping[str, Any] | None, kind: str) -> dict[str, Any] | None:
    return (limits or {}).get(kind)


def _key(limits: Mapping[str, Any] | None, kind: str) -> str | None:
    return (_part(limits, kind) or {}).get("key")


def _only_slots(limits: Mapping[str, Any] | None) -> dict[str, Any]:
    slots = _part(limits, "concurrency")
    return {} if slots is None else {"concurrency": slots}


def _queue(row: CommandRow) -> bytes:
    return orjson.dumps([row.row["pool"], row.limits, row.admission])
