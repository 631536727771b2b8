"""Messages of JetStream streams that triggers listen to, each through a durable consumer of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy

from ..errors import Conflict, NotFound
from .connection import NatsConnection
from .event_data import event_data

# seconds after which a message is delivered again that was not acknowledged
ACK_WAIT_SECONDS = 30.0
# seconds after which the consumer of a trigger that is gone is deleted
INACTIVE_SECONDS = 30 * 86_400.0
# seconds to wait for the next message of a batch
READ_SECONDS = 5.0
# consumers that NATS lists at once
LISTED = 256

# of the names of a stream's consumers those that nobody reads by any more
Stale = Callable[[str, Sequence[str]], Awaitable[Sequence[str]]]


@dataclass(kw_only=True, frozen=True, slots=True)
class StreamConsumer:
    """`since`: where it begins, in a stream that keeps what was read; `name`: of the consumer."""

    stream: str
    subject: str | None
    name: str
    since: datetime


@dataclass(kw_only=True, frozen=True, slots=True)
class StreamMessage:
    event: dict[str, Any]
    acknowledge: Callable[[], Awaitable[None]]


class NatsMessages:
    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def read(self, consumer: StreamConsumer, limit: int, stale: Stale) -> list[StreamMessage]:
        """What waits, at most `limit`; no waiting for more. A new consumer takes the place of those that are stale.
        Raises NotFound if there is no such stream, Conflict if NATS refuses the consumer, Unavailable."""
        return await self._connection.run_with_retry(
            lambda: self._read(consumer, limit), lambda: self._create(consumer, stale)
        )

    async def _read(self, consumer: StreamConsumer, limit: int) -> list[StreamMessage]:
        client = await self._connection.client()
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        try:
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
            await client.publish(subject, json.dumps({"batch": limit, "no_wait": True}).encode(), reply=inbox)
            return [
                _message(client, consumer, message)
                async for message in _received(lambda: subscription.next_msg(READ_SECONDS), limit)
            ]
        finally:
            if client.is_connected:
                await subscription.unsubscribe()

    async def _create(self, consumer: StreamConsumer, stale: Stale) -> None:
        context = await self._connection.jetstream()
        try:
            stream = await context.stream_info(consumer.stream)
        except nats.js.errors.NotFoundError:
            raise NotFound(f"there is no stream {consumer.stream} in NATS") from None
        await _delete(context, consumer.stream, await stale(consumer.stream, await _names(context, consumer.stream)))
        # what nobody has read is all that such a stream keeps
        whole = stream.config.retention == RetentionPolicy.WORK_QUEUE
        config = ConsumerConfig(
            durable_name=consumer.name,
            filter_subject=consumer.subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            deliver_policy=DeliverPolicy.ALL if whole else DeliverPolicy.BY_START_TIME,
            opt_start_time=None if whole else consumer.since,
            inactive_threshold=INACTIVE_SECONDS,
            max_ack_pending=10_000,
        )
        try:
            await context.add_consumer(consumer.stream, config)
        except nats.js.errors.APIError as error:
            reason = error.description or "no reason given"
            raise Conflict(f"NATS refuses a consumer of the stream {consumer.stream}: {reason}") from None


async def _names(context: JetStreamContext, stream: str) -> list[str]:
    names: list[str] = []
    while True:
        listed = await context.consumers_info(stream, len(names))
        names += [found.name for found in listed]
        if len(listed) < LISTED:
            return names


async def _delete(context: JetStreamContext, stream: str, names: Sequence[str]) -> None:
    for name in names:
        try:
            await context.delete_consumer(stream, name)
        except nats.js.errors.NotFoundError:
            # another function has
            continue


async def _received(following: Callable[[], Awaitable[Msg]], limit: int) -> AsyncIterator[Msg]:
    for _ in range(limit):
        message = await following()
        if message.reply:
            yield message
            continue
        status = (message.headers or {}).get("Status")
        if status == "503":
            raise nats.js.errors.NoStreamResponseError
        # no more messages
        return


def _message(client: Client, consumer: StreamConsumer, message: Msg) -> StreamMessage:
    async def acknowledge() -> None:
        # not confirmed: if it is lost, the message comes again, and is known by its id
        await client.publish(message.reply, b"+ACK")

    metadata = message.metadata
    at = metadata.timestamp.astimezone(UTC)
    headers: Mapping[str, str] = message.headers or {}
    # the sequence begins again in a stream that is made anew
    id = headers.get("Nats-Msg-Id") or f"{metadata.stream}:{metadata.sequence.stream}:{int(at.timestamp() * 1e6)}"
    event = {
        "id": id,
        "source": f"nats:{consumer.stream}",
        "type": message.subject,
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "headers": dict(headers),
        **event_data(message.data),
    }
    return StreamMessage(event=event, acknowledge=acknowledge)
