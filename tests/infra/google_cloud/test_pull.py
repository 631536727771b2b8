"""Messages that are pulled: by Google's own client, as the reconciler pulls them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import SubscriberClient, types
from tests.infra.google_cloud.backlog import Backlog
from tests.infra.google_cloud.recorder import Recorder
from tests.infra.google_cloud.standin import PROJECT, Standin


def subscribe(subscriber: Any, topic: str, unique: str, **given: Any) -> str:
    """A subscription without a push endpoint."""
    request = {"name": f"projects/{PROJECT}/subscriptions/{unique}", "topic": topic, **given}
    return str(subscriber.create_subscription(request=request).name)


@pytest.fixture
def subscription(subscriber: Any, topic: str, unique: str) -> str:
    return subscribe(subscriber, topic, unique)


def pull(subscriber: Any, subscription: str, limit: int = 10, *, waits: bool = False) -> list[Any]:
    request = {"subscription": subscription, "max_messages": limit, "return_immediately": not waits}
    return list(subscriber.pull(request=request).received_messages)


def refuse(subscriber: Any, subscription: str, received: Any, deadline: int = 0) -> None:
    subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[received.ack_id], ack_deadline_seconds=deadline)


def test_a_message_is_pulled_once_and_gone_when_it_is_acknowledged(
    publisher: Any, subscriber: Any, topic: str, subscription: str
) -> None:
    sent = publisher.publish(topic=topic, messages=[{"data": b"hello", "attributes": {"kind": "greeting"}}])
    (received,) = pull(subscriber, subscription)
    message = received.message
    assert (message.data, dict(message.attributes), message.message_id) == (
        b"hello",
        {"kind": "greeting"},
        sent.message_ids[0],
    )
    assert message.publish_time
    assert pull(subscriber, subscription) == [], "it is leased"
    for _ in range(2):
        subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id])
    assert pull(subscriber, subscription) == []


def test_a_message_is_delivered_again_when_its_lease_ends(
    publisher: Any, subscriber: Any, topic: str, subscription: str
) -> None:
    publisher.publish(topic=topic, messages=[{"data": b"x"}])
    (first,) = pull(subscriber, subscription)
    refuse(subscriber, subscription, first, 1)
    assert pull(subscriber, subscription) == []
    began = time.monotonic()
    (second,) = pull(subscriber, subscription, waits=True)
    assert time.monotonic() - began >= 0.5
    assert (second.message, second.ack_id != first.ack_id) == (first.message, True)
    # that of a lease that has ended does nothing
    subscriber.acknowledge(subscription=subscription, ack_ids=[first.ack_id])
    refuse(subscriber, subscription, second)
    (third,) = pull(subscriber, subscription)
    assert third.message == first.message


async def test_the_deadline_of_the_subscription_ends_a_lease() -> None:
    # shorter than Google takes
    subscription = types.Subscription.pb()(ack_deadline_seconds=1, message_retention_duration={"seconds": 600})
    backlog = Backlog(subscription)
    backlog.add(types.PubsubMessage.pb()(data=b"x"), 1)
    began = time.monotonic()
    (first,) = await backlog.pull(1, 0.0)
    (second,) = await backlog.pull(1, 60.0)
    assert second.message == first.message
    assert 1.0 <= time.monotonic() - began < 30
    backlog.acknowledge([first.ack_id])
    assert len(backlog.give_up()) == 1


def test_a_retry_policy_delays_what_is_delivered_again(
    publisher: Any, subscriber: Any, topic: str, unique: str
) -> None:
    policy = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 2}}
    subscription = subscribe(subscriber, topic, unique, retry_policy=policy)
    publisher.publish(topic=topic, messages=[{"data": b"x"}])
    refuse(subscriber, subscription, pull(subscriber, subscription)[0])
    assert pull(subscriber, subscription) == []
    began = time.monotonic()
    assert pull(subscriber, subscription, waits=True)
    assert time.monotonic() - began >= 0.5


def test_at_most_so_many_are_pulled_and_each_by_one(
    publisher: Any, subscriber: Any, topic: str, subscription: str
) -> None:
    publisher.publish(topic=topic, messages=[{"data": str(number).encode()} for number in range(5)])
    pulled = [pull(subscriber, subscription, 2) for _ in range(4)]
    assert [len(received) for received in pulled] == [2, 2, 1, 0]
    assert {one.message.data for received in pulled for one in received} == {b"0", b"1", b"2", b"3", b"4"}


def test_a_pull_waits_for_a_message(publisher: Any, subscriber: Any, topic: str, subscription: str) -> None:
    later = threading.Timer(0.5, publisher.publish, kwargs={"topic": topic, "messages": [{"data": b"late"}]})
    later.start()
    (received,) = pull(subscriber, subscription, waits=True)
    later.join()
    assert received.message.data == b"late"


def test_a_repeated_message_is_there_until_it_is_acknowledged_three_times(
    standin: Standin, publisher: Any, subscriber: Any, topic: str, subscription: str
) -> None:
    standin.admin("POST", f"{topic}:repeat", {"count": 1})
    publisher.publish(topic=topic, messages=[{"data": b"repeated"}])
    ids = []
    while received := pull(subscriber, subscription):
        ids.append(received[0].message.message_id)
        subscriber.acknowledge(subscription=subscription, ack_ids=[received[0].ack_id])
    assert (len(ids), len(set(ids))) == (3, 1)


def test_what_waits_is_pushed_once_there_is_an_endpoint_and_waits_again_without(
    publisher: Any,
    subscriber: Any,
    topic: str,
    subscription: str,
    target: Recorder,
    target_port: int,
) -> None:
    publisher.publish(topic=topic, messages=[{"data": b"waits"}])
    endpoint = {"push_endpoint": f"http://127.0.0.1:{target_port}/push"}
    subscriber.modify_push_config(subscription=subscription, push_config=endpoint)
    target.wait(1)
    with pytest.raises(exceptions.BadRequest, match="not supported for push subscriptions"):
        pull(subscriber, subscription)
    target.statuses = [500]
    publisher.publish(topic=topic, messages=[{"data": b"refused"}])
    target.wait(2)
    subscriber.modify_push_config(subscription=subscription, push_config={})
    assert [received.message.data for received in pull(subscriber, subscription, waits=True)] == [b"refused"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_pull_of_nothing_is_refused(subscriber: Any, subscription: str, limit: int) -> None:
    with pytest.raises(exceptions.BadRequest, match="max_messages"):
        pull(subscriber, subscription, limit)


@pytest.mark.parametrize("ack_ids", [[], ["made-up"]])
def test_acknowledgement_ids_are_those_that_were_given(subscriber: Any, subscription: str, ack_ids: list[str]) -> None:
    with pytest.raises(exceptions.BadRequest, match="cknowledgement IDs"):
        subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
    with pytest.raises(exceptions.BadRequest, match="cknowledgement IDs"):
        subscriber.modify_ack_deadline(subscription=subscription, ack_ids=ack_ids, ack_deadline_seconds=10)


def test_a_lease_lasts_ten_minutes_at_most(publisher: Any, subscriber: Any, topic: str, subscription: str) -> None:
    publisher.publish(topic=topic, messages=[{"data": b"x"}])
    (received,) = pull(subscriber, subscription)
    with pytest.raises(exceptions.BadRequest, match="ack deadline"):
        refuse(subscriber, subscription, received, 601)


def test_only_subscribers_pull_and_acknowledge(
    standin: Standin, publisher: Any, subscriber: Any, topic: str, subscription: str, account: str
) -> None:
    theirs = standin.client(SubscriberClient, account)
    publisher.publish(topic=topic, messages=[{"data": b"x"}])
    (received,) = pull(subscriber, subscription)
    for asked in (
        lambda: pull(theirs, subscription),
        lambda: theirs.acknowledge(subscription=subscription, ack_ids=[received.ack_id]),
        lambda: refuse(theirs, subscription, received),
    ):
        with pytest.raises(exceptions.Forbidden, match=r"pubsub\.subscriptions\.consume"):
            asked()
    policy = subscriber.get_iam_policy(request={"resource": subscription})
    policy.bindings.add(role="roles/pubsub.subscriber", members=[f"serviceAccount:{account}"])
    subscriber.set_iam_policy(request={"resource": subscription, "policy": policy})
    refuse(theirs, subscription, received)
    (received,) = pull(theirs, subscription)
    theirs.acknowledge(subscription=subscription, ack_ids=[received.ack_id])
    with pytest.raises(exceptions.Forbidden, match=r"pubsub\.subscriptions\.get"):
        theirs.get_subscription(subscription=subscription)
