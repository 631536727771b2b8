"""Batches of SQS: invocations, of which some come too early, events, and what is neither."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from ...errors import Problem
from .api import AwsError
from .invoker import SqsInvoker

_log = logging.getLogger(__name__)

# a message that is due within this time counts as due
EARLY_SECONDS = 1.0

Handler = Callable[[Sequence[Mapping[str, Any]]], Awaitable[object]]
EventHandler = Callable[[Mapping[str, Any]], Awaitable[object]]


async def _no_event(message: Mapping[str, Any]) -> None:
    return


def is_batch(event: Any) -> bool:
    return isinstance(event, dict) and isinstance(event.get("Records"), list)


class NotificationQueue:
    """`handler` is called once with all messages that are due, before it `on_event` with each that tells of an event;
    they raise if they could not do what they were invoked for."""

    def __init__(
        self,
        handler: Handler,
        invoker: SqsInvoker,
        clock: Callable[[], float] = time.time,
        *,
        on_event: EventHandler = _no_event,
    ) -> None:
        self._handler = handler
        self._on_event = on_event
        self._invoker = invoker
        self._clock = clock

    async def handle_batch(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """{"batchItemFailures": [...]}: the messages that SQS must deliver again. After some deliveries a message is a
        dead letter."""
        failed: list[str] = []
        due: dict[str, dict[str, Any]] = {}
        for record in event["Records"]:
            message = _message(record)
            if message is None:
                failed.append(record["messageId"])
                continue
            if _is_event(message):
                if await self._handle_event(message):
                    # what else it says is for nobody else
                    due[record["messageId"]] = {}
                else:
                    failed.append(record["messageId"])
                continue
            due_in = float(message.get("at", 0)) - self._clock()
            if due_in <= EARLY_SECONDS:
                due[record["messageId"]] = message
            elif not await self._requeue(message, due_in):
                failed.append(record["messageId"])
        if due and not await self._invoke(list(due.values())):
            failed += due
        return {"batchItemFailures": [{"itemIdentifier": id} for id in failed]}

    async def _invoke(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        try:
            await self._handler(messages)
        except Exception:
            # the cause may be any error of a function; the queue makes the retry
            _log.exception("an invocation was not answered; the queue brings it again")
            return False
        return True

    async def _handle_event(self, message: Mapping[str, Any]) -> bool:
        try:
            await self._on_event(message)
        except Exception:
            _log.exception("an event was not recorded; the queue brings it again")
            return False
        return True

    async def _requeue(self, message: Mapping[str, Any], due_in: float) -> bool:
        try:
            await self._invoker.requeue(message, due_in)
        except (AwsError, Problem, KeyError) as error:
            _log.warning("an invocation that came too early could not be sent on: %s", error)
            return False
        return True


def _message(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """An invocation's payload, or an event; None if the message is neither."""
    try:
        message = orjson.loads(record["body"])
        if isinstance(message, dict) and _is_event(message):
            return message
        if not math.isfinite(float(message.get("at", 0))):
            raise ValueError("not a time")
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        message = None
    if not isinstance(message, dict):
        _log.error("message %s is not an invocation", record.get("messageId"))
        return None
    return message


def _is_event(message: Mapping[str, Any]) -> bool:
    """Whether SNS wrapped it, or S3 or EventBridge wrote it: something has happened."""
    is_of_s3 = message.get("Service") == "Amazon S3" or message.get("source") == "aws.s3"
    return "TopicArn" in message or "Records" in message or is_of_s3
