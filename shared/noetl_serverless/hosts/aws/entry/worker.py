"""The worker: invocations from its pool's queue. The work is named in them or in NATS, or a sweep finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....telemetry.logs import end_cold_start, log_context
from ....worker.service import NotificationReceiver
from ...assembly.worker import worker
from ..host import Context
from ..loop import run
from ..platform import AwsPlatform, aws_platform
from ..queue import NotificationQueue, is_batch
from ..session import lambda_session

DRAIN = "drain"


def entry_point(environ: Mapping[str, str]) -> WorkerHandler:
    return WorkerHandler(environ)


class WorkerHandler:
    def __init__(self, environ: Mapping[str, str]) -> None:
        platform: AwsPlatform = aws_platform(environ, lambda_session)
        self._platform = platform
        self._worker, _ = worker(platform)
        self._receiver = NotificationReceiver(self._worker, platform.host, platform.invoker, None)
        self._notifications = NotificationQueue(self._invoke, platform.invoker)
        # during initialization, while Lambda provides a whole CPU
        self._worker.start_python()

    def __call__(self, event: Any, context: Context) -> dict[str, Any]:
        """The drain's summary, or the messages that SQS must deliver again. ValueError for an event that is not one of
        ours."""
        self._platform.host.start_invocation(context)
        with log_context(function_request_id=context.aws_request_id):
            if is_batch(event):
                answer = run(self._notifications.handle_batch(event))
            elif isinstance(event, dict) and event.get("noetl") == DRAIN:
                answer = run(self._answer([event]))
            else:
                raise ValueError("a worker accepts only batches of its queue and {'noetl': 'drain'}")
        end_cold_start()
        return answer

    async def _invoke(self, messages: Sequence[Mapping[str, Any]]) -> None:
        await self._answer(messages)

    async def _answer(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        summary = await self._receiver.drain(messages)
        # commands first: the archive can wait
        if any(message.get("archive") for message in messages):
            await self._receiver.archive()
        return summary
