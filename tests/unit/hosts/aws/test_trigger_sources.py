"""What S3 and SQS say, as events of triggers: queues on moto, notifications as AWS documents them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from noetl_serverless.errors import NotFound
from noetl_serverless.hosts.aws.api import Api
from noetl_serverless.hosts.aws.object_events import written_objects
from noetl_serverless.hosts.aws.queue_messages import QueueSource
from noetl_serverless.store.triggers import PolledTrigger

NOTIFICATION = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "eventTime": "2025-07-01T12:00:00.123Z",
    "eventName": "ObjectCreated:Put",
    "s3": {
        "bucket": {"name": "orders"},
        "object": {"key": "in/a+b%2Bc.csv", "size": 7, "eTag": "d41d8", "sequencer": "0055AED6DCD90281E5"},
    },
}
BRIDGE = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "time": "2025-07-01T12:00:00Z",
    "detail": {
        "bucket": {"name": "orders"},
        "object": {"key": "in/a b+c.csv", "size": 7, "etag": "d41d8", "version-id": "v7", "sequencer": "0055"},
    },
}


def sns(message: Any) -> dict[str, Any]:
    topic = "arn:aws:sns:eu-central-1:123456789012:noetl-events"
    return {"Type": "Notification", "TopicArn": topic, "Message": json.dumps(message)}


@pytest.mark.parametrize("message", [{"Records": [NOTIFICATION]}, sns({"Records": [NOTIFICATION]})])
def test_a_notification_of_s3_names_the_object(message: dict[str, Any]) -> None:
    [one] = written_objects(message)
    assert (one.url, one.bytes, one.revision) == ("s3://orders/in/a b+c.csv", 7, "d41d8:0055AED6DCD90281E5")
    assert one.at == datetime(2025, 7, 1, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.mark.parametrize("message", [BRIDGE, sns(BRIDGE)])
def test_an_event_of_eventbridge_names_the_object_and_its_version(message: dict[str, Any]) -> None:
    [one] = written_objects(message)
    assert (one.url, one.bytes, one.revision) == ("s3://orders/in/a b+c.csv", 7, "v7")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"Records": None},
        {"Records": [None, 7, {}]},
        {"Records": [{**NOTIFICATION, "eventName": "ObjectRemoved:Delete"}]},
        {"Records": [{**NOTIFICATION, "s3": {"bucket": {"name": "orders"}, "object": {}}}]},
        {"Service": "Amazon S3", "Event": "s3:TestEvent"},
        {**BRIDGE, "detail-type": "Object Deleted"},
        {**BRIDGE, "detail": None},
        {"TopicArn": "x", "Message": "hello"},
        {"TopicArn": "x"},
        {"TopicArn": "x", "Message": "[]"},
    ],
)
def test_what_is_about_something_else_names_none(message: dict[str, Any]) -> None:
    assert list(written_objects(message)) == []


def polled(queue: str) -> PolledTrigger:
    return PolledTrigger(
        trigger_id=7,
        path="a",
        name="t",
        version=1,
        kind="message",
        source=f"sqs:{queue}",
        config={"source": "sqs", "queue": queue},
        position={},
        updated_at=datetime.now(UTC),
    )


async def test_messages_of_a_queue_are_deleted_once_they_are_recorded(
    api: Api, client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.hosts.aws.queue_messages.VISIBILITY_SECONDS", 0)
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    kind = {"kind": {"DataType": "String", "StringValue": "new"}}
    sent = sqs.send_message(QueueUrl=url, MessageBody='{"order": 7}', MessageAttributes=kind)["MessageId"]
    source = QueueSource(api)
    for queue in ("orders", url):
        found = await source.read(polled(queue), 1)
        [one] = found.events
        assert (one.event["id"], one.event["data"], one.event["headers"]) == (sent, {"order": 7}, {"kind": "new"})
        assert found.more, "as many as the limit"
    await one.acknowledge()
    assert (await source.read(polled("orders"), 10)).events == []


async def test_a_batch_has_as_many_as_are_wanted(api: Api, client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    for number in range(25):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    source = QueueSource(api)
    first, rest = await source.read(polled("orders"), 20), await source.read(polled("orders"), 20)
    assert (len(first.events), first.more, len(rest.events), rest.more) == (20, True, 5, False)


async def test_a_queue_that_is_not_there_is_named(api: Api) -> None:
    with pytest.raises(NotFound, match="the queue nothing cannot be read"):
        await QueueSource(api).read(polled("nothing"), 10)
