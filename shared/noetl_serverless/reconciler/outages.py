"""When the database was last away: kept where the next pass finds it, whichever process runs that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from ..errors import Unavailable
from ..ports import KeyValue

logger = logging.getLogger(__name__)

# how long holders have to extend their leases after an outage: longer than from one heartbeat to the next
RECOVERY_PERIOD = timedelta(seconds=15)
# how long the record of an outage stays in its bucket, in seconds: longer than anybody reads it
NOTE_TTL_SECONDS = 120.0
BUCKET = "outages"
DATABASE = "database"
# seconds for one read or write: it must not hold up the pass
KEY_VALUE_TIMEOUT_SECONDS = 2.0


class Outages:
    """Written while the database is away, and read when leases have expired: neither happens in normal operation. A
    process without NATS still knows the outages that it has seen itself."""

    def __init__(self, now: Callable[[], datetime], key_value: KeyValue | None = None) -> None:
        self._now = now
        self._key_value = key_value
        self._seen: datetime | None = None

    async def record(self) -> None:
        """Record that the database is away."""
        self._seen = self._now()
        if self._key_value is None:
            return
        try:
            async with asyncio.timeout(KEY_VALUE_TIMEOUT_SECONDS):
                await self._key_value.put(DATABASE, self._seen.isoformat().encode())
        except (Unavailable, TimeoutError) as error:
            logger.warning("the outage could not be recorded in NATS: %r", error)

    async def was_recent(self) -> bool:
        """Whether an outage may have kept holders of leases from extending them."""
        return self._is_recent(self._seen) or self._is_recent(await self._load_recorded())

    def _is_recent(self, at: datetime | None) -> bool:
        return at is not None and self._now() - at <= RECOVERY_PERIOD

    async def _load_recorded(self) -> datetime | None:
        if self._key_value is None:
            return None
        try:
            async with asyncio.timeout(KEY_VALUE_TIMEOUT_SECONDS):
                value = await self._key_value.get(DATABASE)
            return datetime.fromisoformat(value.decode()) if value else None
        except (Unavailable, TimeoutError, ValueError) as error:
            logger.warning("the record of outages cannot be read: %r", error)
            return None
