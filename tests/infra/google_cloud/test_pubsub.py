from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from google.api_core import exceptions
from google.pubsub_v1 import PublisherClient
from tests.infra.google_cloud.recorder import Recorder
from tests.infra.google_cloud.standin import PROJECT, Standin


def push_config(port: int, account: str) -> dict[str, Any]:
    token = {"service_account_email": account, "audience": "https://function"}
    return {"push_endpoint": f"http://127.0.0.1:{port}/push", "oidc_token": token}


@pytest.fixture
def subscription(subscriber: Any, topic: str, unique: str, account: str, target_port: int) -> Any:
    request = {
        "name": f"projects/{PROJECT}/subscriptions/{unique}",
        "topic": topic,
        "push_config": push_config(target_port, account),
        "retry_policy": {"minimum_backoff": {"nanos": 100_000_000}, "maximum_backoff": {"seconds": 1}},
    }
    made = subscriber.create_subscription(request=request)
    yield made
    subscriber.delete_subscription(subscription=made.name)


def test_a_message_is_pushed_in_google_s_wrapping_with_a_token_of_the_account(
    publisher: Any, topic: str, subscription: Any, target: Recorder, account: str
) -> None:
    answer = publisher.publish(topic=topic, messages=[{"data": b"hello", "attributes": {"kind": "greeting"}}])
    (arrival,) = target.wait(1)
    body = json.loads(arrival.body)
    assert (arrival.path, body["subscription"]) == ("/push", subscription.name)
    assert base64.b64decode(body["message"]["data"]) == b"hello"
    assert body["message"]["attributes"] == {"kind": "greeting"}
    assert body["message"]["messageId"] == body["message"]["message_id"] == answer.message_ids[0]
    assert (arrival.claims()["aud"], arrival.claims()["email"]) == ("https://function", account)


def test_a_message_that_is_not_acknowledged_is_pushed_again(
    publisher: Any, topic: str, subscription: Any, target: Recorder
) -> None:
    target.statuses = [500, 429]
    publisher.publish(topic=topic, messages=[{"data": b"x"}])
    first, second, third = target.wait(3)
    assert second.at - first.at >= 0.1 and third.at - second.at >= 0.2
    time.sleep(0.5)
    assert len(target.arrivals) == 3


def test_a_subscription_is_read_back_with_google_s_defaults_and_changed(
    subscriber: Any, topic: str, subscription: Any
) -> None:
    assert subscriber.get_subscription(subscription=subscription.name) == subscription
    assert (subscription.ack_deadline_seconds, subscription.message_retention_duration.days) == (10, 7)
    update = {"name": subscription.name, "ack_deadline_seconds": 600}
    changed = subscriber.update_subscription(subscription=update, update_mask={"paths": ["ack_deadline_seconds"]})
    assert (changed.ack_deadline_seconds, changed.push_config) == (600, subscription.push_config)
    assert subscription.name in [found.name for found in subscriber.list_subscriptions(project=f"projects/{PROJECT}")]


def test_a_topic_is_listed_changed_and_deleted_and_its_subscriptions_outlive_it(
    publisher: Any, subscriber: Any, topic: str, subscription: Any
) -> None:
    assert list(publisher.list_topic_subscriptions(topic=topic)) == [subscription.name]
    labels = {"app": "noetl"}
    assert (
        publisher.update_topic(
            request={"topic": {"name": topic, "labels": labels}, "update_mask": {"paths": ["labels"]}}
        ).labels
        == labels
    )
    assert topic in [found.name for found in publisher.list_topics(project=f"projects/{PROJECT}")]
    publisher.delete_topic(topic=topic)
    assert subscriber.get_subscription(subscription=subscription.name).topic == "_deleted-topic_"
    with pytest.raises(exceptions.NotFound):
        publisher.publish(topic=topic, messages=[{"data": b"x"}])


def test_lost_messages_are_accepted_and_never_pushed(
    standin: Standin, publisher: Any, topic: str, subscription: Any, target: Recorder
) -> None:
    standin.admin("POST", f"{topic}:lose", {"count": 1})
    publisher.publish(topic=topic, messages=[{"data": b"lost"}, {"data": b"sent"}])
    (arrival,) = target.wait(1)
    assert base64.b64decode(json.loads(arrival.body)["message"]["data"]) == b"sent"
    time.sleep(0.1)
    assert len(target.arrivals) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"push_config": {"push_endpoint": "ftp://x"}},
        {"push_config": {"oidc_token": {"audience": "https://function"}}},
        {"ack_deadline_seconds": 5},
        {"filter": 'attributes.eventType = "x"'},
        {"enable_message_ordering": True},
        {"topic": f"projects/{PROJECT}/topics/none-such"},
        {"name": f"projects/{PROJECT}/subscriptions/1"},
    ],
)
def test_a_subscription_that_is_not_valid_or_not_implemented_is_refused(
    subscriber: Any, topic: str, unique: str, account: str, wrong: dict[str, Any]
) -> None:
    request = {"name": f"projects/{PROJECT}/subscriptions/{unique}", "topic": topic, **wrong}
    request.setdefault("push_config", push_config(1, account))
    with pytest.raises((exceptions.BadRequest, exceptions.NotFound, exceptions.MethodNotImplemented)):
        subscriber.create_subscription(request=request)


def test_a_repeated_message_is_pushed_three_times(
    standin: Standin, publisher: Any, topic: str, subscription: Any, target: Recorder
) -> None:
    standin.admin("POST", f"{topic}:repeat", {"count": 1})
    publisher.publish(topic=topic, messages=[{"data": b"repeated"}])
    arrivals = target.wait(3)
    assert len({json.loads(arrival.body)["message"]["messageId"] for arrival in arrivals}) == 1
    publisher.publish(topic=topic, messages=[{"data": b"once"}])
    assert base64.b64decode(json.loads(target.wait(4)[3].body)["message"]["data"]) == b"once"
    time.sleep(0.2)
    assert len(target.arrivals) == 4


def test_only_publishers_publish(standin: Standin, publisher: Any, topic: str, account: str) -> None:
    theirs = standin.client(PublisherClient, account)
    with pytest.raises(exceptions.Forbidden, match=r"pubsub\.topics\.publish"):
        theirs.publish(topic=topic, messages=[{"data": b"x"}])
    policy = publisher.get_iam_policy(request={"resource": topic})
    policy.bindings.add(role="roles/pubsub.publisher", members=[f"serviceAccount:{account}"])
    publisher.set_iam_policy(request={"resource": topic, "policy": policy})
    assert theirs.publish(topic=topic, messages=[{"data": b"x"}]).message_ids
    with pytest.raises(exceptions.Forbidden, match=r"pubsub\.topics\.get"):
        theirs.get_topic(topic=topic)
