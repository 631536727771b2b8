"""Triggers of playbooks, their events, and webhooks."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from ...errors import Conflict, InvalidRequest, NotFound, Problem
from ...limits import EVENT_BYTES
from ...playbook.load import playbook_data
from ...playbook.template_error import TemplateError
from ...playbook.trigger_event import match
from ...store.ids import fresh_id
from ...store.triggers import NEWEST, Trigger
from ..body import read_body
from ..models import Instant
from ..models.triggers import (
    FiredTrigger,
    FireTrigger,
    ListTriggerEvents,
    ListTriggers,
    NameTriggerEvent,
    ReceivedWebhook,
    TriggerDetail,
    TriggerEntry,
    TriggerEvent,
    TriggerEventContent,
    not_ready,
    position_of,
)
from ..operation import USERS, Call, Operation
from ..page import Page
from ..webhooks import Claim, WebhookRefused, claim_of, doubt_of, event_of, fault_of, secrets_of, verify

logger = logging.getLogger(__name__)

_INSTANT = TypeAdapter[datetime](Instant)


async def entries(call: Call) -> Page:
    query: ListTriggers = call.query
    path, _, name = (query.after or "").rpartition("/")
    found = await call.services.triggers.entries(
        path=query.path, kind=query.kind, after=(path, name), limit=query.limit + 1
    )
    return Page(
        [TriggerEntry.of(trigger) for trigger in found[: query.limit]],
        more=len(found) > query.limit,
        next_parameters=lambda last: {"after": f"{last.path}/{last.name}"},
    )


async def get(call: Call) -> TriggerDetail:
    trigger = await _trigger(call)
    answer = TriggerDetail(**TriggerEntry.of(trigger).model_dump(), **await _templates(call, trigger))
    if trigger.kind == "webhook" and answer.error is None:
        answer.error, answer.warnings = await _of_secrets(call, trigger)
    return answer


async def enable(call: Call) -> TriggerEntry:
    return await _switch(call, True)


async def disable(call: Call) -> TriggerEntry:
    return await _switch(call, False)


async def events(call: Call) -> Page:
    query: ListTriggerEvents = call.query
    trigger = await _trigger(call)
    found = await call.services.triggers.events(
        trigger.trigger_id, status=query.status, before=_position(query.before), limit=query.limit + 1
    )
    return Page(
        [TriggerEvent.of(event) for event in found[: query.limit]],
        more=len(found) > query.limit,
        next_parameters=lambda last: {"before": position_of(last)},
    )


async def fire(call: Call) -> FiredTrigger:
    """As if the event had come, whatever it would have come from."""
    body: FireTrigger = call.body
    trigger = await _trigger(call)
    now = call.services.now()
    event: dict[str, Any] = body.event.model_dump()
    event["id"] = event["id"] or f"fire-{fresh_id()}"
    event["time"] = event["time"] or _text_of(now)
    if body.dry_run:
        return await _dry_run(call, trigger, event)
    _check_effective(trigger)
    receipt = await call.services.trigger_starts.receive(trigger, event)
    settled = TriggerEvent.of(await call.services.triggers.event(trigger.trigger_id, receipt.event_id))
    return FiredTrigger(
        event_id=settled.event_id,
        matched={"started": True, "filtered": False}.get(settled.status),
        input=None,
        status=settled.status,
        execution_id=settled.execution_id,
        error=settled.error,
    )


async def content(call: Call) -> TriggerEventContent:
    body: NameTriggerEvent = call.body
    trigger = await _trigger(call)
    event = await call.services.triggers.content(trigger.trigger_id, body.event_id)
    found = TriggerEvent.of(await call.services.triggers.event(trigger.trigger_id, body.event_id))
    return TriggerEventContent(**found.model_dump(), event=event)


async def retry(call: Call) -> TriggerEvent:
    body: NameTriggerEvent = call.body
    trigger = await _trigger(call)
    # the next pass of the reconciler starts it
    return TriggerEvent.of(await call.services.triggers.retry(trigger.trigger_id, body.event_id, call.services.now()))


async def drop(call: Call) -> TriggerEvent:
    body: NameTriggerEvent = call.body
    trigger = await _trigger(call)
    return TriggerEvent.of(await call.services.triggers.drop(trigger.trigger_id, body.event_id, call.services.now()))


async def webhook(call: Call) -> ReceivedWebhook:
    """The signature is verified here, where the secrets are; the gateway hands it on as it came."""
    body = await read_body(call.request, EVENT_BYTES)
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    reference = call.path("trigger")
    try:
        trigger, claim = await _verified(call, reference, headers, body)
    except WebhookRefused as refused:
        logger.warning("a webhook of %s is refused: %s", reference[:500], refused.why)
        raise
    _check_effective(trigger)
    event = event_of(f"webhook:{trigger.path}/{trigger.name}", claim, headers, body, call.services.now())
    receipt = await call.services.trigger_starts.receive(trigger, event)
    found = TriggerEvent.of(await call.services.triggers.event(trigger.trigger_id, receipt.event_id))
    return ReceivedWebhook(
        event_id=found.event_id, status=found.status, execution_id=found.execution_id, duplicate=not receipt.new
    )


def _check_effective(trigger: Trigger) -> None:
    """Raises Conflict."""
    if not trigger.declared:
        raise Conflict(f"the newest version of {trigger.path} does not declare the trigger {trigger.name!r}")
    if not trigger.enabled:
        raise Conflict(f"the trigger {trigger.path}/{trigger.name} is disabled: somebody has to enable it first")


async def _verified(call: Call, reference: str, headers: dict[str, str], body: bytes) -> tuple[Trigger, Claim]:
    """Raises WebhookRefused, for an unknown trigger as for a wrong signature."""
    try:
        trigger = await call.services.triggers.get(reference)
        if trigger.kind != "webhook":
            raise WebhookRefused("the trigger is no webhook")
        claim = claim_of(trigger.source, headers, body, call.services.now())
        credential = await call.services.credentials.get(str(trigger.config["auth"]), with_data=True)
    except NotFound as error:
        raise WebhookRefused(error.detail) from None
    verify(trigger.source, claim, secrets_of(credential))
    return trigger, claim


async def _dry_run(call: Call, trigger: Trigger, event: dict[str, Any]) -> FiredTrigger:
    answer = FiredTrigger(event_id=event["id"], matched=None, input=None, status=None, execution_id=None, error=None)
    try:
        version, compiled = await call.services.trigger_starts.compiled(trigger.path, trigger.name)
        answer.input = match(compiled, event).input
        answer.matched = answer.input is not None
        if answer.input is not None:
            await call.services.orchestrator.check_start(trigger.path, version, answer.input)
    except TemplateError as error:
        answer.error = error.to_dict()
    except InvalidRequest as error:
        # as the start would be refused
        answer.error = error.to_dict()
    return answer


async def _trigger(call: Call) -> Trigger:
    return await call.services.triggers.get(call.path("trigger"))


async def _templates(call: Call, trigger: Trigger) -> dict[str, Any]:
    """`when` and `input` as the version that declares it has them; none if that is deleted."""
    try:
        entry = await call.services.catalog.get(trigger.path, trigger.version)
    except NotFound:
        return {}
    root = await asyncio.to_thread(playbook_data, entry.content)
    declared = [one for one in root.get("triggers") or () if one.get("name") == trigger.name]
    return {key: one.get(key) for one in declared for key in ("when", "input")}


async def _of_secrets(call: Call, trigger: Trigger) -> tuple[dict[str, Any] | None, list[str]]:
    """Why no webhook can be right, and what is unusual about secrets that can."""
    try:
        credential = await call.services.credentials.get(str(trigger.config["auth"]), with_data=True)
    except Problem as problem:
        return not_ready(problem.detail), []
    if why := fault_of(trigger.source, credential):
        return not_ready(why), []
    doubt = doubt_of(trigger.source, credential)
    return None, [] if doubt is None else [doubt]


async def _switch(call: Call, enabled: bool) -> TriggerEntry:
    trigger = await _trigger(call)
    return TriggerEntry.of(await call.services.triggers.set_enabled(trigger, enabled, call.services.now()))


def _position(text: str | None) -> tuple[datetime, str]:
    if text is None:
        return NEWEST, ""
    at, _, event_id = text.partition(" ")
    try:
        return _INSTANT.validate_python(at), event_id
    except ValueError:
        raise InvalidRequest("before: this must be the `next` of a page") from None


def _text_of(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


OPERATIONS = (
    Operation(
        "receiveWebhook",
        "POST",
        "/api/hooks/{trigger:path}",
        summary="Receive a signed webhook for the trigger PATH/NAME; of one id, it starts one execution",
        tag="triggers",
        roles=USERS,
        handler=webhook,
        answer=ReceivedWebhook,
        status=202,
        # it is as frequent as its senders like
        audited=False,
    ),
    Operation(
        "listTriggers",
        "GET",
        "/api/triggers",
        summary="List triggers, in the order of their playbooks",
        tag="triggers",
        roles=USERS,
        handler=entries,
        answer=TriggerEntry,
        many=True,
        next_parameter="after",
        query=ListTriggers,
    ),
    Operation(
        "listTriggerEvents",
        "GET",
        "/api/triggers/{trigger:path}/events",
        summary="List what a trigger has received, newest first, and what it has started",
        tag="triggers",
        roles=USERS,
        handler=events,
        answer=TriggerEvent,
        many=True,
        next_parameter="before",
        query=ListTriggerEvents,
    ),
    Operation(
        "getTrigger",
        "GET",
        "/api/triggers/{trigger:path}",
        summary="Read a trigger by PATH/NAME or its id",
        tag="triggers",
        roles=USERS,
        handler=get,
        answer=TriggerDetail,
    ),
    Operation(
        "enableTrigger",
        "POST",
        "/api/triggers/{trigger:path}/enable",
        summary="Enable a trigger; what it had received goes on",
        tag="triggers",
        roles=USERS,
        handler=enable,
        answer=TriggerEntry,
    ),
    Operation(
        "disableTrigger",
        "POST",
        "/api/triggers/{trigger:path}/disable",
        summary="Disable a trigger, also for later versions of its playbook; what it has received waits",
        tag="triggers",
        roles=USERS,
        handler=disable,
        answer=TriggerEntry,
    ),
    Operation(
        "fireTrigger",
        "POST",
        "/api/triggers/{trigger:path}/fire",
        summary="Give a trigger an event, or only show what it would make of it",
        tag="triggers",
        roles=USERS,
        handler=fire,
        answer=FiredTrigger,
        body=FireTrigger,
    ),
    Operation(
        "readTriggerEvent",
        "POST",
        "/api/triggers/{trigger:path}/read",
        summary="Read an event with its content, such as a dead letter",
        tag="triggers",
        roles=USERS,
        handler=content,
        answer=TriggerEventContent,
        body=NameTriggerEvent,
    ),
    Operation(
        "retryTriggerEvent",
        "POST",
        "/api/triggers/{trigger:path}/retry",
        summary="Start a dead letter after all, with the newest version of the playbook",
        tag="triggers",
        roles=USERS,
        handler=retry,
        answer=TriggerEvent,
        body=NameTriggerEvent,
    ),
    Operation(
        "dropTriggerEvent",
        "POST",
        "/api/triggers/{trigger:path}/drop",
        summary="Give up a dead letter; its id stays known, so that it is not received again",
        tag="triggers",
        roles=USERS,
        handler=drop,
        answer=TriggerEvent,
        body=NameTriggerEvent,
    ),
)
