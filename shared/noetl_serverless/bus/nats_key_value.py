"""Small values with a time to live in a JetStream key-value bucket."""

from __future__ import annotations

import nats.js.errors
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from .connection import NatsConnection
from .key import encoded_key
from .nats import create_stream


class NatsKeyValue:
    """KeyValue over a bucket whose entries live `ttl` seconds. Any string may be a key; the bucket stores its digest.

    In a cluster, `replicas` nodes have the bucket.
    """

    def __init__(
        self, connection: NatsConnection | str, bucket: str = "sessions", ttl: float = 28800.0, *, replicas: int = 1
    ) -> None:
        self._connection = NatsConnection(connection) if isinstance(connection, str) else connection
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._ttl = ttl
        self._replicas = replicas

    async def get(self, key: str) -> bytes | None:
        return await self._connection.run_with_retry(lambda: self._get(self._prefix + encoded_key(key)), self._create)

    async def put(self, key: str, value: bytes) -> None:
        await self._connection.run_with_retry(lambda: self._write(self._prefix + encoded_key(key), value), self._create)

    async def delete(self, key: str) -> None:
        # the same marker that other NATS clients write; it replaces the value at once and expires like one
        await self._connection.run_with_retry(
            lambda: self._write(self._prefix + encoded_key(key), b"", {"KV-Operation": "DEL"}), self._create
        )

    async def close(self) -> None:
        await self._connection.close()

    async def check(self) -> None:
        """Unavailable if there is no server; for readiness probes."""
        await self.get("")

    @property
    def _direct(self) -> bool:
        """Whether any node may answer, which is faster. Of several, one might not know yet who has just signed out."""
        return self._replicas == 1

    async def _get(self, subject: str) -> bytes | None:
        context = await self._connection.jetstream()
        try:
            message = await context.get_last_msg(self._stream, subject, direct=self._direct)
        except nats.js.errors.NotFoundError:
            return None
        if (message.headers or {}).get("KV-Operation") in ("DEL", "PURGE"):
            return None
        return message.data or b""

    async def _write(self, subject: str, value: bytes, headers: dict[str, str] | None = None) -> None:
        context = await self._connection.jetstream()
        await context.publish(subject, value, headers=headers)

    async def _create(self) -> None:
        config = StreamConfig(
            name=self._stream,
            subjects=[f"{self._prefix}>"],
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            max_age=self._ttl,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            deny_delete=True,
            allow_rollup_hdrs=True,
            allow_direct=self._direct,
            duplicate_window=min(120.0, self._ttl),
        )
        await create_stream(await self._connection.jetstream(), config)
