"""Reads logs and projections, compares them, and rebuilds projections from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..engine import events as e
from ..engine.events import Event
from ..errors import Conflict, NotFound
from ..inspection.expected_projections import RUNNING, ExpectedProjections, expected_projections
from ..limits import WEIGHT
from ..playbook.plan import SHARED, Plan
from .connection import Connection
from .database import Database
from .parity import Difference, StoredRows, differences, outstanding_commands, stored_results
from .projections import variable_row
from .queries import load
from .shares import playbook_of

# an execution with more events is not folded in one call
MAX_EVENTS = 2_000_000


@dataclass(kw_only=True, frozen=True, slots=True)
class RecordedExecution:
    """What is stored of an execution beside its log."""

    execution_id: str
    path: str
    version: int
    plan_hash: str
    playbook: str
    workload: dict[str, Any]
    head: int
    status: str
    children: list[str]
    # the rows of `result_ref`, and of `command`
    results: list[dict[str, Any]]
    commands: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ResultPlace:
    store: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The differences before a rebuild, and how many leases were lost by it."""

    execution_id: str
    differences: list[Difference]
    leases: int


class Replays:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("replay")

    async def log(self, execution_id: int, limit: int = MAX_EVENTS) -> tuple[list[Event], dict[str, Any]]:
        """The log, or the first `limit` events of it, and the workload; raises NotFound."""

        def work(connection: Connection) -> tuple[list[Event], dict[str, Any]]:
            self._use_repeatable_read(connection)
            row = self._execution(connection, execution_id)
            events = self._events(connection, execution_id, limit)
            if not events:
                raise NotFound(f"there is no execution {execution_id}")
            return events, row["workload"] if row is not None else {}

        return await self._database.transaction(work)

    async def recording(self, execution_id: int) -> RecordedExecution:
        """Raises NotFound."""

        def work(connection: Connection) -> RecordedExecution:
            self._use_repeatable_read(connection)
            row = self._execution(connection, execution_id)
            if row is None:
                raise NotFound(f"there is no execution {execution_id}")
            texts = connection.run(self._sql["playbook"], hash=row["plan_hash"])
            children = connection.run(self._sql["children"], id=execution_id)
            return RecordedExecution(
                **{name: row[name] for name in ("execution_id", "path", "version", "plan_hash", "workload")},
                playbook=texts[0][0] if texts else "",
                head=row["head"],
                status=row["status"],
                children=[child[0] for child in children],
                results=connection.rows(self._sql["results"], id=execution_id),
                commands=connection.rows(self._sql["leases"], id=execution_id),
            )

        return await self._database.transaction(work)

    async def validate(self, execution_id: int) -> list[Difference]:
        """Every difference between the projections and the log; raises NotFound."""

        def work(connection: Connection) -> tuple[list[Event], StoredRows]:
            self._use_repeatable_read(connection)
            return self._events(connection, execution_id, MAX_EVENTS), self._stored(connection, execution_id)

        events, stored = await self._database.transaction(work)
        if not events:
            raise NotFound(f"there is no execution {execution_id}")
        return await asyncio.to_thread(differences, str(execution_id), events, stored)

    async def ids(self, after: int, limit: int) -> list[str]:
        """The ids of executions that have a log, in order, after `after`."""
        return [row[0] for row in await self._database.run(self._sql["ids"], after=after, limit=limit)]

    async def result_place(self, execution_id: int, key: str) -> ResultPlace | None:
        """Where the result is that one of its steps stored under this key; None if there is none."""
        rows = await self._database.run(self._sql["result_place"], id=execution_id, key=key)
        return ResultPlace(*rows[0]) if rows else None

    async def playbook_and_children(self, execution_id: int, plan_hash: str) -> tuple[str, list[str]]:
        """The text of the playbook with this hash, and the executions that this one has started."""
        texts = await self._database.run(self._sql["playbook"], hash=plan_hash)
        children = await self._database.run(self._sql["children"], id=execution_id)
        return (texts[0][0] if texts else ""), [child[0] for child in children]

    async def rebuild(self, execution_id: int, plan: Plan | None = None) -> Rebuilt:
        """Drop the execution's projections and rebuild them from its log, in one transaction that commits wait for.

        Leases are lost: reports under them are refused, and the commands are claimed again under a higher fence. Raises
        NotFound, and Conflict for a row that cannot be restored from the log alone.
        """
        return await self._database.transaction(lambda connection: self._rebuild(connection, execution_id, plan))

    # -- in a transaction

    def _rebuild(self, connection: Connection, execution_id: int, plan: Plan | None) -> Rebuilt:
        connection.run(self._sql["lock_execution"], id=execution_id)
        connection.run(self._sql["materialise"], id=execution_id)
        connection.run(self._sql["lock_commands"], id=execution_id)
        events = self._events(connection, execution_id, MAX_EVENTS)
        if not events:
            raise NotFound(f"there is no execution {execution_id}")
        stored = self._stored(connection, execution_id)
        found = differences(str(execution_id), events, stored)
        stored_row = stored.execution
        workload = events[0].payload.get("workload", stored_row["workload"] if stored_row is not None else None)
        if workload is None:
            raise Conflict(f"the workload of execution {execution_id} is too large for its log, and its row is lost")
        expected = expected_projections(str(execution_id), events, workload)
        leases = self._delete_projections(connection, execution_id)
        self._insert_projections(connection, execution_id, expected, events, stored.inbox, plan)
        row = {**expected.execution, "head": events[-1].seq, "workload": workload}
        row |= {"state": expected.state.snapshot(), "state_version": expected.state.version}
        row["paused_at"] = expected.state.paused and expected.state.paused.at
        row["principal"] = events[0].payload.get("principal")
        if stored_row is not None:
            connection.run(self._sql["update_execution"], id=execution_id, row=_json(row))
        elif not connection.run(self._sql["insert_execution"], id=execution_id, row=_json(row)):
            named = f"{row['path']} version {row['version']}"
            raise Conflict(f"execution {execution_id} has lost its row, and the catalog has no {named}")
        return Rebuilt(str(execution_id), found, leases)

    def _delete_projections(self, connection: Connection, execution_id: int) -> int:
        """Delete the projections; returns how many leases were deleted with them."""
        leases = connection.run(self._sql["delete_commands"], id=execution_id)[0][0]
        for name in ("delete_stages", "delete_frames", "delete_results"):
            connection.run(self._sql[name], id=execution_id)
        return int(leases)

    def _insert_projections(
        self,
        connection: Connection,
        id: int,
        expected: ExpectedProjections,
        events: Sequence[Event],
        inbox: Sequence[Event],
        plan: Plan | None,
    ) -> None:
        weight = plan.weight if plan is not None else WEIGHT
        paused = expected.state.paused is not None
        at = {event.seq: event.at for event in events}
        dead_letters = _dead_letters(events)
        admissions = {
            event.seq: event.payload[e.LIMITS].get("execution") for event in events if e.LIMITS in event.payload
        }
        commands = [
            {
                **row,
                **dead_letters.get(row["command_id"], {}),
                **({"status": "paused"} if paused and row["status"] != "dead" else {}),
                "pool": plan.pool(row["step"]) if plan is not None else SHARED,
                "playbook": playbook_of(expected.execution["path"] or ""),
                "weight": weight,
                "at": at[row["seq"]],
                "admission": admissions.get(row["seq"]),
            }
            for row in outstanding_commands(expected, inbox)
            if expected.execution["status"] == RUNNING or row["status"] == "dead"
        ]
        reports = [*events, *inbox]
        # also of reports that could not be decided
        payloads = [
            (event.at, payload) for event in reports for payload in (event.payload, *_quarantined_payloads(event))
        ]
        written = {ref["key"]: at for at, payload in payloads for ref in e.references_in(payload)}
        results = [{**row, "at": written[row["key"]]} for row in stored_results(expected, inbox)]
        rows = {"commands": commands, "stages": expected.stages, "frames": expected.frames, "results": results}
        for name, inserted in rows.items():
            if inserted:
                connection.run(self._sql[f"insert_{name}"], id=id, rows=_json(inserted))
        variables = expected.state.variables
        connection.run(self._sql["delete_variables"], id=id, names=list(variables))
        changes = [{"id": id, "gone": [], "set": [variable_row(name, it) for name, it in variables.items()]}]
        connection.run(self._sql["write_variables"], changes=_json(changes))

    def _use_repeatable_read(self, connection: Connection) -> None:
        connection.run(self._sql["use_repeatable_read"])

    def _execution(self, connection: Connection, execution_id: int) -> dict[str, Any] | None:
        rows = connection.rows(self._sql["execution"], id=execution_id)
        return rows[0] if rows else None

    def _events(self, connection: Connection, execution_id: int, limit: int) -> list[Event]:
        rows = connection.run(self._sql["events"], id=execution_id, limit=limit)
        return [
            Event(
                kind,
                int(at),
                seq=seq,
                cause=cause,
                step=step,
                generation=generation,
                command_id=command,
                payload=payload,
            )
            for seq, cause, kind, step, generation, command, at, payload in rows
        ]

    def _stored(self, connection: Connection, execution_id: int) -> StoredRows:
        rows = {
            name: connection.rows(self._sql[name], id=execution_id)
            for name in ("commands", "stages", "frames", "results", "variables")
        }
        now = int(connection.run(self._sql["now"])[0][0])
        return StoredRows(
            execution=self._execution(connection, execution_id),
            **rows,
            now=now,
            inbox=self._inbox(connection, execution_id),
        )

    def _inbox(self, connection: Connection, execution_id: int) -> list[Event]:
        return [
            Event(kind, int(at), step=step, generation=generation, command_id=command, payload=payload)
            for kind, step, generation, command, at, payload in connection.run(self._sql["inbox"], id=execution_id)
        ]


def _quarantined_payloads(event: Event) -> list[dict[str, Any]]:
    kept = event.payload.get(e.QUARANTINED)
    return [kept["payload"]] if kept else []


def _dead_letters(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """Id of each command that was given up -> its last worker, and how often it was delivered."""
    found = {}
    for event in events:
        meta = event.payload.get("meta", {})
        if event.type in (e.CALL_ERROR, e.FRAME_COMMITTED) and "deliveries" in meta and event.command_id:
            found[event.command_id] = {"deliveries": meta["deliveries"], "worker": meta.get("worker")}
    return found


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
