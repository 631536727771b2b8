"""Triggers and their events in memory: does what `store.triggers.Triggers` does, and what a registration and the end of
an execution do to them in PostgreSQL (migrations/0017_triggers.sql)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from ..errors import Conflict, NotFound
from ..playbook.plan import Trigger as CompiledTrigger
from ..store.triggers import (
    LEASE,
    NEWEST,
    DueEvent,
    PolledTrigger,
    ReceivedEvent,
    Status,
    StoredTrigger,
    Trigger,
    event_content,
    is_polled,
)

Key = tuple[int, str]
OLDEST = datetime(1, 1, 1, tzinfo=UTC)
# results of executions that are larger are left out of the event of their end
RESULT_BYTES = 65_536
UNSETTLED: tuple[Status, ...] = ("received", "failed")


@dataclass(kw_only=True, frozen=True, slots=True)
class EndedExecution:
    """An execution that has ended, as the event of its end describes it."""

    execution_id: str
    path: str
    version: int
    status: str
    at: datetime
    parent_execution_id: str | None = None
    result: Any = None
    error: Any = None
    principal: Mapping[str, Any] | None = None


@dataclass(kw_only=True, slots=True)
class _Row:
    trigger: Trigger
    position: dict[str, Any]
    polled_until: datetime
    disabled_by_name: bool = False


@dataclass(kw_only=True, slots=True)
class _Event:
    received: ReceivedEvent
    # as JSON, so that it is never shared; None once it is settled, except for a dead letter
    content: bytes | None
    due_at: datetime
    chain: int | None = None


class MemoryTriggers:
    """`newest`: the newest version of a path in the catalog, None if there is none."""

    def __init__(self, newest: Callable[[str], int | None]) -> None:
        self._newest = newest
        self._rows: dict[tuple[str, str], _Row] = {}
        self._events: dict[Key, _Event] = {}
        self._last_id = 0

    def declare(self, path: str, version: int, triggers: Iterable[CompiledTrigger], now: datetime) -> None:
        """Make these the triggers of a playbook whose newest version is `version`."""
        for compiled in triggers:
            row = self._rows.get((path, compiled.name))
            before = None if row is None else row.trigger
            if before is None:
                self._last_id += 1
            trigger = Trigger(
                trigger_id=self._last_id if before is None else before.trigger_id,
                path=path,
                name=compiled.name,
                version=version,
                kind=compiled.kind,
                source=compiled.source,
                config=orjson.loads(orjson.dumps(compiled.config)),
                enabled=compiled.enabled and not (row is not None and row.disabled_by_name),
                declared=True,
                error=None,
                created_at=now if before is None else before.created_at,
                updated_at=now,
            )
            same = before is not None and (before.kind, before.source) == (trigger.kind, trigger.source)
            position = dict(row.position) if row is not None and same else {}
            until = row.polled_until if row is not None and same else OLDEST
            self._rows[path, compiled.name] = _Row(
                trigger=trigger,
                position=position,
                polled_until=until,
                disabled_by_name=row is not None and row.disabled_by_name,
            )
            self._hold(trigger.trigger_id, not trigger.enabled, now)

    def record_end(self, ended: EndedExecution) -> None:
        """What the database does in the transaction of an end."""
        principal = ended.principal or {}
        is_triggered = principal.get("kind") == "trigger"
        depth = principal.get("depth", 0) if is_triggered else 0
        chain = int(principal.get("chain", ended.execution_id) if is_triggered else ended.execution_id)
        for row in self._rows.values():
            trigger = row.trigger
            listens = trigger.kind == "playbook" and trigger.source == ended.path and self._is_effective(trigger)
            if listens and ended.status.lower() in trigger.config["statuses"] and ended.at > trigger.created_at:
                event = _event_of(ended)
                if self._insert(trigger.trigger_id, ended.execution_id, event, ended.at, depth + 1, 0, ended.at):
                    self._events[trigger.trigger_id, ended.execution_id].chain = chain

    def unsettled(self) -> list[Key]:
        """(trigger, event) of all that are to be started."""
        return [key for key, event in self._events.items() if event.received.status in UNSETTLED]

    def received(self) -> list[tuple[str, str, ReceivedEvent]]:
        """Path and name of the trigger, and the event, of all."""
        triggers = {row.trigger.trigger_id: row.trigger for row in self._rows.values()}
        return [(triggers[id].path, triggers[id].name, event.received) for (id, _), event in self._events.items()]

    def due(self, now: datetime) -> bool:
        """Whether an event is to be started now."""
        return any(self._events[key].due_at <= now for key in self.unsettled())

    # -- people

    async def get(self, reference: str) -> Trigger:
        path, _, name = reference.rpartition("/")
        found = self._rows.get((path, name)) or next(
            (row for row in self._rows.values() if str(row.trigger.trigger_id) == reference), None
        )
        if found is None:
            raise NotFound(f"there is no trigger {reference!r}; name it as PATH/NAME, or by its id")
        return self._shown(found.trigger)

    async def by_ids(self, trigger_ids: Sequence[int]) -> list[Trigger]:
        return [self._shown(row.trigger) for row in self._rows.values() if row.trigger.trigger_id in trigger_ids]

    async def entries(
        self, *, path: str | None, kind: str | None, after: tuple[str, str] = ("", ""), limit: int
    ) -> list[Trigger]:
        found = [
            self._shown(row.trigger)
            for key, row in sorted(self._rows.items())
            if path in (None, key[0]) and kind in (None, row.trigger.kind) and key > after
        ]
        return found[:limit]

    async def set_enabled(self, trigger: Trigger, enabled: bool, now: datetime) -> Trigger:
        row = self._rows[trigger.path, trigger.name]
        row.trigger, row.disabled_by_name = replace(row.trigger, enabled=enabled, updated_at=now), not enabled
        self._hold(trigger.trigger_id, not enabled, now)
        return replace(trigger, enabled=enabled, updated_at=now)

    async def events(
        self, trigger_id: int, *, status: Status | None, before: tuple[datetime, str] = (NEWEST, ""), limit: int
    ) -> list[ReceivedEvent]:
        found = [
            event.received
            for (of, id), event in self._events.items()
            if of == trigger_id
            and status in (None, event.received.status)
            and (event.received.received_at, id) < before
        ]
        return sorted(found, key=lambda event: (event.received_at, event.event_id), reverse=True)[:limit]

    async def event(self, trigger_id: int, event_id: str) -> ReceivedEvent:
        event = self._events.get((trigger_id, event_id))
        if event is None:
            raise NotFound(f"the trigger has received no event {event_id[:100]!r}")
        return event.received

    async def retry(self, trigger_id: int, event_id: str, now: datetime) -> ReceivedEvent:
        event = await self._dead_letter(trigger_id, event_id)
        event.received = replace(event.received, status="received", attempts=0, settled_at=None, error=None)
        event.due_at = now
        return event.received

    async def drop(self, trigger_id: int, event_id: str, now: datetime) -> ReceivedEvent:
        event = await self._dead_letter(trigger_id, event_id)
        event.received, event.content = replace(event.received, status="dropped", settled_at=now), None
        return event.received

    async def _dead_letter(self, trigger_id: int, event_id: str) -> _Event:
        found = await self.event(trigger_id, event_id)
        if found.status != "dead":
            raise Conflict(f"the event is no dead letter: it is {found.status}")
        return self._events[trigger_id, event_id]

    # -- events

    async def receive(
        self, trigger: StoredTrigger, event_id: str, event: Mapping[str, Any], now: datetime
    ) -> DueEvent | None:
        event_content(event)
        row = self._rows.get((trigger.path, trigger.name))
        is_effective = row is not None and self._is_effective(row.trigger)
        if not (is_effective and self._insert(trigger.trigger_id, event_id, event, now, 1, 1, now + LEASE)):
            return None
        return self._due_event((trigger.trigger_id, event_id))

    async def claim_due(self, now: datetime, limit: int) -> list[DueEvent]:
        due = [key for key in self.unsettled() if self._events[key].due_at <= now]
        off = {row.trigger.trigger_id for row in self._rows.values() if not row.trigger.enabled}
        first = sorted(due, key=lambda key: self._events[key].due_at)[:limit]
        taken = [key for key in first if key[0] not in off]
        for key in set(first) - set(taken):
            self._events[key].due_at = NEWEST
        for key in taken:
            event = self._events[key]
            event.received = replace(event.received, attempts=event.received.attempts + 1)
            event.due_at = now + LEASE
        return [
            self._due_event(key)
            for key in sorted(taken, key=lambda key: (self._events[key].received.received_at, key[1]))
        ]

    async def started_by(self, chain: int, limit: int) -> int:
        started = (one for one in self._events.values() if one.chain == chain and one.received.status == "started")
        return min(sum(1 for _ in started), limit)

    async def settle(
        self,
        due: DueEvent,
        status: Status,
        now: datetime,
        *,
        execution_id: int | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        event = self._events[due.trigger_id, due.event_id]
        if event.received.status not in UNSETTLED:
            return
        event.received = replace(
            event.received, status=status, execution_id=execution_id, error=_copied(error), settled_at=now
        )
        event.content = event.content if status == "dead" else None

    async def postpone(self, due: DueEvent, error: Mapping[str, Any], due_at: datetime) -> None:
        event = self._events[due.trigger_id, due.event_id]
        if event.received.status in UNSETTLED:
            event.received, event.due_at = replace(event.received, status="failed", error=_copied(error)), due_at

    # -- sources

    async def poll(self, now: datetime, until: datetime, limit: int) -> list[PolledTrigger]:
        due = [
            row
            for row in self._rows.values()
            if is_polled(row.trigger.kind, row.trigger.source)
            and row.polled_until <= now
            and self._is_effective(row.trigger)
        ]
        taken = sorted(due, key=lambda row: row.polled_until)[:limit]
        for row in taken:
            row.polled_until = until
        return [_polled(row) for row in taken]

    async def listening(self, kind: str, source: str) -> list[PolledTrigger]:
        found = [
            row
            for row in self._rows.values()
            if row.trigger.kind == kind and source.startswith(row.trigger.source) and self._is_effective(row.trigger)
        ]
        return [replace(_polled(row), error=None) for row in sorted(found, key=lambda row: row.trigger.trigger_id)]

    async def record_polled(
        self,
        trigger: PolledTrigger,
        position: Mapping[str, Any],
        next_at: datetime,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        row = self._rows[trigger.path, trigger.name]
        if row.trigger.source == trigger.source:
            row.position, row.polled_until = orjson.loads(orjson.dumps(position)), next_at
            row.trigger = replace(row.trigger, error=_copied(error))

    # -- retention

    async def prune(self, before: datetime, limit: int = 1000) -> int:
        settled = [(event.received.settled_at, key) for key, event in self._events.items()]
        old = sorted((at, key) for at, key in settled if at is not None and at < before)[:limit]
        for _, key in old:
            del self._events[key]
        known = {trigger_id for trigger_id, _ in self._events}
        for name, row in list(self._rows.items()):
            trigger = row.trigger
            is_gone = trigger.updated_at < before and trigger.version != self._newest(trigger.path)
            if is_gone and trigger.trigger_id not in known:
                del self._rows[name]
        return len(old)

    # -- rows

    def _hold(self, trigger_id: int, hold: bool, now: datetime) -> None:
        for key in self.unsettled():
            event = self._events[key]
            if key[0] == trigger_id and (event.due_at == NEWEST) != hold:
                event.due_at = NEWEST if hold else now

    def _is_effective(self, trigger: Trigger) -> bool:
        return self._shown(trigger).is_effective

    def _shown(self, trigger: Trigger) -> Trigger:
        return replace(trigger, declared=trigger.version == self._newest(trigger.path))

    def _insert(
        self,
        trigger_id: int,
        event_id: str,
        event: Mapping[str, Any],
        now: datetime,
        depth: int,
        attempts: int,
        due_at: datetime,
    ) -> bool:
        """False if it is known."""
        if (trigger_id, event_id) in self._events:
            return False
        received = ReceivedEvent(
            trigger_id=trigger_id,
            event_id=event_id,
            status="received",
            depth=depth,
            received_at=now,
            attempts=attempts,
            settled_at=None,
            execution_id=None,
            error=None,
        )
        self._events[trigger_id, event_id] = _Event(received=received, content=orjson.dumps(event), due_at=due_at)
        return True

    def _due_event(self, key: Key) -> DueEvent:
        event = self._events[key]
        trigger = next(row.trigger for row in self._rows.values() if row.trigger.trigger_id == key[0])
        assert event.content is not None
        return DueEvent(
            trigger_id=key[0],
            path=trigger.path,
            name=trigger.name,
            event_id=key[1],
            event=orjson.loads(event.content),
            depth=event.received.depth,
            attempts=event.received.attempts,
            chain=event.chain,
        )


def _polled(row: _Row) -> PolledTrigger:
    names = ("trigger_id", "path", "name", "version", "kind", "source", "config", "updated_at", "error")
    return PolledTrigger(position=dict(row.position), **{name: getattr(row.trigger, name) for name in names})


def _event_of(ended: EndedExecution) -> dict[str, Any]:
    size = None if ended.result is None else len(orjson.dumps(ended.result))
    data = {
        "execution_id": ended.execution_id,
        "path": ended.path,
        "version": ended.version,
        "status": ended.status.lower(),
        "parent_execution_id": ended.parent_execution_id,
        "result": ended.result if size is not None and size <= RESULT_BYTES else None,
        "result_bytes": size,
        "error": ended.error,
    }
    at = ended.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": ended.execution_id,
        "source": f"playbook:{ended.path}",
        "type": f"playbook.{ended.status.lower()}",
        "time": at,
        "data": data,
    }


def _copied(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(orjson.loads(orjson.dumps(value, default=str)))
