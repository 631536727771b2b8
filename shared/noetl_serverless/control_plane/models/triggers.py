from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from ...protocol import StorableText
from ...store.triggers import MAX_ID_CHARACTERS, ReceivedEvent, Trigger
from . import AnswerModel, RequestModel

Kind = Literal["webhook", "object", "message", "playbook"]
EventStatus = Literal["received", "started", "filtered", "failed", "dead", "dropped"]


NOT_READY = "playbook.trigger_not_ready"


class ListTriggers(RequestModel):
    path: StorableText | None = Field(default=None, description="Path of the playbook that they start.")
    kind: Kind | None = None
    after: StorableText | None = Field(
        default=None, description="PATH/NAME of the trigger after which the page begins."
    )
    limit: int = Field(default=100, ge=1, le=1000)


class TriggerEntry(AnswerModel):
    trigger_id: str
    path: str = Field(description="Path of the playbook that it starts.")
    name: str
    version: int = Field(description="Latest version of the playbook that declares it.")
    kind: Kind
    source: str = Field(description="What it listens to.")
    config: dict[str, Any] = Field(description="The keys of its kind.")
    enabled: bool
    effective: bool = Field(description="Whether it is enabled, and the newest version of the playbook declares it.")
    error: dict[str, Any] | None = Field(description="Why its source cannot be read, or what it lacks.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, trigger: Trigger) -> TriggerEntry:
        names = TriggerEntry.model_fields.keys() - {"trigger_id", "effective", "error"}
        values = {name: getattr(trigger, name) for name in names}
        error = trigger.error
        if trigger.lacks_credential:
            error = not_ready(f"there is no credential {trigger.config.get('auth')!r}: every webhook is refused")
        return cls(trigger_id=str(trigger.trigger_id), effective=trigger.is_effective, error=error, **values)


class TriggerDetail(TriggerEntry):
    when: Any = Field(default=None, description="Its condition, as the playbook has it; null: every event starts it.")
    input: Any = Field(default=None, description="What it makes of an event, as the playbook has it.")
    warnings: list[str] = Field(
        default_factory=list,
        description="What is unusual about the secrets of a webhook, such as one that is no base64.",
    )


def not_ready(message: str) -> dict[str, Any]:
    """That a trigger starts nothing, and why."""
    return {"code": NOT_READY, "message": message}


class ListTriggerEvents(RequestModel):
    status: EventStatus | None = None
    before: StorableText | None = Field(default=None, max_length=400, description="`next` of the page before.")
    limit: int = Field(default=50, ge=1, le=500)


class TriggerEvent(AnswerModel):
    event_id: str
    status: EventStatus = Field(
        description=(
            "received: it is to be started. failed: the last attempt failed, and another follows. started, filtered: "
            "settled. dead: a dead letter, kept until it is retried or dropped"
        )
    )
    execution_id: str | None
    error: dict[str, Any] | None
    depth: int = Field(description="How many triggers have led to it, one after the other.")
    attempts: int
    received_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, event: ReceivedEvent) -> TriggerEvent:
        values = {name: getattr(event, name) for name in cls.model_fields if name != "execution_id"}
        return cls(execution_id=None if event.execution_id is None else str(event.execution_id), **values)


class TriggerEventContent(TriggerEvent):
    event: dict[str, Any] | None = Field(
        description="What the templates of the trigger read; null once it is settled, unless it is a dead letter."
    )


def position_of(event: TriggerEvent) -> str:
    """Where a list goes on after this event."""
    return f"{event.received_at.astimezone(UTC).isoformat()} {event.event_id}"


class NameTriggerEvent(RequestModel):
    event_id: StorableText = Field(min_length=1, max_length=MAX_ID_CHARACTERS)


class GivenEvent(RequestModel):
    # any text: one that cannot be stored is known by its digest
    id: str | None = Field(default=None, min_length=1, max_length=MAX_ID_CHARACTERS, description="Default: a new one.")
    source: StorableText = Field(default="fire", max_length=1000)
    type: StorableText = Field(default="fire", max_length=255)
    time: StorableText | None = Field(default=None, max_length=64, description="Default: now.")
    headers: dict[StorableText, StorableText] = Field(default_factory=dict)
    data: Any = None


class FireTrigger(RequestModel):
    event: GivenEvent = Field(default_factory=GivenEvent)
    dry_run: bool = Field(default=False, description="Only evaluate it: record nothing, start nothing.")


class FiredTrigger(AnswerModel):
    event_id: str
    matched: bool | None = Field(description="Whether the trigger's condition holds; null if it is not known.")
    input: dict[str, Any] | None = Field(description="What it makes of the event.")
    status: EventStatus | None = Field(description="null for a dry run.")
    execution_id: str | None
    error: dict[str, Any] | None


class ReceivedWebhook(AnswerModel):
    event_id: str
    status: EventStatus
    execution_id: str | None = Field(description="Execution that it has started, if it has.")
    duplicate: bool = Field(description="Whether it had been received before.")
