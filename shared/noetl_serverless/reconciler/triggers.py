"""Reads the queues, topics and folders that triggers listen to, and starts what was received and not started."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Protocol

from ..errors import Problem, Unavailable
from ..orchestrator.triggers import TriggerStarts
from ..store.triggers import PolledTrigger, Triggers

logger = logging.getLogger(__name__)

# sources that one pass reads at most, and events of one source that it reads at once
MAX_SOURCES = 20
MAX_EVENTS = 100
# how long one pass may read, in seconds: it ends the batch that it has begun, within the lease of its sources
READ_SECONDS = 10.0
LEASE = timedelta(seconds=30)
# how long a source is left alone that had nothing more, or that could not be read
PAUSE = timedelta(seconds=1)
ERROR_PAUSE = timedelta(seconds=30)


async def _nothing() -> None:
    return


@dataclass(kw_only=True, frozen=True, slots=True)
class SourceEvent:
    """An event, and how to tell its source that it is recorded: until then, the source delivers it again."""

    event: dict[str, Any]
    acknowledge: Callable[[], Awaitable[None]] = _nothing


@dataclass(kw_only=True, frozen=True, slots=True)
class SourceEvents:
    """`position`: how far the source has been read, once `events` are recorded; `more`: it has more of them; `problem`:
    what of it cannot be read, while the rest can."""

    events: Sequence[SourceEvent]
    position: Mapping[str, Any] = field(default_factory=dict)
    more: bool = False
    problem: Problem | None = None


class TriggerSource(Protocol):
    async def read(self, trigger: PolledTrigger, limit: int) -> SourceEvents:
        """What has come since `trigger.position`, or has not been acknowledged. Raises Problem, Unavailable."""
        ...


class TriggerSources:
    """`sources`: by the first part of what a trigger listens to, such as nats or s3."""

    def __init__(
        self,
        triggers: Triggers,
        starts: TriggerStarts,
        sources: Mapping[str, TriggerSource],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._triggers = triggers
        self._starts = starts
        self._sources = sources
        self._now = now

    async def start_due(self, limit: int) -> int:
        return await self._starts.start_due(limit)

    async def read_sources(self) -> int:
        """Record what has come; returns how many events were new. A source that fails does not stop the others; one
        that has more is read again, in turn with the others."""
        deadline = monotonic() + READ_SECONDS
        received = 0
        while monotonic() < deadline:
            due = await self._triggers.poll(self._now(), self._now() + LEASE, MAX_SOURCES)
            for trigger in due:
                if monotonic() >= deadline:
                    await self._triggers.record_polled(trigger, trigger.position, self._now())
                    continue
                received += await self._read(trigger)
            if not due:
                break
        return received

    async def _read(self, trigger: PolledTrigger) -> int:
        received = 0
        failure: Exception | None = None
        try:
            found = await self._source(trigger).read(trigger, MAX_EVENTS)
            for one in found.events:
                try:
                    received += await self._starts.receive_message(trigger, one.event)
                    await one.acknowledge()
                except Problem:
                    raise
                except Exception as error:
                    # it comes again; those behind it do not wait for that
                    logger.exception("an event of %s/%s cannot be received", trigger.path, trigger.name)
                    failure = failure or error
            if failure is not None:
                raise failure
        except Exception as error:
            problem = error if isinstance(error, Problem) else Problem("Internal error; see the log for details")
            # the trigger keeps it; a folder that is not there yet must not fill the log
            if not isinstance(error, Problem) or trigger.error != problem.to_dict():
                logger.warning("%s/%s: %s cannot be read: %r", trigger.path, trigger.name, trigger.source, error)
            await self._triggers.record_polled(trigger, trigger.position, self._now() + ERROR_PAUSE, problem.to_dict())
            return received
        pause = timedelta() if found.more else PAUSE
        unread = None if found.problem is None else found.problem.to_dict()
        await self._triggers.record_polled(trigger, found.position, self._now() + pause, unread)
        return received

    def _source(self, trigger: PolledTrigger) -> TriggerSource:
        scheme = trigger.source.partition(":")[0]
        if scheme not in self._sources:
            raise Unavailable(f"this deployment reads no {scheme}; it reads {', '.join(sorted(self._sources))}")
        return self._sources[scheme]
