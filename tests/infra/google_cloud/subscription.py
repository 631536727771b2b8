"""One subscription of Pub/Sub, which pushes its messages or lets them be pulled."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence

from .backlog import Backlog
from .backoff import Backoff
from .delivery import Delivery, Identity
from .messages import Message, has, render, seconds

# how many are under way at once
_MAX_OUTSTANDING = 1000
# Pub/Sub's own pauses where the subscription has no retry policy
_PUSH_BACKOFF = Backoff(0.1, 60.0, 30)


class Subscription:
    def __init__(self, message: Message, delivery: Delivery) -> None:
        self.message = message
        self._delivery = delivery
        self._permits = asyncio.Semaphore(_MAX_OUTSTANDING)
        self._outstanding: set[asyncio.Task[None]] = set()
        self._backlog = Backlog(message)

    @property
    def pushes(self) -> bool:
        return bool(self.message.push_config.push_endpoint)

    async def stop(self) -> None:
        for task in self._outstanding:
            task.cancel()
        await asyncio.gather(*self._outstanding, return_exceptions=True)

    def change(self, changed: Message) -> None:
        """What has not been acknowledged goes the new way, if that is another."""
        self.message.CopyFrom(changed)
        if self.pushes:
            for published, times in self._backlog.give_up():
                self.deliver(published, times)

    def deliver(self, published: Message, times: int = 1) -> None:
        """Until it is acknowledged so often."""
        if not self.pushes:
            self._backlog.add(published, times)
            return
        task = asyncio.create_task(self._push(published, times))
        self._outstanding.add(task)
        task.add_done_callback(self._outstanding.discard)

    async def pull(self, limit: int, patience: float) -> Sequence[Message]:
        """At most so many ReceivedMessages; none if none is there in so many seconds."""
        return await self._backlog.pull(limit, patience)

    def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """InvalidArgument."""
        self._backlog.acknowledge(ack_ids)

    def modify_deadline(self, ack_ids: Sequence[str], deadline: float) -> None:
        """InvalidArgument."""
        self._backlog.modify_deadline(ack_ids, deadline)

    async def _push(self, published: Message, times: int) -> None:
        expires = time.time() + seconds(self.message.message_retention_duration)
        attempts = 0
        while time.time() < expires:
            if not self.pushes:
                self._backlog.add(published, times)
                return
            attempts += 1
            async with self._permits:
                is_acknowledged = await self._attempt(published)
            if not is_acknowledged:
                await asyncio.sleep(self._backoff().before_retry(attempts))
            elif times > 1:
                times, attempts = times - 1, 0
            else:
                return

    async def _attempt(self, published: Message) -> bool:
        config = self.message.push_config
        identity = None
        if has(config, "oidc_token"):
            token = config.oidc_token
            identity = Identity(token.service_account_email, token.audience or config.push_endpoint)
        reply = await self._delivery.send(
            "POST",
            config.push_endpoint,
            {"Content-Type": "application/json", "User-Agent": "CloudPubSub-Google"},
            self._wrapped(published),
            identity,
            float(self.message.ack_deadline_seconds),
        )
        return reply.status in (102, 200, 201, 202, 204)

    def _backoff(self) -> Backoff:
        if not has(self.message, "retry_policy"):
            return _PUSH_BACKOFF
        policy = self.message.retry_policy
        return Backoff(seconds(policy.minimum_backoff), seconds(policy.maximum_backoff), 30)

    def _wrapped(self, published: Message) -> bytes:
        rendered = render(published)
        message = {
            **({"attributes": dict(published.attributes)} if published.attributes else {}),
            "data": base64.b64encode(published.data).decode(),
            "messageId": published.message_id,
            "message_id": published.message_id,
            "publishTime": rendered["publishTime"],
            "publish_time": rendered["publishTime"],
        }
        return json.dumps({"message": message, "subscription": self.message.name}).encode()
