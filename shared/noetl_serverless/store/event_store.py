"""The event store over PostgreSQL: load, commit by compare-and-set, and the leases of commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson
from pg8000.exceptions import DatabaseError

from .. import limits
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
from .connection import Connection, sqlstate
from .database import Database
from .loaded_execution import event_of, execution_of, inbox_of
from .locked_execution import lock
from .projections import Rows, claim_issued, execution_row, project, still_open
from .queries import load
from .step_commits import StepCommits
from .steps import INVALID_FENCE, steps_of

# rows of a commit that are encoded as JSON at once
BATCH_ROWS = 1000


# data that does not fit its column, a broken constraint, a row or an index entry that is too large
UNWRITABLE = ("22", "2350", "2351", "54")


@contextmanager
def _writing() -> Iterator[None]:
    """Turn errors about values that cannot be stored into UnstorableCommit."""
    try:
        yield
    except (DatabaseError, orjson.JSONEncodeError) as error:
        # without the database's message, which may contain the value
        state = sqlstate(error)
        if isinstance(error, DatabaseError) and not (state or "").startswith(UNWRITABLE):
            raise
        raise UnstorableCommit(f"PostgreSQL error {state}" if state else str(error)) from error


class PostgresEventStore(EventStore):
    def __init__(self, database: Database, pool: Callable[[str], str] = lambda step: "shared") -> None:
        self._database = database
        self._pool = pool
        self._sql = load("event_store")
        self._step_commits = StepCommits(database)

    async def load(self, ids: Sequence[str]) -> dict[str, LoadedExecution]:
        """Those of the executions that exist, each with all events folded into its state."""
        rows = await self._database.run(self._sql["load"], ids=[int(id) for id in ids])
        return {row[0]: execution_of(row) for row in rows}

    async def read_inbox(self, execution_id: str) -> Inbox:
        """The first facts: at most INBOX_FACTS, and none after the one that reaches INBOX_BYTES."""
        rows = await self._database.run(
            self._sql["read_inbox"], id=int(execution_id), limit=limits.INBOX_FACTS, bytes=limits.INBOX_BYTES
        )
        return inbox_of(rows)

    async def append_to_inbox(self, facts: Sequence[ReportedFact]) -> set[tuple[str, str, int]]:
        """Close commands and put their facts into the inbox, without waiting for the execution's row. Returns
        (execution id, command id, fence) of those whose fence was valid. Raises UnstorableCommit; then none is."""
        rows = [
            {**_row(fact.execution_id, fact.event), "fence": fact.fence, "worker": fact.worker, "refs": fact.refs}
            for fact in facts
        ]
        with _writing():
            answer = (await self._database.run(self._sql["append_to_inbox"], facts=_json(rows)))[0][0]
        return {(id, command, fence) for id, command, fence in answer}

    async def clear_inbox(self, execution_id: str) -> None:
        """Delete the inbox of an execution that has ended."""
        await self._database.run(self._sql["clear_inbox"], id=int(execution_id))

    async def events(self, execution_id: str) -> list[Event]:
        rows = await self._database.run(self._sql["events"], id=execution_id)
        return [event_of(row) for row in rows]

    async def starts_by_key(self, keys: Sequence[str]) -> dict[str, IdempotentStart]:
        """The executions started by those of the idempotency keys that have started one."""
        rows = await self._database.run(self._sql["starts_by_key"], keys=list(keys))
        return {key: IdempotentStart(*row) for key, *row in rows}

    async def commit(self, commits: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        """Write each whole or not at all; those refused (head moved, fence stale) are missing from `committed`. Raises
        UnstorableCommit if one of them cannot be stored; then none is written."""
        if (steps := steps_of(commits, claimant, self._pool)) is not None:
            with _writing():
                try:
                    return await self._step_commits.commit(steps, claimant)
                except DatabaseError as error:
                    if sqlstate(error) != INVALID_FENCE:
                        raise
        rows = self._project(commits)
        if claimant is not None:
            claim_issued(rows.commands, claimant)
        with _writing():
            statement, params = self._statement(commits, rows)
            answer = (await self._database.run(statement, **params))[0][0]
        return _committed(answer, rows.commands, commits)

    async def commit_exclusively(
        self, execution_id: str, decide: Callable[[LockedExecution], ExecutionCommit | None]
    ) -> tuple[ExecutionCommit, CommitResult] | None:
        """Commit what `decide` returns for the execution, while nobody else can commit to it. None if it returns None,
        or there is no such execution. Raises UnstorableCommit, and what `decide` raises."""

        def work(connection: Connection) -> tuple[ExecutionCommit, CommitResult] | None:
            locked = lock(connection, self._sql, execution_id)
            commit = None if locked is None else decide(locked)
            if commit is None:
                return None
            rows = self._project([commit])
            statement, params = self._statement([commit], rows)
            answer = connection.run(statement, **params)[0][0]
            return commit, _committed(answer, rows.commands, [commit])

        with _writing():
            return await self._database.transaction(work)

    def _statement(self, commits: Sequence[ExecutionCommit], rows: Rows) -> tuple[str, dict[str, Any]]:
        params: dict[str, Any] = _params(commits, rows)
        if any(commit.variables is not None for commit in commits):
            return self._sql["commit_variables"], {**params, **_other_params(commits, rows)}
        # an execution that goes on with another one is opened by a commit of its own, which drops nothing
        if restarts := _restarts(commits):
            return self._sql["commit_restarting"], {**params, "restarts": _json(restarts)}
        dropped = _dropped(commits)
        if pauses := _pauses(commits):
            return self._sql["commit_pausing"], {**params, "dropped": _json(dropped), "pauses": _json(pauses)}
        if _is_limited(commits, rows):
            return self._sql["commit_limited"], {**params, "dropped": _json(dropped)}
        if not dropped:
            return self._sql["commit"], params
        return self._sql["commit_dropping"], {**params, "dropped": _json(dropped)}

    def _project(self, commits: Sequence[ExecutionCommit]) -> Rows:
        rows = Rows()
        for commit in commits:
            projected = project(
                commit.execution.execution_id,
                commit.events,
                commit.pool_of or self._pool,
                commit.execution.path,
                commit.weight,
                paused=commit.execution.state.paused is not None,
            )
            rows.stages += projected.stages
            rows.frames += projected.frames
            rows.commands += [*still_open(projected.commands, commit.execution.state), *commit.reissued]
        return rows

    async def claim(self, claimant: Claimant, keys: Sequence[CommandKey] | None) -> list[Lease]:
        """Lease pending commands of the pool: those of `keys`, or with None any of them, by a fair claim."""
        rows = await self._database.run(
            self._sql["claim"],
            worker=claimant.worker,
            pool=claimant.pool,
            lease=claimant.lease_seconds,
            limit=claimant.limit,
            keys=None if keys is None else _keys(keys),
        )
        return _leases(rows)

    async def recover_leases(self, worker: str, lease: float, holding: Sequence[CommandKey]) -> list[Lease]:
        """Everything the worker holds except `holding`, with its leases extended."""
        rows = await self._database.run(self._sql["recover_leases"], worker=worker, lease=lease, holding=_keys(holding))
        return _leases(rows)

    async def loop_opened(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        rows = await self._database.run(self._sql["loop_opened"], id=execution_id, step=step, generation=generation)
        return rows[0][0]  # type: ignore[no-any-return]

    async def extend_leases(self, worker: str, held: Sequence[Held], lease: float) -> set[tuple[str, str, int]]:
        """Extend leases; returns (execution id, command id, fence) of those that the worker still holds."""
        rows = await self._database.run(self._sql["extend_leases"], worker=worker, held=_held(held), lease=lease)
        return {(row[0], row[1], row[2]) for row in rows}

    async def release_leases(
        self, worker: str, held: Sequence[Held], begun: Sequence[Held] = ()
    ) -> list[tuple[str, CommandKey]]:
        """Release `held`, which was not run, and `begun`, which was not run to its end and gets a note of its worker;
        returns (pool, key) of the commands that are pending again."""
        lists = ((held, False), (begun, True))
        rows = _json([{**key.model_dump(), "begun": had_begun} for keys, had_begun in lists for key in keys])
        return _waiting(await self._database.run(self._sql["release_leases"], worker=worker, held=rows))

    async def expire_leases(self, deliveries: int, limit: int) -> list[tuple[str, CommandKey]]:
        """Release commands whose lease has expired and that were delivered fewer than `deliveries` times."""
        return _waiting(await self._database.run(self._sql["expire_leases"], deliveries=deliveries, limit=limit))

    async def undeliverable(self, deliveries: int, limit: int) -> list[DeadLetter]:
        rows = await self._database.rows(self._sql["undeliverable"], deliveries=deliveries, limit=limit)
        return [DeadLetter(**row) for row in rows]

    async def add_dead_letter(self, dead_letter: DeadLetter) -> None:
        """Keep the command as a dead letter, for people to inspect."""
        await self._database.run(
            self._sql["add_dead_letter"],
            id=dead_letter.execution_id,
            seq=dead_letter.seq,
            pool=self._pool(dead_letter.step),
            deliveries=dead_letter.deliveries,
            worker=dead_letter.worker,
        )

    async def pools_with_pending(self, age: float) -> list[str]:
        """Pools with commands that have waited for `age` seconds or more."""
        return [row[0] for row in await self._database.run(self._sql["pools_with_pending"], age=age)]

    async def pending_work(self, age: float) -> PendingWork:
        """Which kinds of work are waiting; commands count as pending after `age` seconds."""
        return PendingWork(**(await self._database.rows(self._sql["pending_work"], age=age))[0])

    async def startable(self, limit: int) -> Startable:
        """At most `limit` limited commands that may begin now, of each limit those that wait longest."""
        [[answer]] = await self._database.run(self._sql["startable"], limit=limit)
        return Startable(_pointers(answer["startable"]), answer["next_start"])

    async def due_timers(self, limit: int, after: datetime = EPOCH) -> list[DueTimer]:
        """The timers that are due, in the order in which they are due, from `after` on."""
        return [DueTimer(**row) for row in await self._database.rows(self._sql["due_timers"], limit=limit, after=after)]

    async def timers(self, execution_id: str) -> dict[str, int]:
        """When its timers are due, by name, in ms."""
        return dict(await self._database.run(self._sql["timers"], id=int(execution_id)))

    async def executions_with_inbox(self, limit: int, after: str = "0") -> list[str]:
        """Executions with facts in their inbox, by id, after the id `after`."""
        return [
            row[0]
            for row in await self._database.run(self._sql["executions_with_inbox"], limit=limit, after=int(after))
        ]

    async def list_quarantined(self, limit: int, after: str = "0") -> list[QuarantinedExecution]:
        """Executions in quarantine, by id, after the id `after`; without facts, which may be many and large."""
        rows = await self._database.rows(self._sql["list_quarantined"], after=int(after), limit=limit)
        return [QuarantinedExecution(**row) for row in rows]

    async def get_quarantined(self, execution_id: str) -> QuarantinedExecution | None:
        """The execution with its facts, if it is in quarantine."""
        rows = await self._database.rows(self._sql["get_quarantined"], id=int(execution_id))
        return QuarantinedExecution(**rows[0]) if rows else None

    async def running_descendants(self, execution_id: str) -> list[str]:
        return [row[0] for row in await self._database.run(self._sql["running_descendants"], id=int(execution_id))]

    async def is_descendant(self, execution_id: str, ancestor: str) -> bool:
        """Whether `ancestor`, or an execution that it goes on with, has started this execution, directly or through
        others, or `ancestor` goes on with it; archived ones count, too."""
        return bool(await self._database.run(self._sql["is_descendant"], id=int(execution_id), above=int(ancestor)))

    async def related_restarts(self, execution_id: str) -> list[RelatedRestart]:
        rows = await self._database.rows(self._sql["related_restarts"], id=int(execution_id))
        return [RelatedRestart(**row) for row in rows]

    async def running_restarts(self, execution_id: str) -> dict[str, str]:
        return dict(await self._database.run(self._sql["running_restarts"], id=int(execution_id)))

    async def ensure_partitions(self) -> None:
        await self._database.run(self._sql["ensure_partitions"])


def _params(commits: Sequence[ExecutionCommit], rows: Rows) -> dict[str, str]:
    """The arguments of `noetl.commit`."""
    closes = [
        {"id": commit.execution.execution_id, "command": command, "fence": fence, "worker": commit.worker}
        for commit in commits
        for command, fence in commit.closes
    ]
    quarantined = [
        {**commit.quarantine, "id": commit.execution.execution_id}
        for commit in commits
        if commit.quarantine is not None
    ]
    return {
        "executions": _json([execution_row(commit) for commit in commits]),
        "events": _array(_row(commit.execution.execution_id, event) for commit in commits for event in commit.events),
        "closes": _json(closes),
        "commands": _json(rows.commands),
        "stages": _array(rows.stages),
        "frames": _json(rows.frames),
        "refs": _json([{**ref, "id": commit.execution.execution_id} for commit in commits for ref in commit.refs]),
        "taken": _json(
            [
                {"id": commit.execution.execution_id, "inbox": inbox_id}
                for commit in commits
                for inbox_id in commit.consumed
            ]
        ),
        "appends": _json(
            [{**fact, "from": commit.execution.execution_id} for commit in commits for fact in commit.inbox_facts]
        ),
        "quarantined": _json(quarantined),
    }


def _restarts(commits: Sequence[ExecutionCommit]) -> list[dict[str, Any]]:
    return [
        {
            "id": commit.execution.execution_id,
            "restart_of": commit.new_row["restart_of"],
            "related": commit.new_row.get("related"),
            "undoes": commit.new_row.get("undoes", False),
            "seen": commit.new_row.get("seen", []),
        }
        for commit in commits
        if commit.new_row is not None and commit.new_row.get("restart_of") is not None
    ]


def _dropped(commits: Sequence[ExecutionCommit]) -> list[dict[str, Any]]:
    return [{"id": commit.execution.execution_id, "command": command} for commit in commits for command in commit.drops]


def _pauses(commits: Sequence[ExecutionCommit]) -> list[dict[str, Any]]:
    return [{**commit.pause, "id": commit.execution.execution_id} for commit in commits if commit.pause]


def _is_limited(commits: Sequence[ExecutionCommit], rows: Rows) -> bool:
    """Whether limited commands are issued, or others may begin."""
    return any("limits" in row for row in rows.commands) or any(commit.frees for commit in commits)


def _other_params(commits: Sequence[ExecutionCommit], rows: Rows) -> dict[str, Any]:
    """The arguments of `noetl.commit_variables` beyond those of `noetl.commit`."""
    changes = [{**it.variables, "id": it.execution.execution_id} for it in commits if it.variables is not None]
    return {
        "dropped": _json(_dropped(commits)),
        "pauses": _json(_pauses(commits)),
        "restarts": _json(_restarts(commits)),
        "limited": _is_limited(commits, rows),
        "variables": _json(changes),
    }


def _row(execution_id: str, event: Event) -> dict[str, Any]:
    return {
        "id": execution_id,
        "seq": event.seq,
        "cause": event.cause,
        "type": event.type,
        "step": event.step,
        "generation": event.generation,
        "command": event.command_id,
        "at": event.at,
        "payload": event.payload,
    }


def _committed(
    answer: dict[str, Any], commands: list[dict[str, Any]], commits: Sequence[ExecutionCommit]
) -> CommitResult:
    committed = frozenset(answer["good"])
    issued = {(row["id"], row["command"]): row for row in commands if row["id"] in committed}
    payloads = {
        (commit.execution.execution_id, event.seq): event.payload for commit in commits for event in commit.events
    }
    claimed = []
    for id, command, fence, lease_until in answer["claimed"]:
        row = issued[(id, command)]
        payload = payloads[(id, row["seq"])]
        claimed.append(
            Lease(
                execution_id=id,
                command_id=command,
                fence=fence,
                lease_until=lease_until,
                delivery=1,
                seq=row["seq"],
                step=row["step"],
                generation=row["generation"],
                issued=payload,
            )
        )
    pending = [
        (row["pool"], CommandKey(execution_id=row["id"], command_id=row["command"]))
        for row in issued.values()
        if row["status"] == "pending"
    ]
    pending += _waiting(answer.get("resumed", ()))
    startable = _pointers(answer.get("startable", ()))
    return CommitResult(
        committed, claimed, pending, answer["appended"], startable=startable, next_start=answer.get("next_start")
    )


def _leases(rows: Sequence[Sequence[Any]]) -> list[Lease]:
    return [
        Lease(
            execution_id=id,
            command_id=command,
            fence=fence,
            lease_until=_instant(lease_until),
            delivery=delivery,
            seq=seq,
            step=step,
            generation=generation,
            issued=payload,
            loop_opened=loop_opened,
            lost=lost,
        )
        for id, command, fence, lease_until, delivery, seq, step, generation, payload, loop_opened, lost in rows
    ]


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _waiting(rows: Sequence[Sequence[Any]]) -> list[tuple[str, CommandKey]]:
    return [(pool, CommandKey(execution_id=id, command_id=command)) for id, command, pool in rows]


def _pointers(rows: Sequence[Sequence[str]]) -> list[tuple[str, CommandKey]]:
    return [(pool, CommandKey(execution_id=id, command_id=command)) for pool, id, command in rows]


def _keys(keys: Sequence[CommandKey]) -> str:
    return _json([{"execution_id": key.execution_id, "command_id": key.command_id} for key in keys])


def _held(held: Sequence[Held]) -> str:
    return _json([{"execution_id": key.execution_id, "command_id": key.command_id, "fence": key.fence} for key in held])


def _array(rows: Iterable[Any]) -> str:
    """As `_json` for a list that may be very long: no more than BATCH_ROWS of its rows are in memory at once."""
    remaining, texts = iter(rows), []
    while batch := list(islice(remaining, BATCH_ROWS)):
        texts.append(orjson.dumps(batch).decode()[1:-1])
    if not texts:
        return "[]"
    texts[0] = f"[{texts[0]}"
    texts[-1] += "]"
    return ",".join(texts)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
