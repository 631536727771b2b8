"""The catalog: playbooks by path, each in versions that never change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from ..errors import Fault, NotFound
from .connection import Connection
from .database import Database
from .ids import fresh_id
from .queries import load
from .triggers import DeclaredTrigger, declare


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """One version of a playbook. `content` is "" in listings, which leave it out."""

    catalog_id: int
    path: str
    version: int
    kind: str
    hash: str
    meta: dict[str, Any]
    # the workload: the inputs and their defaults
    payload: dict[str, Any]
    created_at: datetime
    content: str = ""


@dataclass(kw_only=True, frozen=True, slots=True)
class NewPlaybook:
    """A playbook to register."""

    path: str
    kind: str
    content: str
    hash: str
    meta: dict[str, Any]
    payload: dict[str, Any]
    # number of steps of the plan
    steps: int = 0
    # for whoever registers it; not stored
    warnings: tuple[Fault, ...] = ()
    triggers: tuple[DeclaredTrigger, ...] = ()


class PostgresCatalog:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("catalog")

    async def register(self, document: NewPlaybook) -> tuple[CatalogVersion, bool]:
        """The entry, and whether it is new: registering the text of the newest version again makes no version."""
        return await self._database.transaction(lambda connection: self._register(connection, document))

    async def get(self, path: str, version: int | None = None) -> CatalogVersion:
        """The version, by default the newest; raises NotFound."""
        if version is None:
            rows = await self._database.rows(self._sql["newest"], path=path)
        else:
            rows = await self._database.rows(self._sql["by_version"], path=path, version=version)
        if not rows:
            named = path if version is None else f"{path} version {version}"
            raise NotFound(f"the catalog has no {named}")
        return CatalogVersion(**rows[0])

    async def by_id(self, catalog_id: int) -> CatalogVersion:
        """Raises NotFound."""
        rows = await self._database.rows(self._sql["by_id"], catalog_id=catalog_id)
        if not rows:
            raise NotFound(f"the catalog has no entry {catalog_id}")
        return CatalogVersion(**rows[0])

    async def text(self, hash: str) -> str:
        """The playbook whose plan has this hash; raises NotFound."""
        rows = await self._database.run(self._sql["by_hash"], hash=hash)
        if not rows:
            raise NotFound(f"the catalog has no playbook with the hash {hash}")
        return str(rows[0][0])

    async def entries(
        self,
        *,
        path: str | None = None,
        kind: str | None = None,
        every_version: bool = False,
        limit: int,
        offset: int,
    ) -> list[CatalogVersion]:
        """Ordered by path; `path` matches itself and everything below it."""
        rows = await self._database.rows(
            self._sql["entries"], path=path, kind=kind, every=every_version, limit=limit, offset=offset
        )
        return [CatalogVersion(**row) for row in rows]

    def _register(self, connection: Connection, document: NewPlaybook) -> tuple[CatalogVersion, bool]:
        connection.run(self._sql["lock_path"], path=document.path)
        newest = _first(connection, self._sql["newest"], path=document.path)
        if newest is not None and newest.content == document.content:
            return newest, False
        entry = _first(
            connection,
            self._sql["insert"],
            catalog_id=fresh_id(),
            path=document.path,
            version=1 if newest is None else newest.version + 1,
            kind=document.kind,
            content=document.content,
            hash=document.hash,
            meta=orjson.dumps(document.meta).decode(),
            payload=orjson.dumps(document.payload).decode(),
            steps=document.steps,
        )
        assert entry is not None
        declare(connection, entry.path, entry.version, document.triggers, datetime.now(UTC))
        return entry, True


def _first(connection: Connection, sql: str, **params: Any) -> CatalogVersion | None:
    rows = connection.rows(sql, **params)
    return CatalogVersion(**rows[0]) if rows else None
