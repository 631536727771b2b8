"""The cache of fetched secrets: sealed at rest, and fetched by one worker at a time.

A value belongs to a *slot*: the key of its scope, and a digest of what it is fetched from. No transaction lasts while a
secret is fetched: who is to fetch it gets an id, under which it stores the value or gives up.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from ..errors import InvalidRequest, NotFound
from ..playbook.plan import KeychainEntry
from .database import Database
from .queries import load
from .seal import Sealed, Sealer, UnknownKey

# how long nobody else fetches what somebody fetches; a fetch with all its attempts takes less
FETCH_SECONDS = 90.0
# how soon a failed renewal is tried again, while the value is still valid
RENEWAL_PAUSE_SECONDS = 10.0
# the part of its life before its end in which a value is renewed, and how long that is at least
RENEWAL_SHARE = 0.1
MIN_RENEWAL_SECONDS = 30.0
MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Owner:
    """The execution that a secret is for, and the one above it that nothing has started."""

    catalog_id: int
    plan_hash: str
    runs: bool
    top_id: int
    top_catalog_id: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a value is kept. `execution_id`: with which it ends."""

    cache_key: str
    inputs: str
    catalog_id: int
    execution_id: int | None

    @classmethod
    def of(cls, entry: KeychainEntry, execution_id: int, owner: Owner, inputs: str) -> Slot:
        match entry.scope:
            case "global":
                return cls(f"{entry.name}:{owner.catalog_id}:global", inputs, owner.catalog_id, None)
            case "shared":
                key = f"{entry.name}:{owner.top_catalog_id}:shared:{owner.top_id}"
                return cls(key, inputs, owner.top_catalog_id, owner.top_id)
            case "local":
                key = f"{entry.name}:{owner.catalog_id}:{execution_id}"
                return cls(key, inputs, owner.catalog_id, execution_id)


@dataclass(frozen=True, slots=True)
class Acquired:
    """`data`: the value, None if there is none yet; `fetch_id`: set for the one caller who is to fetch it. Neither:
    another caller fetches it."""

    data: dict[str, Any] | None = field(default=None, repr=False)
    seconds_left: float = 0.0
    fetch_id: str | None = None


@dataclass(frozen=True, slots=True)
class CachedSecret:
    """What is known of a value, without the value."""

    cache_key: str
    inputs: str
    catalog_id: int
    name: str
    kind: str
    scope: str
    auto_renew: bool
    execution_id: int | None
    fields: list[str]
    created_at: datetime
    fetched_at: datetime
    expires_at: datetime
    expired: bool


class Keychain:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._sql = load("keychain")

    async def owner(self, execution_id: int) -> Owner:
        """Raises NotFound."""
        rows = await self._database.rows(self._sql["owner"], execution_id=execution_id)
        if not rows:
            raise NotFound(f"there is no execution {execution_id}")
        return Owner(**rows[0])

    # -- for workers

    async def acquire(self, slot: Slot, entry: KeychainEntry) -> Acquired:
        """The value, or the permission to fetch it, or both if it is to be renewed."""
        rows = await self._database.rows(self._sql["find"], cache_key=slot.cache_key, inputs=slot.inputs)
        row: dict[str, Any] = rows[0] if rows else {"sealed": None, "valid": False, "fetching": False}
        data = self._opened(slot, row) if row["valid"] else None
        left = row["seconds_left"] if data is not None else 0.0
        if row["fetching"] or (data is not None and not (entry.auto_renew and _is_due(left, row["lifetime"]))):
            return Acquired(data, left)
        began = await self._database.run(
            self._sql["begin_fetch"],
            cache_key=slot.cache_key,
            inputs=slot.inputs,
            catalog_id=slot.catalog_id,
            name=entry.name,
            kind=entry.kind,
            scope=entry.scope,
            auto_renew=entry.auto_renew,
            execution_id=slot.execution_id,
            lease=FETCH_SECONDS,
            fetch_id=secrets.token_hex(16),
            seen=row["sealed"],
        )
        return Acquired(data, left, began[0][0] if began else None)

    async def store(self, slot: Slot, fetch_id: str, data: dict[str, Any], ttl: float) -> bool:
        """Whether it was stored: not if the permission has expired and somebody else got it. Raises InvalidRequest."""
        text = orjson.dumps(data)
        if len(text) > MAX_BYTES:
            raise InvalidRequest(f"a secret has {len(text)} bytes of JSON; the limit is {MAX_BYTES}")
        sealed = self._sealer.seal(text, _associated_data(slot))
        stored = await self._database.run(
            self._sql["end_fetch"],
            cache_key=slot.cache_key,
            inputs=slot.inputs,
            fetch_id=fetch_id,
            sealed=sealed.text,
            key_id=sealed.key_id,
            fields=sorted(data),
            ttl=ttl,
        )
        return bool(stored)

    async def give_up(self, slot: Slot, fetch_id: str) -> None:
        """The fetch has failed."""
        await self._database.run(
            self._sql["fail_fetch"],
            cache_key=slot.cache_key,
            inputs=slot.inputs,
            fetch_id=fetch_id,
            pause=RENEWAL_PAUSE_SECONDS,
        )

    def _opened(self, slot: Slot, row: dict[str, Any]) -> dict[str, Any] | None:
        """None for a value under a key that is gone, which is fetched again."""
        if row["sealed"] is None:
            return None
        try:
            data: dict[str, Any] = orjson.loads(
                self._sealer.open(Sealed(row["key_id"], row["sealed"]), _associated_data(slot))
            )
        except UnknownKey:
            return None
        return data

    # -- for users and operators

    async def entries(
        self,
        catalog_id: int,
        *,
        name: str | None = None,
        scope: str | None = None,
        execution_id: int | None = None,
        after: tuple[str, str] = ("", ""),
        limit: int,
    ) -> list[CachedSecret]:
        """By key, after (cache key, inputs)."""
        rows = await self._database.rows(
            self._sql["entries"],
            catalog_id=catalog_id,
            name=name,
            scope=scope,
            execution_id=execution_id,
            after_key=after[0],
            after_inputs=after[1],
            limit=limit,
        )
        return [CachedSecret(**row) for row in rows]

    async def delete(
        self, catalog_id: int, name: str, *, scope: str | None = None, execution_id: int | None = None
    ) -> int:
        """How many were deleted."""
        rows = await self._database.run(
            self._sql["delete"], catalog_id=catalog_id, name=name, scope=scope, execution_id=execution_id
        )
        return len(rows)


def _is_due(left: float, lifetime: float) -> bool:
    """Whether a value that is renewed has reached the end of its life: half of it at most."""
    return left <= max(lifetime * RENEWAL_SHARE, min(MIN_RENEWAL_SECONDS, lifetime / 2))


def _associated_data(slot: Slot) -> tuple[str, ...]:
    return ("keychain", slot.cache_key, slot.inputs)
