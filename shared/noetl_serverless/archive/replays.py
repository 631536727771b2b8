"""Recordings and replays of executions wherever they are: in the database, or in the archive."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..engine.events import Event
from ..errors import Conflict, NotFound
from ..inspection.expected_projections import expected_projections
from ..playbook.plan import Plan
from ..store.database import Database
from ..store.parity import Difference, StoredRows, differences
from ..store.recorded import RecordedEvent
from ..store.replays import MAX_EVENTS, Rebuilt, RecordedExecution, Replays, ResultPlace
from .read import ArchiveReader

# the fields of a command in a recording
LEASES = ("command_id", "status", "worker", "deliveries", "lease_until", "due_at", "issued_at")
# the columns of a result that its log does not determine
NOT_IN_LOG = frozenset(("execution_id", "created_at", "name", "put_by", "meta", "idempotency_key", "deleted_at"))


class ArchivedReplays(Replays):
    def __init__(self, database: Database, archive: ArchiveReader) -> None:
        super().__init__(database)
        self._archive = archive

    async def log(self, execution_id: int, limit: int = MAX_EVENTS) -> tuple[list[Event], dict[str, Any]]:
        # the archive first: the events of an archived execution may still be in the database, without its workload
        head = await self._head(execution_id)
        if head is None:
            return await super().log(execution_id, limit)
        return await self._recorded(execution_id, limit), head["execution"]["workload"]

    async def recording(self, execution_id: int) -> RecordedExecution:
        archived = await self._archive.children(execution_id)
        head = await self._head(execution_id)
        if head is None:
            found = await super().recording(execution_id)
            return replace(found, children=sorted({*found.children, *archived}, key=int)) if archived else found
        row = head["execution"]
        playbook, children = await self.playbook_and_children(execution_id, row["plan_hash"])
        return RecordedExecution(
            execution_id=str(execution_id),
            **{name: row[name] for name in ("path", "version", "plan_hash", "workload", "head", "status")},
            playbook=playbook,
            children=sorted({*children, *archived}, key=int),
            results=_of_log(head["results"]),
            # only the dead letters
            commands=[{name: row[name] for name in LEASES} for row in head["commands"]],
        )

    async def validate(self, execution_id: int) -> list[Difference]:
        """For an archived execution, its row and its results are compared with its log."""
        head = await self._head(execution_id)
        if head is None:
            return await super().validate(execution_id)
        events = await self._recorded(execution_id, MAX_EVENTS)
        return await asyncio.to_thread(_differences, execution_id, events, head)

    async def result_place(self, execution_id: int, key: str) -> ResultPlace | None:
        found = await super().result_place(execution_id, key)
        head = None if found is not None else await self._head(execution_id)
        if head is None:
            return found
        for row in head["results"]:
            if row["key"] == key and row.get("deleted_at") is None:
                return ResultPlace(row["store"], row["bytes"])
        return None

    async def rebuild(self, execution_id: int, plan: Plan | None = None) -> Rebuilt:
        if await self._archive.place(execution_id) is not None:
            raise Conflict(f"execution {execution_id} is archived: it has no projections any more")
        return await super().rebuild(execution_id, plan)

    async def _head(self, execution_id: int) -> dict[str, Any] | None:
        place = await self._archive.place(execution_id)
        return None if place is None else await self._archive.head(place)

    async def _recorded(self, execution_id: int, limit: int) -> list[Event]:
        place = await self._archive.place(execution_id)
        if place is None:
            raise NotFound(f"there is no execution {execution_id}")
        return [_event(event) async for event in self._archive.scan(place, 0, limit)]


def _of_log(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what users have put; rows that an earlier release has archived do not say so."""
    return [row for row in results if row.get("put_by") is None]


def _event(event: RecordedEvent) -> Event:
    at = round(event.at.timestamp() * 1000)
    return Event(
        event.type,
        at,
        seq=event.seq,
        cause=event.cause,
        step=event.step,
        generation=event.generation,
        command_id=event.command_id,
        payload=event.payload,
    )


def _differences(execution_id: int, events: list[Event], head: dict[str, Any]) -> list[Difference]:
    row = head["execution"]
    parent, restart_of = row["parent_execution_id"], row.get("restart_of")
    execution = {
        **row,
        "execution_id": str(execution_id),
        "parent_execution_id": None if parent is None else str(parent),
        # rows that an earlier release has archived lack it
        "restart_of": None if restart_of is None else str(restart_of),
        "created_at": _ms(row["created_at"]),
        "ended_at": _ms(row["ended_at"]),
    }
    results = [
        {name: value for name, value in result.items() if name not in NOT_IN_LOG}
        | {"expires_at": _ms(result["expires_at"])}
        for result in _of_log(head["results"])
    ]
    # the other projections were derived from the log, and are not kept
    expected = expected_projections(str(execution_id), events, row["workload"])
    now = round(datetime.now().timestamp() * 1000)
    return differences(
        str(execution_id),
        events,
        StoredRows(
            execution=execution,
            commands=expected.commands,
            stages=expected.stages,
            frames=expected.frames,
            results=results,
            variables=expected.variables,
            now=now,
        ),
    )


def _ms(instant: str | None) -> int | None:
    return None if instant is None else round(datetime.fromisoformat(instant).timestamp() * 1000)
