"""What Cloud Storage and Pub/Sub say, as events of triggers."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from noetl_serverless.errors import NotFound
from noetl_serverless.hosts.gcp.api import Api
from noetl_serverless.hosts.gcp.object_events import written_object
from noetl_serverless.hosts.gcp.subscription_messages import SubscriptionSource
from noetl_serverless.store.triggers import PolledTrigger

from .conftest import Google, error

SUBSCRIPTION = "projects/p/subscriptions/orders"
ATTRIBUTES = {
    "eventType": "OBJECT_FINALIZE",
    "bucketId": "orders",
    "objectId": "in/a b.csv",
    "objectGeneration": "1751371200123456",
    "eventTime": "2025-07-01T12:00:00.123456Z",
    "payloadFormat": "JSON_API_V1",
}
DETAILS = {"name": "in/a b.csv", "size": "7", "etag": "CJ+i", "md5Hash": "x"}


def push(attributes: Any, data: Any = DETAILS) -> bytes:
    message: dict[str, Any] = {"attributes": attributes, "messageId": "1", "publishTime": "2025-07-01T12:00:01Z"}
    message["data"] = base64.b64encode(json.dumps(data).encode()).decode() if data is not None else None
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/noetl-events"}).encode()


@pytest.mark.parametrize(("data", "size", "etag"), [(DETAILS, 7, "CJ+i"), (None, None, None), ([], None, None)])
def test_a_notification_names_the_object_and_its_generation(data: Any, size: int | None, etag: str | None) -> None:
    one = written_object(push(ATTRIBUTES, data))
    assert one is not None
    assert (one.url, one.revision, one.bytes, one.etag) == ("gs://orders/in/a b.csv", "1751371200123456", size, etag)
    assert one.at == datetime(2025, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"hello",
        b"[]",
        b'{"message": null}',
        push({**ATTRIBUTES, "eventType": "OBJECT_DELETE"}),
        push({**ATTRIBUTES, "objectId": ""}),
        push({**ATTRIBUTES, "bucketId": 7}),
        push(None),
    ],
)
def test_what_is_about_something_else_names_none(body: bytes) -> None:
    assert written_object(body) is None


def polled() -> PolledTrigger:
    return PolledTrigger(
        trigger_id=7,
        path="a",
        name="t",
        version=1,
        kind="message",
        source=f"pubsub:{SUBSCRIPTION}",
        config={"source": "pubsub", "subscription": SUBSCRIPTION},
        position={},
        updated_at=datetime.now(UTC),
    )


async def test_messages_are_acknowledged_once_they_are_recorded(google: Google, api: Api) -> None:
    message = {
        "messageId": "11",
        "publishTime": "2025-07-01T12:00:00.1Z",
        "attributes": {"kind": "new"},
        "data": base64.b64encode(b'{"order": 7}').decode(),
    }
    google.answers = [(200, {"receivedMessages": [{"ackId": "a1", "message": message}]}), (200, {}), (200, {})]
    found = await SubscriptionSource(api).read(polled(), 10)
    [one] = found.events
    assert one.event == {
        "id": "11",
        "source": f"pubsub:{SUBSCRIPTION}",
        "type": "message",
        "time": "2025-07-01T12:00:00.1Z",
        "headers": {"kind": "new"},
        "data": {"order": 7},
    }
    assert found.more
    await one.acknowledge()
    assert google.requests == [
        ("POST", f"/v1/{SUBSCRIPTION}:pull", {"maxMessages": 10, "returnImmediately": True}),
        ("POST", f"/v1/{SUBSCRIPTION}:modifyAckDeadline", {"ackIds": ["a1"], "ackDeadlineSeconds": 60}),
        ("POST", f"/v1/{SUBSCRIPTION}:acknowledge", {"ackIds": ["a1"]}),
    ]


async def test_an_empty_subscription_has_nothing(google: Google, api: Api) -> None:
    found = await SubscriptionSource(api).read(polled(), 10)
    assert (found.events, found.more) == ([], False)
    assert len(google.requests) == 1


async def test_a_subscription_that_cannot_be_read_is_named(google: Google, api: Api) -> None:
    google.answers = [error(403, "PERMISSION_DENIED")]
    with pytest.raises(NotFound, match=f"the subscription {SUBSCRIPTION} cannot be read: .*PERMISSION_DENIED"):
        await SubscriptionSource(api).read(polled(), 10)
