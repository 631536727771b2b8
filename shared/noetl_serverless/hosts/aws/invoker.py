"""Invokes functions through SQS: each has its own queue."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ...errors import Unavailable
from ..cloud.invocations import copies_of
from .api import Api, AwsError

_log = logging.getLogger(__name__)

# the longest delay of SQS
MAX_DELAY_SECONDS = 900
# the most messages that SQS accepts in one call
MAX_MESSAGES = 10


class SqsInvoker:
    """Sends a message to the function's queue. An invocation that fails is lost: invocations are hints.

    A delay beyond SQS's limit is kept in `at` (seconds since 1970): a receiver that gets the message too early sends it
    again. `waiting` and `per_invocation`: see `copies_of`.
    """

    def __init__(
        self, api: Api, queues: Mapping[str, str], *, per_invocation: int = 16, clock: Callable[[], float] = time.time
    ) -> None:
        self._api = api
        self._queues = dict(queues)
        self._per_invocation = per_invocation
        self._clock = clock

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None:
        queue = self._queues.get(function)
        if queue is None:
            _log.warning("no queue for function %s: it is not invoked", function)
            return
        message = {"function": function, **(payload or {})}
        invocations = copies_of(message, self._per_invocation, MAX_MESSAGES)
        if delay > MAX_DELAY_SECONDS:
            message["at"] = math.ceil(self._clock() + delay)
        try:
            await self._send(
                queue, orjson.dumps(message).decode(), min(math.ceil(delay), MAX_DELAY_SECONDS), invocations
            )
        except (AwsError, Unavailable) as error:
            _log.warning("an invocation of %s was lost: %s", function, error)

    async def requeue(self, message: Mapping[str, Any], due_in: float) -> None:
        """Send a message again that came too early. Raises AwsError and Unavailable: it must not be lost on the way."""
        queue = self._queues[message["function"]]
        delay = min(max(1, math.ceil(due_in)), MAX_DELAY_SECONDS)
        await self._send(queue, orjson.dumps(message).decode(), delay, 1)

    async def close(self) -> None:
        return None

    async def _send(self, queue: str, body: str, delay: int, copies: int) -> None:
        if copies == 1:
            entry = {"QueueUrl": queue, "MessageBody": body, "DelaySeconds": delay}
            await self._api.json("sqs", "AmazonSQS.SendMessage", entry, "1.0")
            return
        entries = [{"Id": str(index), "MessageBody": body, "DelaySeconds": delay} for index in range(copies)]
        await self._api.json("sqs", "AmazonSQS.SendMessageBatch", {"QueueUrl": queue, "Entries": entries}, "1.0")
