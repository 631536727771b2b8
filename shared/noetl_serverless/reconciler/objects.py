"""Objects that were written to a bucket, of which the bucket's own service tells the reconciler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..orchestrator.triggers import TriggerStarts
from ..store.triggers import PolledTrigger, Triggers


@dataclass(kw_only=True, frozen=True, slots=True)
class WrittenObject:
    """`scheme`: s3 or gs; `revision`: what tells this content of the object from others, such as its version."""

    scheme: str
    bucket: str
    key: str
    revision: str
    bytes: int | None
    etag: str | None
    at: datetime | None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


class ObjectEvents:
    def __init__(self, triggers: Triggers, starts: TriggerStarts) -> None:
        self._triggers = triggers
        self._starts = starts

    async def receive(self, objects: Iterable[WrittenObject]) -> int:
        """Record them for the triggers that listen to them; once this returns, the service need not tell again. Returns
        how many events were new. Raises Unavailable."""
        received = 0
        for one in objects:
            for trigger in await self._triggers.listening("object", one.url):
                if _is_meant(trigger, one):
                    received += await self._starts.receive_message(trigger, _event(trigger, one))
        return received


def _is_meant(trigger: PolledTrigger, one: WrittenObject) -> bool:
    """A trigger of s3://bucket does not listen to s3://buckets."""
    bucket, _, prefix = trigger.source.partition("://")[2].partition("/")
    is_below = bucket == one.bucket and one.key.startswith(prefix)
    return is_below and one.key.endswith(str(trigger.config.get("suffix", "")))


def _event(trigger: PolledTrigger, one: WrittenObject) -> dict[str, Any]:
    at = (one.at or datetime.now(UTC)).astimezone(UTC)
    return {
        "id": f"{one.url}:{one.revision}",
        "source": trigger.source,
        "type": "object.created",
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {"url": one.url, "bucket": one.bucket, "key": one.key, "bytes": one.bytes, "etag": one.etag},
    }
