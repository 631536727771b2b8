"""The reconciler: ticks of EventBridge Scheduler, and invocations from its queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ....reconciler.passes import Passes
from ....telemetry.logs import end_cold_start, log_context
from ...assembly.reconciler import reconciler
from ..host import Context
from ..loop import run
from ..object_events import written_objects
from ..platform import AwsPlatform, aws_platform
from ..queue import NotificationQueue, is_batch
from ..queue_messages import QueueSource

TICK = {"noetl": "tick"}
FUNCTION = "reconciler"


def entry_point(environ: Mapping[str, str]) -> ReconcilerHandler:
    return ReconcilerHandler(environ)


class ReconcilerHandler:
    def __init__(self, environ: Mapping[str, str]) -> None:
        platform: AwsPlatform = aws_platform(environ)
        self._platform = platform
        instance, *_, self._objects = reconciler(platform, {"sqs": QueueSource(platform.api)})
        # the next tick is up to a minute away
        self._passes = Passes(instance, partial(platform.invoker.invoke, FUNCTION))
        self._notifications = NotificationQueue(self._invoke, platform.invoker, on_event=self._record)

    def __call__(self, event: Any, context: Context) -> dict[str, Any]:
        """What was done, or the messages that SQS must deliver again. ValueError for an event that is not one of
        ours."""
        self._platform.host.start_invocation(context)
        with log_context(function_request_id=context.aws_request_id):
            if is_batch(event):
                answer = run(self._notifications.handle_batch(event))
            elif event == TICK:
                answer = {"done": run(self._passes.run())}
            else:
                raise ValueError("the reconciler accepts only ticks and batches of its queue")
        end_cold_start()
        return answer

    async def _record(self, message: Mapping[str, Any]) -> None:
        await self._objects.receive(written_objects(message))

    async def _invoke(self, messages: Sequence[Mapping[str, Any]]) -> None:
        await self._passes.run()
