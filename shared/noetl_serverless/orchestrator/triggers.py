"""Starts executions for the events of triggers: each event one, however often it is attempted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from ..errors import Conflict, NotFound, Problem, Unavailable
from ..limits import TRIGGER_CHAIN, TRIGGER_DEPTH
from ..playbook.plan import Trigger as CompiledTrigger
from ..playbook.template_error import TemplateError
from ..playbook.trigger_event import id_of, match
from ..store.triggers import MAX_ID_CHARACTERS, DueEvent, PolledTrigger, ReceivedEvent, Status, StoredTrigger
from .orchestrator import Orchestrator

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
# the waits between attempts double from the first to the last
FIRST_DELAY = timedelta(seconds=2)
MAX_DELAY = timedelta(minutes=10)


class TriggerInbox(Protocol):
    """What is needed of `store.triggers.Triggers`."""

    async def receive(
        self, trigger: StoredTrigger, event_id: str, event: Mapping[str, Any], now: datetime
    ) -> DueEvent | None: ...

    async def event(self, trigger_id: int, event_id: str) -> ReceivedEvent: ...

    async def claim_due(self, now: datetime, limit: int) -> list[DueEvent]: ...

    async def started_by(self, chain: int, limit: int) -> int: ...

    async def settle(
        self,
        due: DueEvent,
        status: Status,
        now: datetime,
        *,
        execution_id: int | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None: ...

    async def postpone(self, due: DueEvent, error: Mapping[str, Any], due_at: datetime) -> None: ...


class ChainTooWide(Problem):
    status, code, title = 409, "trigger.too_many", "Too many executions have followed from one end"


@dataclass(kw_only=True, frozen=True, slots=True)
class Receipt:
    """That an event is recorded, under which id, and whether it was new."""

    event_id: str
    new: bool


class TriggerGone(Problem):
    status, code, title = 409, "trigger.gone", "The playbook no longer has this trigger"


class TooManyAttempts(Problem):
    status, code, title = 500, "trigger.attempts", "The event was attempted too often"


class ChainTooLong(Problem):
    status, code, title = 409, "trigger.too_deep", "Too many triggers have led to this event"


INTERNAL = Problem("Internal error; see the log for details")


class TriggerStarts:
    def __init__(
        self, inbox: TriggerInbox, orchestrator: Orchestrator, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._inbox = inbox
        self._orchestrator = orchestrator
        self._now = now

    async def receive(self, trigger: StoredTrigger, event: Mapping[str, Any]) -> Receipt:
        """Record an event under its id, and start its execution. Once this returns, it may be acknowledged. What cannot
        be started now is started later. Raises Unavailable, TooLarge, InvalidRequest, and TriggerGone if the trigger is
        no longer effective."""
        event_id = _bounded_id(str(event["id"]))
        due = await self._record(trigger, event_id, event)
        if due is not None:
            await self.start(due)
        return Receipt(event_id=event_id, new=due is not None)

    async def receive_message(self, trigger: PolledTrigger, event: Mapping[str, Any]) -> bool:
        """As `receive`, under the id that the trigger's own expression gives; whether it was new. What has none, or
        cannot be recorded, is recorded under the id of the message, as a dead letter: it must not hold up those behind
        it. Raises Unavailable and TriggerGone."""
        _, compiled = await self.compiled(trigger.path, trigger.name)
        try:
            id = id_of(compiled, event)
            due = await self._record(trigger, _bounded_id(id), {**event, "id": id})
        except TemplateError as error:
            return await self._receive_dead(trigger, event, error.to_dict())
        except (Unavailable, TriggerGone):
            raise
        except Problem as problem:
            return await self._receive_dead(trigger, event, problem.to_dict())
        except Exception:
            logger.exception("an event of the trigger %s/%s cannot be recorded", trigger.path, trigger.name)
            return await self._receive_dead(trigger, event, INTERNAL.to_dict())
        if due is not None:
            await self.start(due)
        return due is not None

    async def _record(self, trigger: StoredTrigger, event_id: str, event: Mapping[str, Any]) -> DueEvent | None:
        """None if it is known. Raises TriggerGone rather than lose an event of a trigger that is disabled meanwhile."""
        due = await self._inbox.receive(trigger, event_id, event, self._now())
        if due is None:
            try:
                await self._inbox.event(trigger.trigger_id, event_id)
            except NotFound:
                raise TriggerGone(f"{trigger.path}/{trigger.name} is disabled, or no longer declared") from None
        return due

    async def _receive_dead(self, trigger: PolledTrigger, event: Mapping[str, Any], error: Mapping[str, Any]) -> bool:
        event_id = _bounded_id(str(event["id"]))
        try:
            due = await self._record(trigger, event_id, event)
        except (Unavailable, TriggerGone):
            raise
        except Exception:
            # the reason may lie in any part of its content
            due = await self._record(trigger, event_id, {"id": event_id, **_without_content(event)})
        if due is not None:
            await self._dead(due, error)
        return due is not None

    async def start_due(self, limit: int) -> int:
        """Start what was received and has not been settled; returns how many were attempted. Raises Unavailable."""
        due = await self._inbox.claim_due(self._now(), limit)
        for one in due:
            await self.start(one)
        return len(due)

    async def start(self, due: DueEvent) -> None:
        """Start the execution of an event that the caller holds, and settle it. What will not succeed with another
        attempt becomes a dead letter; so does what has been attempted too often."""
        try:
            await self._start(due)
        except TemplateError as error:
            await self._dead(due, error.to_dict())
        except Problem as problem:
            is_final = problem.status < 500 or isinstance(problem, TooManyAttempts)
            await (self._dead if is_final else self._postpone)(due, problem.to_dict())
        except Exception:
            logger.exception("an event of the trigger %s/%s cannot be started", due.path, due.name)
            await self._postpone(due, INTERNAL.to_dict())

    async def compiled(self, path: str, name: str) -> tuple[int, CompiledTrigger]:
        """The newest version of a playbook, and its trigger as compiled. Raises TriggerGone."""
        try:
            version, plan = await self._orchestrator.newest_plan(path)
        except NotFound as error:
            raise TriggerGone(error.detail) from None
        if name not in plan.triggers:
            raise TriggerGone(f"version {version} of {path} has no trigger {name!r}")
        return version, plan.triggers[name]

    async def _start(self, due: DueEvent) -> None:
        principal = principal_of(due)
        # another attempt may have started it, with another version of the playbook and thus another input
        if due.attempts > 1 and await self._settle_started(due, principal):
            return
        if due.attempts > MAX_ATTEMPTS:
            raise TooManyAttempts(f"it was attempted {MAX_ATTEMPTS} times, and no attempt has ended")
        if due.depth > TRIGGER_DEPTH:
            raise ChainTooLong(f"{TRIGGER_DEPTH} triggers have led to this event, one after the other")
        if due.chain is not None and await self._inbox.started_by(due.chain, TRIGGER_CHAIN) >= TRIGGER_CHAIN:
            raise ChainTooWide(f"triggers have started {TRIGGER_CHAIN} executions since the end of {due.chain}")
        version, trigger = await self.compiled(due.path, due.name)
        matched = match(trigger, due.event)
        if matched.input is None:
            await self._inbox.settle(due, "filtered", self._now())
            return
        try:
            started = await self._orchestrator.start(
                path=due.path,
                version=version,
                payload=matched.input,
                idempotency_key=due.idempotency_key,
                principal=principal,
            )
        except Conflict:
            if not await self._settle_started(due, principal):
                raise
            return
        await self._inbox.settle(due, "started", self._now(), execution_id=int(started.execution_id))

    async def _settle_started(self, due: DueEvent, principal: Mapping[str, Any]) -> bool:
        execution_id = await self._orchestrator.find_started(due.idempotency_key, principal)
        if execution_id is None:
            return False
        await self._inbox.settle(due, "started", self._now(), execution_id=int(execution_id))
        return True

    async def _dead(self, due: DueEvent, error: Mapping[str, Any]) -> None:
        logger.error(
            "an event of the trigger %s/%s is a dead letter: %s",
            due.path,
            due.name,
            error.get("code"),
            extra={"trigger_event": due.event_id},
        )
        await self._inbox.settle(due, "dead", self._now(), error=error)

    async def _postpone(self, due: DueEvent, error: Mapping[str, Any]) -> None:
        if due.attempts >= MAX_ATTEMPTS:
            await self._dead(due, error)
            return
        delay = min(FIRST_DELAY * 2 ** (due.attempts - 1), MAX_DELAY)
        await self._inbox.postpone(due, error, self._now() + delay)


def principal_of(due: DueEvent) -> dict[str, Any]:
    """What starts it; `depth`: how many triggers have led to it; `chain`: the first end of those that have."""
    chain = {} if due.chain is None else {"chain": str(due.chain)}
    named = {"kind": "trigger", "name": f"{due.path}/{due.name}", "event_id": due.event_id, "depth": due.depth}
    return named | chain


def _without_content(event: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: str(event.get(key))[:MAX_ID_CHARACTERS] for key in ("source", "type", "time")}
    return {**{key: text if _is_text(text) else None for key, text in kept.items()}, "data": None}


def _bounded_id(text: str) -> str:
    """A longer id by its digest: of a message, it may be anything."""
    if len(text) <= MAX_ID_CHARACTERS and _is_text(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def _is_text(text: str) -> bool:
    """Whether PostgreSQL can store it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
