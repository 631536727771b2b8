"""Triggers as one process reaches them: between any two statements it may die, or lose the connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from noetl_serverless.orchestrator.triggers import TriggerInbox, TriggerStarts
from noetl_serverless.store.triggers import DueEvent, ReceivedEvent, Status, StoredTrigger, Trigger
from noetl_serverless.testing.triggers import MemoryTriggers

from .loop import Process

if TYPE_CHECKING:
    from .world import World

Parameters = ParamSpec("Parameters")
T = TypeVar("T")


class TriggersLink(TriggerInbox):
    def __init__(self, triggers: MemoryTriggers, world: World, process: Process) -> None:
        self._triggers = triggers
        self._world = world
        self._process = process

    async def _statement(
        self, method: Callable[Parameters, Awaitable[T]], *args: Parameters.args, **named: Parameters.kwargs
    ) -> T:
        return await self._world.statement(self._process, method, *args, **named)

    async def get(self, reference: str) -> Trigger:
        return await self._statement(self._triggers.get, reference)

    async def event(self, trigger_id: int, event_id: str) -> ReceivedEvent:
        return await self._statement(self._triggers.event, trigger_id, event_id)

    async def receive(
        self, trigger: StoredTrigger, event_id: str, event: Mapping[str, Any], now: datetime
    ) -> DueEvent | None:
        return await self._statement(self._triggers.receive, trigger, event_id, event, now)

    async def claim_due(self, now: datetime, limit: int) -> list[DueEvent]:
        return await self._statement(self._triggers.claim_due, now, limit)

    async def started_by(self, chain: int, limit: int) -> int:
        return await self._statement(self._triggers.started_by, chain, limit)

    async def settle(
        self,
        due: DueEvent,
        status: Status,
        now: datetime,
        *,
        execution_id: int | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        await self._statement(self._triggers.settle, due, status, now, execution_id=execution_id, error=error)

    async def postpone(self, due: DueEvent, error: Mapping[str, Any], due_at: datetime) -> None:
        await self._statement(self._triggers.postpone, due, error, due_at)


class DueEvents:
    """`reconciler.triggers.TriggerSources` without a source to read."""

    def __init__(self, starts: TriggerStarts) -> None:
        self._starts = starts

    async def start_due(self, limit: int) -> int:
        return await self._starts.start_due(limit)

    async def read_sources(self) -> int:
        return 0
