"""An execution that is locked, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..ports import LockedExecution
from ..records import Inbox, LoadedExecution, QuarantinedExecution
from .rows import ExecutionRow, inbox_page, loaded, quarantined, running_children


class LockedInMemory(LockedExecution):
    """An execution while a call is under way, during which nothing else happens. `executions` and `quarantine` are the
    tables, by execution id."""

    def __init__(
        self, row: ExecutionRow, executions: Mapping[str, ExecutionRow], quarantine: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.execution = loaded(row)
        self._row = row
        self._executions = executions
        self._quarantine = quarantine

    def inbox(self) -> Inbox:
        return inbox_page(self._row.inbox)

    def quarantined(self) -> QuarantinedExecution | None:
        kept = self._quarantine.get(self.execution.execution_id)
        return None if kept is None else quarantined(kept, self._row)

    def issued(self) -> list[Event]:
        state = self.execution.state
        return [
            event
            for event in self._row.events
            if (event.type == e.ISSUED and event.command_id in state.commands)
            or (event.type == e.TIMER_SET and state.has_timer(event.payload["timer"]))
        ]

    def ended_children(self) -> list[LoadedExecution]:
        rows = [self._executions[id] for id in self.execution.state.children if id in self._executions]
        return [loaded(row) for row in rows if row.status != "RUNNING"]

    def running_children(self) -> list[str]:
        return running_children(self._executions, self.execution.execution_id)
