"""Credentials: sealed at rest, opened only when their data is explicitly requested."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from ..errors import NotFound
from .database import Database
from .ids import fresh_id, parse_id
from .queries import load
from .seal import Sealed, Sealer


@dataclass(frozen=True, slots=True)
class Credential:
    """`data` is the secret: None unless requested, and never shown by repr."""

    credential_id: int
    name: str
    type: str
    meta: dict[str, Any]
    tags: list[str]
    description: str | None
    created_at: datetime
    updated_at: datetime
    data: dict[str, Any] | None = field(default=None, repr=False)


class Credentials:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._sql = load("credentials")

    async def put(
        self,
        *,
        name: str,
        type: str,
        data: dict[str, Any],
        meta: dict[str, Any] | None = None,
        tags: list[str] | None = None,
        description: str | None = None,
    ) -> Credential:
        """Store or replace the credential of this name."""
        sealed = self._sealer.seal(orjson.dumps(data), _associated_data(name, type))
        rows = await self._database.rows(
            self._sql["upsert"],
            credential_id=fresh_id(),
            name=name,
            type=type,
            sealed=sealed.text,
            key_id=sealed.key_id,
            meta=orjson.dumps(meta or {}).decode(),
            tags=tags or [],
            description=description,
        )
        return Credential(**rows[0])

    async def get(self, name_or_id: str, *, with_data: bool = False) -> Credential:
        """A name takes precedence over an id that reads the same. Raises NotFound, UnknownKey."""
        found = await self._database.rows(
            self._sql["sealed" if with_data else "get"], name=name_or_id, credential_id=parse_id(name_or_id)
        )
        if not found:
            raise NotFound(f"there is no credential {name_or_id!r}")
        row = found[0]
        if with_data:
            sealed = Sealed(row.pop("key_id"), row.pop("sealed"))
            row["data"] = orjson.loads(self._sealer.open(sealed, _associated_data(row["name"], row["type"])))
        return Credential(**row)

    async def fields(self, name: str) -> dict[str, Any]:
        """Its secret data. Raises NotFound, UnknownKey."""
        return (await self.get(name, with_data=True)).data or {}

    async def entries(
        self, *, type: str | None = None, text: str | None = None, limit: int, offset: int
    ) -> list[Credential]:
        rows = await self._database.rows(self._sql["entries"], type=type, text=text, limit=limit, offset=offset)
        return [Credential(**row) for row in rows]

    async def delete(self, name_or_id: str) -> str:
        """Delete a credential; returns its name. Raises NotFound."""
        rows = await self._database.run(self._sql["delete"], name=name_or_id, credential_id=parse_id(name_or_id))
        if not rows:
            raise NotFound(f"there is no credential {name_or_id!r}")
        return str(rows[0][0])

    async def reseal(self, limit: int = 100) -> int:
        """Seal up to `limit` credentials of old keys again; returns how many. Raises UnknownKey."""
        rows = await self._database.rows(self._sql["under_other_keys"], key_id=self._sealer.first, limit=limit)
        resealed = 0
        for row in rows:
            before = Sealed(row["key_id"], row["sealed"])
            after = self._sealer.reseal(before, _associated_data(row["name"], row["type"]))
            resealed += len(
                await self._database.run(
                    self._sql["reseal"],
                    credential_id=row["credential_id"],
                    before=before.text,
                    sealed=after.text,
                    key_id=after.key_id,
                )
            )
        return resealed


def _associated_data(name: str, type: str) -> tuple[str, ...]:
    return ("credential", name, type)
