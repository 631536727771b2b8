"""The cache of fetched secrets: sealed at rest, and fetched by one worker at a time.

A value belongs to a *slot*: the key of its scope, and a digest of what it is fetched from. No transaction lasts while a
secret is fetched: who is to fetch it gets an id, under which it stores the value or gives up.

A value that is given over REST has a slot of its own, whatever it would be fetched from. While it is valid it is used
instead of a fetched one: that of the execution itself before that of its family before that of the playbook.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

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
# the inputs of a given value
GIVEN = "given"
# how often the use of a value by workers is counted at most: each count is a write
ACCESS_PAUSE_SECONDS = 60.0


Scope: TypeAlias = Literal["local", "global", "shared"]


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
        return cls.in_scope(entry.scope, entry.name, execution_id, owner, inputs)

    @classmethod
    def in_scope(cls, scope: Scope, name: str, execution_id: int, owner: Owner, inputs: str) -> Slot:
        match scope:
            case "global":
                return cls.of_playbook(name, owner.catalog_id, inputs)
            case "shared":
                key = f"{name}:{owner.top_catalog_id}:shared:{owner.top_id}"
                return cls(key, inputs, owner.top_catalog_id, owner.top_id)
            case "local":
                key = f"{name}:{owner.catalog_id}:{execution_id}"
                return cls(key, inputs, owner.catalog_id, execution_id)

    @classmethod
    def of_playbook(cls, name: str, catalog_id: int, inputs: str) -> Slot:
        return cls(f"{name}:{catalog_id}:global", inputs, catalog_id, None)


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
    scope: Scope
    auto_renew: bool
    execution_id: int | None
    fields: list[str]
    created_at: datetime
    fetched_at: datetime
    expires_at: datetime
    accessed_at: datetime | None
    access_count: int
    expired: bool
    seconds_left: float

    @property
    def given(self) -> bool:
        return self.inputs == GIVEN


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

    async def acquire(self, slot: Slot, entry: KeychainEntry, given: Sequence[Slot] = ()) -> Acquired:
        """The value, or the permission to fetch it, or both if it is to be renewed. `given`: the slots of values that
        take its place, in the order in which they do. One that is to be renewed is renewed by what is fetched."""
        rows = await self._rows(slot.inputs, [slot, *given])
        for place in given:
            row = rows.get(place)
            instead = (
                self._opened(place, row) if row is not None and row["valid"] and row["kind"] == entry.kind else None
            )
            if row is not None and instead is not None:
                left = row["seconds_left"]
                if not (row["auto_renew"] and _is_due(left, row["lifetime"])):
                    await self._count(place, row)
                    return Acquired(instead, left)
                break
        else:
            instead, left = None, 0.0
        row = rows.get(slot, {"sealed": None, "valid": False, "fetching": False})
        data = self._opened(slot, row) if row["valid"] else None
        if data is not None:
            left = row["seconds_left"]
            await self._count(slot, row)
        if row["fetching"] or (data is not None and not (entry.auto_renew and _is_due(left, row["lifetime"]))):
            return Acquired(instead if data is None else data, left)
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
        return Acquired(instead if data is None else data, left, began[0][0] if began else None)

    async def _rows(self, inputs: str, slots: Sequence[Slot]) -> dict[Slot, dict[str, Any]]:
        """Those of `slots` that hold anything."""
        rows = await self._database.rows(
            self._sql["find"],
            keys=list(dict.fromkeys(slot.cache_key for slot in slots)),
            inputs=inputs,
            pause=ACCESS_PAUSE_SECONDS,
        )
        found = {(row["cache_key"], row["inputs"]): row for row in rows}
        return {slot: found[slot.cache_key, slot.inputs] for slot in slots if (slot.cache_key, slot.inputs) in found}

    async def _count(self, slot: Slot, row: Mapping[str, Any]) -> None:
        if row["countable"]:
            await self._count_access(slot, ACCESS_PAUSE_SECONDS)

    async def _count_access(self, slot: Slot, pause: float) -> None:
        await self._database.run(self._sql["count_access"], cache_key=slot.cache_key, inputs=slot.inputs, pause=pause)

    async def store(self, slot: Slot, fetch_id: str, data: dict[str, Any], ttl: float) -> bool:
        """Whether it was stored: not if the permission has expired and somebody else got it. Raises InvalidRequest."""
        sealed = self._sealed(slot, data)
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

    def _sealed(self, slot: Slot, data: Mapping[str, Any]) -> Sealed:
        text = orjson.dumps(data)
        if len(text) > MAX_BYTES:
            raise InvalidRequest(f"a secret has {len(text)} bytes of JSON; the limit is {MAX_BYTES}")
        return self._sealer.seal(text, _associated_data(slot))

    def _opened(self, slot: Slot, row: Mapping[str, Any]) -> dict[str, Any] | None:
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

    async def give(
        self, slot: Slot, entry: KeychainEntry, scope: Scope, data: Mapping[str, Any], ttl: float, *, auto_renew: bool
    ) -> datetime:
        """Store a given value, in place of an earlier one: when it expires. Raises InvalidRequest."""
        sealed = self._sealed(slot, data)
        [[expires_at]] = await self._database.run(
            self._sql["give"],
            cache_key=slot.cache_key,
            catalog_id=slot.catalog_id,
            name=entry.name,
            kind=entry.kind,
            scope=scope,
            auto_renew=auto_renew,
            execution_id=slot.execution_id,
            sealed=sealed.text,
            key_id=sealed.key_id,
            fields=sorted(data),
            ttl=ttl,
        )
        found: datetime = expires_at
        return found

    async def value(self, secret: CachedSecret) -> dict[str, Any] | None:
        """The value, and its use is counted; None if it is gone or has expired."""
        slot = Slot(secret.cache_key, secret.inputs, secret.catalog_id, secret.execution_id)
        row = (await self._rows(slot.inputs, [slot])).get(slot)
        data = self._opened(slot, row) if row is not None and row["valid"] else None
        if data is not None:
            await self._count_access(slot, 0.0)
        return data

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
        """How many of those that are listed were deleted. What ended with its execution goes, too, uncounted."""
        rows = await self._database.run(
            self._sql["delete"], catalog_id=catalog_id, name=name, scope=scope, execution_id=execution_id
        )
        return sum(bool(listed) for (listed,) in rows)


def _is_due(left: float, lifetime: float) -> bool:
    """Whether a value that is renewed has reached the end of its life: half of it at most."""
    return left <= max(lifetime * RENEWAL_SHARE, min(MIN_RENEWAL_SECONDS, lifetime / 2))


def _associated_data(slot: Slot) -> tuple[str, ...]:
    return ("keychain", slot.cache_key, slot.inputs)
