"""Pub/Sub: topics, and subscriptions that push or are pulled."""

from __future__ import annotations

import itertools
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping

from google.pubsub_v1 import types

from .admin import admin_route, given
from .delivery import Delivery
from .errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from .messages import Form, Message, copy, render, stamp
from .policies import Kind, Policies
from .project import Project
from .routes import Answer, Call, Route, page
from .service_accounts import ServiceAccounts
from .subscription import Subscription
from .subscription_settings import FORM, MAX_ACK_DEADLINE, settle

SERVICE = "pubsub"
TOPIC_KIND = Kind("pubsub.topics", ("pubsub",))
SUBSCRIPTION_KIND = Kind("pubsub.subscriptions", ("pubsub",))

_ID = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_TOPIC = Form(
    types.Topic,
    "name labels message_retention_duration message_storage_policy.allowed_persistence_regions",
    "state satisfies_pzs",
)
_PUBLISH = Form(types.PublishRequest, "messages.data messages.attributes", "topic")
_UPDATE_TOPIC = Form(types.UpdateTopicRequest, "topic update_mask")
_UPDATE_SUBSCRIPTION = Form(types.UpdateSubscriptionRequest, "subscription update_mask")
_MODIFY = Form(
    types.ModifyPushConfigRequest,
    "push_config.push_endpoint push_config.oidc_token push_config.pubsub_wrapper",
    "subscription",
)
_PULL = Form(types.PullRequest, "return_immediately max_messages", "subscription")
_ACKNOWLEDGE = Form(types.AcknowledgeRequest, "ack_ids", "subscription")
_MODIFY_DEADLINE = Form(types.ModifyAckDeadlineRequest, "ack_ids ack_deadline_seconds", "subscription")
_MAX_BYTES = 10_000_000
_DELETED_TOPIC = "_deleted-topic_"
# seconds for which a pull waits for a message
_PATIENCE = 90.0
# how often a message is to be acknowledged that is delivered more than once
_REPEATED = 3
_BACKOFF = {"minimum_backoff": 10.0, "maximum_backoff": 600.0}


