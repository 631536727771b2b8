"""Command notifications over JetStream: a work queue of pointers, a subject and a consumer per pool."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from ..errors import InvalidRequest, Unavailable
from ..ports import Pointer
from ..protocol import CommandKey
from .connection import FAILURES, NatsConnection

_NAME_IN_USE = 10058
_POOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_MESSAGES, _TIMEOUT, _NO_RESPONDERS = "404", "408", "503"
# how long the server may take beyond the requested wait before the connection counts as dead
_GRACE_SECONDS = 2.0


class NatsNotifier:
    """Notifier over JetStream. The stream and the consumers are made when they turn out to be missing.

    Stream `NOETL_COMMANDS`, subjects `noetl.commands.<pool>`; `prefix` is for stacks that share a server.
    A hint published twice within `duplicate_window` seconds is kept once; the window is short, so that the
    reconciler's next hint for the same command gets through. A pointer that is pulled and not acknowledged is
    delivered again after `ack_wait` seconds. In a cluster, `replicas` nodes have the stream.
    """

    def __init__(
        self,
        connection: NatsConnection | str,
        *,
        prefix: str = "noetl",
        replicas: int = 1,
        ack_wait: float = 30.0,
        max_age: float = 3600.0,
        duplicate_window: float = 2.0,
        timeout: float = 2.0,
    ) -> None:
        self._connection = NatsConnection(connection) if isinstance(connection, str) else connection
        self._stream = f"{prefix.upper()}_COMMANDS"
        self._subjects = f"{prefix}.commands"
        self._replicas = replicas
        self._ack_wait = ack_wait
        self._max_age = max_age
        self._duplicate_window = duplicate_window
        self._timeout = timeout

    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None:
        """Returns when the stream has stored them; Unavailable after at most `timeout` seconds."""
        _check(pool)
        if not commands:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._connection.run_with_retry(lambda: self._publish(pool, commands), self._create_stream)
        except TimeoutError as error:
            await self._connection.drop()
            raise Unavailable("NATS did not confirm the notifications") from error

    async def pull(self, pool: str, limit: int, wait: float) -> list[Pointer]:
        """See Notifier; Unavailable if there is no server."""
        _check(pool)
        if limit < 1:
            return []
        deadline = asyncio.get_running_loop().time() + wait
        return await self._connection.run_with_retry(
            lambda: self._pull(pool, limit, deadline), lambda: self._create_consumer(pool)
        )

    async def ack(self, pointers: Sequence[Pointer]) -> None:
        """Sent without confirmation: if an acknowledgement is lost, the pointer is delivered again."""
        if not pointers:
            return
        client = await self._connection.client()
        try:
            for pointer in pointers:
                await client.publish(pointer.token, b"+ACK")
        except FAILURES as error:
            raise Unavailable("NATS does not answer") from error

    async def close(self) -> None:
        await self._connection.close()

    async def check(self) -> None:
        """Unavailable if there is no server; for readiness probes."""
        client = await self._connection.client()
        try:
            await client.flush(1)
        except FAILURES as error:
            await self._connection.drop()
            raise Unavailable("NATS does not answer") from error

    async def _publish(self, pool: str, commands: Sequence[CommandKey]) -> None:
        client = await self._connection.client()
        subject = f"{self._subjects}.{pool}"
        *first, last = commands
        # One connection's messages are stored in order: the confirmation of the last one covers them all.
        for key in first:
            await client.publish(subject, _encode(key), headers=_message_id(pool, key))
        # half of the time, so that after a connection that died unnoticed there is time for another
        context = client.jetstream(timeout=self._timeout / 2)
        await context.publish(subject, _encode(last), headers=_message_id(pool, last))

    async def _pull(self, pool: str, limit: int, deadline: float) -> list[Pointer]:
        client = await self._connection.client()
        wait = deadline - asyncio.get_running_loop().time()
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        try:
            # no_wait with expires: as many as there are, or wait for the first
            request: dict[str, object] = {"batch": limit, "no_wait": True}
            if wait > 0:
                request["expires"] = int(wait * 1e9)
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{pool}"
            await client.publish(subject, json.dumps(request).encode(), reply=inbox)
            return await _collect(client, subscription, limit, max(wait, 0.0) + _GRACE_SECONDS)
        finally:
            await _unsubscribe(client, subscription)

    async def _create_stream(self) -> None:
        config = StreamConfig(
            name=self._stream,
            subjects=[f"{self._subjects}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            max_age=self._max_age,
            duplicate_window=self._duplicate_window,
        )
        await create_stream(await self._connection.jetstream(), config)

    async def _create_consumer(self, pool: str) -> None:
        await self._create_stream()
        context = await self._connection.jetstream()
        config = ConsumerConfig(
            durable_name=pool,
            filter_subject=f"{self._subjects}.{pool}",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait,
            max_ack_pending=100_000,
            max_waiting=8192,
        )
        await context.add_consumer(self._stream, config)


async def create_stream(context: JetStreamContext, config: StreamConfig) -> None:
    """Create the stream, or update the configuration of the one with that name."""
    try:
        await context.add_stream(config)
    except nats.js.errors.APIError as error:
        if error.err_code != _NAME_IN_USE:
            raise
        await context.update_stream(config)


async def _collect(client: Client, subscription: Subscription, limit: int, wait: float) -> list[Pointer]:
    pointers: list[Pointer] = []
    received = 0
    deadline = asyncio.get_running_loop().time() + wait
    while received < limit:
        left = deadline - asyncio.get_running_loop().time()
        message = await subscription.next_msg(max(left, 0.001))
        # a published message can be acknowledged, whatever its headers are; a status message of the server cannot
        if message.reply:
            received += 1
            if (pointer := _pointer(message)) is not None:
                pointers.append(pointer)
            else:
                await client.publish(message.reply, b"+TERM")
            continue
        status = (message.headers or {}).get("Status")
        if pointers or status in (_NO_MESSAGES, _TIMEOUT):
            break
        elif status == _NO_RESPONDERS:
            raise nats.js.errors.NoStreamResponseError
        else:
            # the consumer was deleted, the server shuts down, ...
            raise nats.errors.ConnectionClosedError
    return pointers


def _pointer(message: Msg) -> Pointer | None:
    """None for a message that is not ours."""
    try:
        return Pointer(CommandKey.model_validate(orjson.loads(message.data)), message.reply)
    except ValueError:
        return None


async def _unsubscribe(client: Client, subscription: Subscription) -> None:
    if client.is_connected:
        await subscription.unsubscribe()


def _encode(key: CommandKey) -> bytes:
    return orjson.dumps({"execution_id": key.execution_id, "command_id": key.command_id})


def _message_id(pool: str, key: CommandKey) -> dict[str, str]:
    return {"Nats-Msg-Id": f"{pool}:{key.execution_id}:{key.command_id}"}


def _check(pool: str) -> None:
    if not _POOL.fullmatch(pool):
        raise InvalidRequest(f"A pool name must be 1 to 64 letters, digits, '-' or '_', not {pool!r}")
