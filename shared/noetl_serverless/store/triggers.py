"""Triggers of playbooks, and the events that they have received.

An event takes three steps, each safe to repeat and to lose: it is recorded under its id, once, and only then
acknowledged; its execution is started under `DueEvent.idempotency_key`, so that starting twice starts one; and it is
settled. One that was recorded and not settled is claimed again later. Whoever attempts it holds it until `due_at`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson

from ..errors import Conflict, InvalidRequest, NotFound, TooLarge
from ..limits import EVENT_BYTES, EVENT_DEPTH
from ..playbook.plan import Trigger as CompiledTrigger
from ..playbook.values import is_deeper
from .connection import Connection
from .database import Database
from .ids import fresh_id, parse_id
from .queries import load

# how long an attempt to start an event may take before another one begins: two at once start one execution
LEASE = timedelta(seconds=15)
MAX_ID_CHARACTERS = 255
NEWEST = datetime(9999, 1, 1, tzinfo=UTC)

Status = Literal["received", "started", "filtered", "failed", "dead", "dropped"]


@dataclass(kw_only=True, frozen=True, slots=True)
class StoredTrigger:
    trigger_id: int
    path: str
    name: str
    version: int
    kind: str
    source: str
    config: dict[str, Any]
    # when it was last registered, or turned on or off
    updated_at: datetime


@dataclass(kw_only=True, frozen=True, slots=True)
class Trigger(StoredTrigger):
    """`declared`: the newest version of its playbook has it; `error`: why its source cannot be read;
    `lacks_credential`: of a webhook, that there is none of its name."""

    enabled: bool
    declared: bool
    error: dict[str, Any] | None
    created_at: datetime
    lacks_credential: bool = False

    @property
    def is_effective(self) -> bool:
        return self.enabled and self.declared


@dataclass(kw_only=True, frozen=True, slots=True)
class ReceivedEvent:
    """What has become of an event."""

    trigger_id: int
    event_id: str
    status: Status
    depth: int
    received_at: datetime
    attempts: int
    settled_at: datetime | None
    execution_id: int | None
    error: dict[str, Any] | None


@dataclass(kw_only=True, frozen=True, slots=True)
class DueEvent:
    """An event that the caller is to start: it holds it for `LEASE`."""

    trigger_id: int
    path: str
    name: str
    event_id: str
    event: dict[str, Any]
    depth: int
    attempts: int
    # of an end: the execution whose end was the first of those that have led to it
    chain: int | None = None

    @property
    def idempotency_key(self) -> str:
        return f"trigger:{self.trigger_id}:{self.event_id}"


@dataclass(kw_only=True, frozen=True, slots=True)
class PolledTrigger(StoredTrigger):
    """A trigger whose source the caller is to read; `position`: how far it has been read; `error`: what the attempt
    before failed with."""

    position: dict[str, Any]
    error: dict[str, Any] | None = None


def as_declared(triggers: Iterable[CompiledTrigger]) -> str:
    """What a version of a playbook declares, as the catalog keeps it."""
    names = ("name", "kind", "source", "config", "enabled")
    return orjson.dumps([{name: getattr(trigger, name) for name in names} for trigger in triggers]).decode()


def declare_newest(connection: Connection, path: str, now: datetime, *, again: bool) -> None:
    """Make what the newest version of a playbook declares its triggers; others of it are no longer effective. `again`:
    also those that are declared by that version already."""
    sql = load("triggers")
    for trigger in connection.rows(sql["declared"], path=path):
        config = orjson.dumps(trigger.pop("config")).decode()
        polled = is_polled(trigger["kind"], trigger["source"])
        for trigger_id, enabled in connection.run(
            sql["declare"],
            trigger_id=fresh_id(),
            path=path,
            config=config,
            is_polled=polled,
            now=now,
            again=again,
            **trigger,
        ):
            connection.run(sql["hold"], trigger_id=trigger_id, hold=not enabled, now=now)


def is_polled(kind: str, source: str) -> bool:
    """The service of a bucket tells of its objects."""
    return kind == "message" or (kind == "object" and source.startswith("file:"))


class Triggers:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("triggers")

    # -- people

    async def get(self, reference: str) -> Trigger:
        """`reference`: its id, or PATH/NAME. Raises NotFound."""
        path, _, name = reference.rpartition("/")
        rows = await self._database.rows(self._sql["get"], trigger_id=parse_id(reference), path=path, name=name)
        if not rows:
            raise NotFound(f"there is no trigger {reference!r}; name it as PATH/NAME, or by its id")
        return Trigger(**rows[0])

    async def by_ids(self, trigger_ids: Sequence[int]) -> list[Trigger]:
        """Those of them that are known."""
        return [Trigger(**row) for row in await self._database.rows(self._sql["by_ids"], trigger_ids=list(trigger_ids))]

    async def entries(
        self, *, path: str | None, kind: str | None, after: tuple[str, str] = ("", ""), limit: int
    ) -> list[Trigger]:
        rows = await self._database.rows(
            self._sql["entries"], path=path, kind=kind, after_path=after[0], after_name=after[1], limit=limit
        )
        return [Trigger(**row) for row in rows]

    async def signed_with(self, credentials: Sequence[str], limit: int) -> list[tuple[str, str, str]]:
        """(path, name, scheme) of the effective webhooks that name one of these credentials."""
        rows = await self._database.run(self._sql["signed_with"], credentials=list(credentials), limit=limit)
        return [(path, name, scheme) for path, name, scheme in rows]

    async def set_enabled(self, trigger: Trigger, enabled: bool, now: datetime) -> Trigger:
        """Turn it on or off. While it is off, its events are neither received nor started."""

        def switch(connection: Connection) -> None:
            connection.run(self._sql["set_enabled"], trigger_id=trigger.trigger_id, enabled=enabled, now=now)
            connection.run(self._sql["hold"], trigger_id=trigger.trigger_id, hold=not enabled, now=now)

        await self._database.transaction(switch)
        return replace(trigger, enabled=enabled, updated_at=now)

    async def events(
        self, trigger_id: int, *, status: Status | None, before: tuple[datetime, str] = (NEWEST, ""), limit: int
    ) -> list[ReceivedEvent]:
        """The newest first."""
        rows = await self._database.rows(
            self._sql["events"],
            trigger_id=trigger_id,
            status=status,
            before=before[0],
            before_id=before[1],
            limit=limit,
        )
        return [ReceivedEvent(**row) for row in rows]

    async def event(self, trigger_id: int, event_id: str) -> ReceivedEvent:
        """Raises NotFound."""
        rows = await self._database.rows(self._sql["event"], trigger_id=trigger_id, event_id=event_id)
        if not rows:
            raise NotFound(f"the trigger has received no event {event_id[:100]!r}")
        return ReceivedEvent(**rows[0])

    async def content(self, trigger_id: int, event_id: str) -> dict[str, Any] | None:
        """An event as its trigger reads it; None if it has been settled and is no dead letter. Raises NotFound."""
        rows = await self._database.rows(self._sql["content"], trigger_id=trigger_id, event_id=event_id)
        if not rows:
            raise NotFound(f"the trigger has received no event {event_id[:100]!r}")
        found: dict[str, Any] | None = rows[0]["event"]
        return found

    async def retry(self, trigger_id: int, event_id: str, now: datetime) -> ReceivedEvent:
        """Let a dead letter be started after all. Raises NotFound, and Conflict if it is none."""
        return await self._of_dead_letter("retry", trigger_id, event_id, now)

    async def drop(self, trigger_id: int, event_id: str, now: datetime) -> ReceivedEvent:
        """Give up a dead letter; its id stays known. Raises NotFound, and Conflict if it is none."""
        return await self._of_dead_letter("drop", trigger_id, event_id, now)

    async def _of_dead_letter(self, verb: str, trigger_id: int, event_id: str, now: datetime) -> ReceivedEvent:
        done = await self._database.run(self._sql[verb], trigger_id=trigger_id, event_id=event_id, now=now)
        found = await self.event(trigger_id, event_id)
        if not done:
            raise Conflict(f"the event is no dead letter: it is {found.status}")
        return found

    # -- events

    async def receive(
        self, trigger: StoredTrigger, event_id: str, event: Mapping[str, Any], now: datetime
    ) -> DueEvent | None:
        """Record an event; the caller then holds it, to start it. None if it has been recorded before, or if the
        trigger is not effective. Raises TooLarge, and InvalidRequest if it cannot be recorded."""
        content = event_content(event)
        rows = await self._database.run(
            self._sql["receive"],
            trigger_id=trigger.trigger_id,
            event_id=event_id,
            event=content.decode(),
            now=now,
            due_at=now + LEASE,
        )
        if not rows:
            return None
        return DueEvent(
            trigger_id=trigger.trigger_id,
            path=trigger.path,
            name=trigger.name,
            event_id=event_id,
            event=dict(event),
            depth=1,
            attempts=1,
        )

    async def claim_due(self, now: datetime, limit: int) -> list[DueEvent]:
        """Events that are to be started, leased to the caller."""
        rows = await self._database.rows(self._sql["claim"], now=now, lease_until=now + LEASE, limit=limit)
        return [DueEvent(**row) for row in rows]

    async def started_by(self, chain: int, limit: int) -> int:
        """How many events of a chain have started an execution, at most `limit`."""
        [[count]] = await self._database.run(self._sql["started_by"], chain=chain, limit=limit)
        return int(count)

    async def settle(
        self,
        due: DueEvent,
        status: Status,
        now: datetime,
        *,
        execution_id: int | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        """Record what has become of an event; of several who do, the first one counts."""
        await self._database.run(
            self._sql["settle"],
            trigger_id=due.trigger_id,
            event_id=due.event_id,
            status=status,
            execution_id=execution_id,
            error=_json(error),
            now=now,
        )

    async def postpone(self, due: DueEvent, error: Mapping[str, Any], due_at: datetime) -> None:
        """Record a failed attempt; the next one may begin at `due_at`."""
        await self._database.run(
            self._sql["postpone"],
            trigger_id=due.trigger_id,
            event_id=due.event_id,
            error=_json(error),
            due_at=due_at,
        )

    # -- sources

    async def poll(self, now: datetime, until: datetime, limit: int) -> list[PolledTrigger]:
        """Triggers of messages and objects whose sources the caller is to read before `until`."""
        rows = await self._database.rows(self._sql["poll"], now=now, lease_until=until, limit=limit)
        return [PolledTrigger(**row) for row in rows]

    async def listening(self, kind: str, source: str) -> list[PolledTrigger]:
        """The effective triggers of a kind whose source is `source`, or what it begins with."""
        rows = await self._database.rows(self._sql["listening"], kind=kind, source=source)
        return [PolledTrigger(**row) for row in rows]

    async def record_polled(
        self,
        trigger: PolledTrigger,
        position: Mapping[str, Any],
        next_at: datetime,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        """How far the source has been read, and when it is read again."""
        await self._database.run(
            self._sql["polled"],
            trigger_id=trigger.trigger_id,
            source=trigger.source,
            position=orjson.dumps(position).decode(),
            next_at=next_at,
            error=_json(error),
        )

    # -- retention

    async def prune(self, before: datetime, limit: int = 1000) -> int:
        """Delete events that were settled before an instant, and triggers that are gone; returns how many events."""
        deleted = await self._database.run(self._sql["prune_events"], before=before, limit=limit)
        await self._database.run(self._sql["prune_triggers"], before=before, limit=limit)
        return len(deleted)


def event_content(event: Mapping[str, Any]) -> bytes:
    """An event as it is recorded. Raises TooLarge, and InvalidRequest if it cannot be recorded."""
    # orjson reads JSON that is nested deeper than it writes
    if is_deeper(event, EVENT_DEPTH):
        raise InvalidRequest(f"the event is nested deeper than {EVENT_DEPTH} levels; send it as text instead")
    try:
        content = orjson.dumps(event)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"the event is not JSON: {error}") from None
    if len(content) > EVENT_BYTES:
        raise TooLarge(f"the event has {len(content)} bytes of JSON; the limit is {EVENT_BYTES}; send a URL instead")
    return content


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else orjson.dumps(value, default=str).decode()