class PubSub:
    def __init__(self, project: Project, policies: Policies, accounts: ServiceAccounts, delivery: Delivery) -> None:
        self._project = project
        self._policies = policies
        self._accounts = accounts
        self._delivery = delivery
        self._topics: dict[str, Message] = {}
        self._subscriptions: dict[str, Subscription] = {}
        # by topic: so many of the next messages are taken, and then lost
        self._losses: Counter[str] = Counter()
        # by topic: so many of the next messages are delivered more than once
        self._repeats: Counter[str] = Counter()
        self._ids = itertools.count(secrets.randbelow(10**15) + 10**15)

    def topics(self) -> list[str]:
        return list(self._topics)

    def subscriptions(self) -> list[str]:
        return list(self._subscriptions)

    async def stop(self) -> None:
        for subscription in self._subscriptions.values():
            await subscription.stop()

    def publish_as(self, email: str, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """What a service of Google's publishes by its own account; nothing comes of it if that may not."""
        if topic in self._topics and self._policies.allows(email, "pubsub.topics.publish", topic):
            self._publish(topic, types.PubsubMessage.pb()(data=data, attributes=dict(attributes)))

    def routes(self) -> Iterable[Route]:
        topic = "/v1/{name=projects/*/topics/*}"
        subscription = "/v1/{name=projects/*/subscriptions/*}"
        paging = ["pageSize", "pageToken"]
        yield Route(SERVICE, "createTopic", "PUT", topic, self.create_topic)
        yield Route(SERVICE, "getTopic", "GET", topic, self.get_topic)
        yield Route(SERVICE, "listTopics", "GET", "/v1/{name=projects/*}/topics", self.list_topics, paging)
        yield Route(SERVICE, "updateTopic", "PATCH", topic, self.update_topic)
        yield Route(SERVICE, "deleteTopic", "DELETE", topic, self.delete_topic)
        yield Route(SERVICE, "publish", "POST", f"{topic}:publish", self.publish)
        yield Route(
            SERVICE, "listTopicSubscriptions", "GET", f"{topic}/subscriptions", self.list_topic_subscriptions, paging
        )
        yield Route(SERVICE, "createSubscription", "PUT", subscription, self.create_subscription)
        yield Route(SERVICE, "getSubscription", "GET", subscription, self.get_subscription)
        yield Route(
            SERVICE, "listSubscriptions", "GET", "/v1/{name=projects/*}/subscriptions", self.list_subscriptions, paging
        )
        yield Route(SERVICE, "updateSubscription", "PATCH", subscription, self.update_subscription)
        yield Route(SERVICE, "deleteSubscription", "DELETE", subscription, self.delete_subscription)
        yield Route(SERVICE, "modifyPushConfig", "POST", f"{subscription}:modifyPushConfig", self.modify_push_config)
        yield Route(SERVICE, "pull", "POST", f"{subscription}:pull", self.pull)
        yield Route(SERVICE, "acknowledge", "POST", f"{subscription}:acknowledge", self.acknowledge)
        yield Route(SERVICE, "modifyAckDeadline", "POST", f"{subscription}:modifyAckDeadline", self.modify_ack_deadline)
        yield from self._policies.routes(SERVICE, "/v1/{resource=projects/*/topics/*}", TOPIC_KIND, self._topic)
        yield from self._policies.routes(
            SERVICE, "/v1/{resource=projects/*/subscriptions/*}", SUBSCRIPTION_KIND, self._subscription
        )
        yield admin_route("POST", "{name=projects/*/topics/*}:lose", self.lose)
        yield admin_route("POST", "{name=projects/*/topics/*}:repeat", self.repeat)

    # -- topics

    async def create_topic(self, call: Call) -> Answer:
        self._policies.check(call.caller, "pubsub.topics.create", self._project.name)
        name = _checked_name(call, self._topics)
        message = _TOPIC.parse(await call.document())
        message.name = name
        self._topics[name] = message
        return render(message)

    async def get_topic(self, call: Call) -> Answer:
        self._policies.check(call.caller, "pubsub.topics.get", call.path["name"])
        return render(self._topic(call.path["name"]))

    async def list_topics(self, call: Call) -> Answer:
        self._policies.check(call.caller, "pubsub.topics.list", self._project.name)
        found, more = page([self._topics[name] for name in sorted(self._topics)], call.query)
        return {"topics": [render(topic) for topic in found], **more}

    async def update_topic(self, call: Call) -> Answer:
        self._policies.check(call.caller, "pubsub.topics.update", call.path["name"])
        topic = self._topic(call.path["name"])
        request = _UPDATE_TOPIC.parse(await call.document())
        given = _TOPIC.parse(render(request.topic))
        _TOPIC.update(topic, given, _mask(request))
        topic.name = call.path["name"]
        return render(topic)

    async def delete_topic(self, call: Call) -> Answer:
        name = call.path["name"]
        self._policies.check(call.caller, "pubsub.topics.delete", name)
        self._topic(name)
        del self._topics[name]
        self._policies.drop(name)
        for subscription in self._of_topic(name):
            subscription.message.topic = _DELETED_TOPIC
        return {}

    async def publish(self, call: Call) -> Answer:
        name = call.path["name"]
        self._policies.check(call.caller, "pubsub.topics.publish", name)
        self._topic(name)
        messages = _PUBLISH.parse(await call.document()).messages
        if not messages or any(not message.data and not message.attributes for message in messages):
            raise InvalidArgument("One or more messages in the publish request is empty.")
        if sum(message.ByteSize() for message in messages) > _MAX_BYTES:
            raise InvalidArgument("The value for messages is too large: at most 10000000 bytes.")
        return {"messageIds": [self._publish(name, message) for message in messages]}

    async def list_topic_subscriptions(self, call: Call) -> Answer:
        self._policies.check(call.caller, "pubsub.topics.get", call.path["name"])
        self._topic(call.path["name"])
        names = sorted(subscription.message.name for subscription in self._of_topic(call.path["name"]))
        found, more = page(names, call.query)
        return {"subscriptions": found, **more}

    async def lose(self, call: Call) -> Answer:
        """The next N messages of a topic are taken and then lost: `{"count": N}`."""
        self._topic(call.path["name"])
        self._losses[call.path["name"]] = int(await given(call, "count"))
        return {}

    async def repeat(self, call: Call) -> Answer:
        """The next N messages of a topic are delivered until they have been acknowledged three times, as at-least-once
        delivery may: `{"count": N}`."""
        self._topic(call.path["name"])
        self._repeats[call.path["name"]] = int(await given(call, "count"))
        return {}

    # -- subscriptions

    async def create_subscription(self, call: Call) -> Answer:
        self._policies.check(call.caller, "pubsub.subscriptions.create", self._project.name)
        name = _checked_name(call, self._subscriptions)
        message = FORM.parse(await call.document())
        message.name = name
        message.topic = self._project.by_id(message.topic)
        self._topic(message.topic)
        self._policies.check(call.caller, "pubsub.topics.attachSubscription", message.topic)
        self._settle(message, call)
        self._subscriptions[name] = Subscription(message, self._delivery)
        return render(message)

    async def get_subscription(self, call: Call) -> Answer:
        return render(self._checked(call, "get").message)

    async def list_subscriptions(self, call: Call) -> Answer:
        self._policies.check(call.caller, "pubsub.subscriptions.list", self._project.name)
        found, more = page([self._subscriptions[name] for name in sorted(self._subscriptions)], call.query)
        return {"subscriptions": [render(subscription.message) for subscription in found], **more}

    async def update_subscription(self, call: Call) -> Answer:
        subscription = self._checked(call, "update")
        request = _UPDATE_SUBSCRIPTION.parse(await call.document())
        changed = copy(subscription.message)
        paths = FORM.update(changed, FORM.parse(render(request.subscription)), _mask(request))
        if "topic" in paths or "name" in paths:
            raise InvalidArgument("The topic and the name of a subscription cannot be changed.")
        self._settle(changed, call)
        subscription.change(changed)
        return render(changed)

    async def modify_push_config(self, call: Call) -> Answer:
        subscription = self._checked(call, "update")
        changed = copy(subscription.message)
        changed.push_config.CopyFrom(_MODIFY.parse(await call.document()).push_config)
        self._settle(changed, call)
        subscription.change(changed)
        return {}

    async def delete_subscription(self, call: Call) -> Answer:
        subscription = self._checked(call, "delete")
        del self._subscriptions[subscription.message.name]
        self._policies.drop(subscription.message.name)
        await subscription.stop()
        return {}

    # -- what is pulled

    async def pull(self, call: Call) -> Answer:
        subscription = self._pulled(call)
        request = _PULL.parse(await call.document())
        if request.max_messages < 1:
            raise InvalidArgument("The value for max_messages is too small: it must be positive.")
        received = await subscription.pull(request.max_messages, 0.0 if request.return_immediately else _PATIENCE)
        # Google's answer is an empty object if there are none
        return render(types.PullResponse.pb()(received_messages=received))

    async def acknowledge(self, call: Call) -> Answer:
        self._pulled(call).acknowledge(_ACKNOWLEDGE.parse(await call.document()).ack_ids)
        return {}

    async def modify_ack_deadline(self, call: Call) -> Answer:
        subscription = self._pulled(call)
        request = _MODIFY_DEADLINE.parse(await call.document())
        if not 0 <= request.ack_deadline_seconds <= MAX_ACK_DEADLINE:
            raise InvalidArgument("Invalid ack deadline given: must be between 0 and 600 seconds.")
        subscription.modify_deadline(request.ack_ids, float(request.ack_deadline_seconds))
        return {}

    # --

    def _publish(self, topic: str, message: Message) -> str:
        message.message_id = str(next(self._ids))
        stamp(message.publish_time)
        if self._losses[topic]:
            self._losses[topic] -= 1
            return str(message.message_id)
        times = _REPEATED if self._repeats[topic] else 1
        self._repeats[topic] -= times > 1
        for subscription in self._of_topic(topic):
            subscription.deliver(message, times)
        return str(message.message_id)

    def _of_topic(self, topic: str) -> list[Subscription]:
        return [subscription for subscription in self._subscriptions.values() if subscription.message.topic == topic]

    def _settle(self, message: Message, call: Call) -> None:
        settle(message)
        token = message.push_config.oidc_token
        if token.service_account_email:
            self._accounts.check_may_act_as(self._policies, call.caller, token.service_account_email)

    def _topic(self, name: str) -> Message:
        topic = self._topics.get(name)
        if topic is None:
            raise NotFound(f"Resource not found (resource={name.rpartition('/')[2]}).")
        return topic

    def _checked(self, call: Call, permission: str) -> Subscription:
        self._policies.check(call.caller, f"pubsub.subscriptions.{permission}", call.path["name"])
        return self._subscription(call.path["name"])

    def _pulled(self, call: Call) -> Subscription:
        subscription = self._checked(call, "consume")
        if subscription.pushes:
            raise FailedPrecondition("This method is not supported for push subscriptions.")
        return subscription

    def _subscription(self, name: str) -> Subscription:
        subscription = self._subscriptions.get(name)
        if subscription is None:
            raise NotFound(f"Resource not found (resource={name.rpartition('/')[2]}).")
        return subscription


def _checked_name(call: Call, taken: Mapping[str, object]) -> str:
    name = call.path["name"]
    id = name.rpartition("/")[2]
    if not _ID.fullmatch(id):
        raise InvalidArgument(f"Invalid resource name given (name={name}).")
    if name in taken:
        raise AlreadyExists(f"Resource already exists in the project (resource={id}).")
    return name


def _mask(request: Message) -> str:
    if not request.update_mask.paths:
        raise InvalidArgument("The update_mask in the request is empty, but must be set.")
    return ",".join(request.update_mask.paths)
