from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.infra.lambda_service import sqs_record

from noetl_serverless.hosts.aws.invoker import SqsInvoker
from noetl_serverless.hosts.aws.queue import NotificationQueue

ARN = "arn:aws:sqs:eu-central-1:123456789012:noetl-reconciler"
NOW = 1_700_000_000.0
S3_EVENT = {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "results/1/a"}}}]}
S3_TEST = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "noetl-results"}


def sns(message: str) -> dict[str, Any]:
    """As SNS wraps it, without raw delivery."""
    topic = "arn:aws:sns:eu-central-1:123456789012:noetl-events"
    return {"Type": "Notification", "TopicArn": topic, "Message": message}


class Requeued(SqsInvoker):
    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []

    async def requeue(self, payload: Mapping[str, Any], due_in: float) -> None:
        self.messages.append(payload)


class Queue:
    def __init__(self) -> None:
        self.invocations: list[Sequence[Mapping[str, Any]]] = []
        self.requeued = Requeued()
        self._queue = NotificationQueue(self._invoke, self.requeued, lambda: NOW)

    async def _invoke(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self.invocations.append(messages)

    async def deliver(self, *bodies: str) -> list[str]:
        """The numbers of the messages that SQS must deliver again."""
        records = [sqs_record(body, ARN, id=str(number)) for number, body in enumerate(bodies)]
        answer = await self._queue.handle_batch({"Records": records})
        return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


@pytest.mark.parametrize(
    "event", [sns(json.dumps(S3_EVENT)), sns(json.dumps(S3_TEST)), sns("hello"), S3_EVENT, S3_TEST]
)
async def test_an_event_invokes_and_says_nothing(event: dict[str, Any]) -> None:
    queue = Queue()
    assert await queue.deliver(json.dumps(event)) == []
    assert queue.invocations == [[{}]]


async def test_what_a_publisher_writes_is_not_read() -> None:
    queue = Queue()
    later = {"at": NOW + 600, "function": "worker"}
    assert await queue.deliver(json.dumps(sns(json.dumps(later))), json.dumps(sns("") | later)) == []
    assert queue.invocations == [[{}, {}]]
    assert queue.requeued.messages == []


async def test_an_invocation_beside_an_event_keeps_its_payload() -> None:
    queue = Queue()
    assert await queue.deliver(json.dumps({"partition": 3}), json.dumps(sns("hello"))) == []
    assert queue.invocations == [[{"partition": 3}, {}]]


@pytest.mark.parametrize("body", ["hello", "[]", "3", '{"at": "noon"}'])
async def test_what_is_neither_an_invocation_nor_an_event_is_delivered_again(body: str) -> None:
    queue = Queue()
    assert await queue.deliver(body, "{}") == ["0"]
    assert queue.invocations == [[{}]]
