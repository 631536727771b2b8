"""The messages of a subscription that is pulled: each is leased to who pulls it, until it is acknowledged."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from google.pubsub_v1 import types

from .backoff import Backoff
from .errors import InvalidArgument
from .messages import Message, has, seconds


@dataclass(slots=True)
class _Held:
    """`times`: how often it is still to be acknowledged; `deliveries`: since it was acknowledged last, if it ever was;
    `ack_id`: of the latest one."""

    published: Message
    times: int
    expires: float
    leased_until: float = 0.0
    deliveries: int = 0
    ack_id: str | None = None


class Backlog:
    def __init__(self, subscription: Message) -> None:
        """`subscription`: it may change meanwhile."""
        self._subscription = subscription
        self._held: list[_Held] = []
        # all that there ever were
        self._ack_ids: set[str] = set()
        self._changed = asyncio.Event()

    def add(self, published: Message, times: int) -> None:
        retention = seconds(self._subscription.message_retention_duration)
        self._held.append(_Held(published, times, time.time() + retention))
        self._changed.set()

    def give_up(self) -> list[tuple[Message, int]]:
        """All messages, and how often each is still to be acknowledged."""
        given = [(held.published, held.times) for held in self._held]
        self._held.clear()
        return given

    async def pull(self, limit: int, patience: float) -> Sequence[Message]:
        deadline = time.time() + patience
        while True:
            self._changed.clear()
            now = time.time()
            taken = self._take(limit, now)
            if taken or now >= deadline:
                return taken
            wakes = min([deadline, *map(self._available_at, self._held)])
            try:
                async with asyncio.timeout(wakes - now):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """Nothing comes of it for a lease that has ended: Google says that such a message may be delivered again, and
        here it is."""
        for held in self._leased(ack_ids):
            held.times, held.leased_until, held.deliveries, held.ack_id = held.times - 1, 0.0, 0, None
        self._held = [held for held in self._held if held.times]
        self._changed.set()

    def modify_deadline(self, ack_ids: Sequence[str], deadline: float) -> None:
        """From now on; 0 ends the lease."""
        for held in self._leased(ack_ids):
            held.leased_until = time.time() + deadline
        self._changed.set()

    def _take(self, limit: int, now: float) -> list[Message]:
        self._held = [held for held in self._held if held.expires > now]
        available = [held for held in self._held if self._available_at(held) <= now]
        return [self._deliver(held, now) for held in available[:limit]]

    def _deliver(self, held: _Held, now: float) -> Message:
        held.ack_id = secrets.token_urlsafe(96)
        self._ack_ids.add(held.ack_id)
        held.deliveries += 1
        held.leased_until = now + self._subscription.ack_deadline_seconds
        return types.ReceivedMessage.pb()(ack_id=held.ack_id, message=held.published)

    def _available_at(self, held: _Held) -> float:
        """Once its lease has ended; with a retry policy, some time later."""
        if not held.deliveries or not has(self._subscription, "retry_policy"):
            return held.leased_until
        policy = self._subscription.retry_policy
        backoff = Backoff(seconds(policy.minimum_backoff), seconds(policy.maximum_backoff), 30)
        return held.leased_until + backoff.before_retry(held.deliveries)

    def _leased(self, ack_ids: Sequence[str]) -> list[_Held]:
        """Those of them whose lease has not ended. InvalidArgument."""
        if not ack_ids:
            raise InvalidArgument("No acknowledgement IDs specified in the request.")
        if not self._ack_ids.issuperset(ack_ids):
            raise InvalidArgument("Some acknowledgement IDs in the request were invalid.")
        now = time.time()
        return [held for held in self._held if held.ack_id in ack_ids and held.leased_until > now]
