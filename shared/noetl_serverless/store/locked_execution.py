"""An execution that nobody else can commit to, until the transaction ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import limits
from ..engine.events import Event
from ..ports import LockedExecution
from ..records import Inbox, LoadedExecution, QuarantinedExecution
from .connection import Connection
from .loaded_execution import execution_of, inbox_of


def lock(connection: Connection, sql: Mapping[str, str], execution_id: str) -> LockedExecution | None:
    """None if there is no such execution. `sql`: the statements of the event store."""
    connection.run(sql["lock"], id=int(execution_id))
    rows = connection.run(sql["load"], ids=[int(execution_id)])
    return LockedRows(connection, sql, execution_of(rows[0])) if rows else None


class LockedRows(LockedExecution):
    def __init__(self, connection: Connection, sql: Mapping[str, str], execution: LoadedExecution) -> None:
        self.execution = execution
        self._sql = sql
        self._connection = connection
        self._id = int(execution.execution_id)

    def inbox(self) -> Inbox:
        rows = self._run("read_inbox", id=self._id, limit=limits.INBOX_FACTS, bytes=limits.INBOX_BYTES)
        return inbox_of(rows)

    def quarantined(self) -> QuarantinedExecution | None:
        rows = self._connection.rows(self._sql["get_quarantined"], id=self._id)
        return QuarantinedExecution(**rows[0]) if rows else None

    def issued(self) -> list[Event]:
        state = self.execution.state
        rows = self._run(
            "issued_events", id=self._id, commands=list(state.commands), timers=[*state.timers, *state.waits]
        )
        return [
            Event(kind, int(at), seq=seq, step=step, generation=generation, command_id=command, payload=payload)
            for seq, kind, step, generation, command, at, payload in rows
        ]

    def ended_children(self) -> list[LoadedExecution]:
        ids = [int(id) for id in self.execution.state.children]
        # waits for a transaction that is about to end a child: it cannot know that this execution continues
        ended = [id for id, status in self._run("lock_children", ids=ids) if status != "RUNNING"]
        return [execution_of(row) for row in self._run("load", ids=ended)]

    def running_children(self) -> list[str]:
        return [row[0] for row in self._run("running_children", id=self._id)]

    def _run(self, name: str, **values: Any) -> Any:
        return self._connection.run(self._sql[name], **values)
