"""Invokes functions through Cloud Tasks: each has its own queue, which holds its URL and the identity of the caller."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from ...errors import Unavailable
from ..cloud.invocations import copies_of
from ..cloud.transport import ApiError
from .api import Api

_log = logging.getLogger(__name__)

# the longest delay of Cloud Tasks is 30 days; a timer that is due later is found by the clock
MAX_DELAY_SECONDS = 29 * 86400.0
# the longest time that Cloud Tasks waits for an answer. A function's own limit is shorter
DISPATCH_DEADLINE = "1800s"
# tasks are made one by one: as many at once as a fan-out needs to start the instances of a pool
MAX_TASKS = 10
# the queue overrides it
PLACEHOLDER_URL = "https://queue.invalid/"


class CloudTasksInvoker:
    """Adds a task to the function's queue. An invocation that fails is lost: invocations are hints.

    `queues`: function or pool -> projects/PROJECT/locations/LOCATION/queues/QUEUE. `per_invocation`: see `copies_of`.
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
        copies = copies_of(message, self._per_invocation, MAX_TASKS)
        task = {"task": self._task(message, delay)}
        try:
            await asyncio.gather(
                *(self._api.json("cloudtasks", "POST", f"/v2/{queue}/tasks", task) for _ in range(copies))
            )
        except (ApiError, Unavailable) as error:
            _log.warning("an invocation of %s was lost: %s", function, error)

    async def close(self) -> None:
        await self._api.close()

    def _task(self, message: Mapping[str, Any], delay: float) -> dict[str, Any]:
        task: dict[str, Any] = {
            "httpRequest": {
                "url": PLACEHOLDER_URL,
                "httpMethod": "POST",
                "headers": {"Content-Type": "application/json"},
                "body": base64.b64encode(orjson.dumps(message)).decode(),
            },
            "dispatchDeadline": DISPATCH_DEADLINE,
        }
        if delay > 0:
            due = datetime.fromtimestamp(self._clock() + min(delay, MAX_DELAY_SECONDS), UTC)
            task["scheduleTime"] = due.isoformat().replace("+00:00", "Z")
        return task
