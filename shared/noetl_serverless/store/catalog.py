"""The catalog: playbooks, tools and other resources by path, each in versions that never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from ..errors import Conflict, Fault, NotFound
from ..playbook.grammar import EXECUTABLE
from .connection import Connection
from .database import Database
from .ids import fresh_id
from .queries import load
from .triggers import as_declared, declare_newest

if TYPE_CHECKING:
    from ..playbook.called_inputs import CalledPlaybook
    from ..playbook.plan import Trigger


@dataclass(frozen=True, slots=True)
class CatalogVersion:
    """One version of a resource. `content` is "" in listings, which leave it out."""

    catalog_id: int
    path: str
    version: int
    kind: str
    hash: str
    meta: dict[str, Any]
    # of a playbook its workload: the inputs and their defaults; of others what their kind is about
    payload: dict[str, Any]
    created_at: datetime
    content: str = ""
    # of listings that include deleted versions
    deleted_at: datetime | None = None


@dataclass(kw_only=True, frozen=True, slots=True)
class NewResource:
    """A playbook, or a resource of another kind, to register."""

    path: str
    kind: str
    content: str
    hash: str
    meta: dict[str, Any]
    payload: dict[str, Any]
    # number of steps of the plan, if it has one
    steps: int = 0
    # for whoever registers it; not stored
    warnings: tuple[Fault, ...] = ()
    # what its steps give to other playbooks
    calls: tuple[CalledPlaybook, ...] = ()
    triggers: tuple[Trigger, ...] = ()


class PostgresCatalog:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("catalog")

    async def register(self, document: NewResource) -> tuple[CatalogVersion, bool]:
        """The entry, and whether it is new: registering the text of the newest version again makes no version. A number
        of a version is never used again. Raises Conflict if the path is of another kind."""
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
        """The playbook whose plan has this hash, even if it is deleted; raises NotFound."""
        rows = await self._database.run(self._sql["by_hash"], hash=hash)
        if not rows:
            raise NotFound(f"the catalog has no playbook with the hash {hash}")
        return str(rows[0][0])

    async def entries(
        self,
        *,
        path: str | None = None,
        kind: str | None = None,
        agents: bool = False,
        capabilities: Sequence[str] = (),
        every_version: bool = False,
        deleted: bool = False,
        limit: int,
        offset: int,
    ) -> list[CatalogVersion]:
        """Ordered by path; `path` matches itself and everything below it. `agents`: only those; `capabilities`: only
        what has all of them; `deleted`: with what is deleted."""
        rows = await self._database.rows(
            self._sql["entries"],
            path=path,
            kind=kind,
            agents=agents,
            capabilities=orjson.dumps(list(capabilities)).decode() if capabilities else None,
            every=every_version,
            deleted=deleted,
            limit=limit,
            offset=offset,
        )
        return [CatalogVersion(**row) for row in rows]

    async def versions(
        self, path: str, *, deleted: bool = False, before: int | None = None, limit: int
    ) -> list[CatalogVersion]:
        """The versions of a path, the newest first; `before`: those with lower numbers."""
        rows = await self._database.rows(self._sql["versions"], path=path, deleted=deleted, before=before, limit=limit)
        return [CatalogVersion(**row) for row in rows]

    async def delete(self, path: str, version: int | None = None) -> list[int]:
        """Hide a version, by default all of the path; what runs goes on. The versions that were not hidden before.
        Raises NotFound."""
        return await self._mark("delete", path, version)

    async def restore(self, path: str, version: int | None = None) -> list[int]:
        """Show a deleted version again, by default all of the path. The versions that were hidden. Raises NotFound."""
        return await self._mark("restore", path, version)

    async def credential_kinds(self, names: Sequence[str]) -> dict[str, list[str]]:
        """The kinds of tools that may use each of these credentials, of those whose description names any."""
        rows = await self._database.rows(self._sql["credential_kinds"], names=list(names))
        return {row["path"]: row["kinds"] for row in rows}

    async def _mark(self, statement: str, path: str, version: int | None) -> list[int]:
        def mark(connection: Connection) -> list[int]:
            connection.run(self._sql["lock_path"], path=path)
            before = connection.run(self._sql["newest_version"], path=path)
            rows = connection.run(self._sql[statement], path=path, version=version) or []
            if not rows and not connection.run(self._sql["has"], path=path, version=version)[0][0]:
                raise NotFound(f"the catalog has no {path if version is None else f'{path} version {version}'}")
            if connection.run(self._sql["newest_version"], path=path) != before:
                declare_newest(connection, path, datetime.now(UTC), again=True)
            return sorted(row[0] for row in rows)

        return await self._database.transaction(mark)

    def _register(self, connection: Connection, document: NewResource) -> tuple[CatalogVersion, bool]:
        connection.run(self._sql["lock_path"], path=document.path)
        newest = _first(connection, self._sql["newest"], path=document.path)
        if newest is not None and newest.content == document.content:
            # the release before deletes and restores versions without their triggers
            declare_newest(connection, document.path, datetime.now(UTC), again=False)
            return newest, False
        if newest is not None and newest.kind != document.kind and not {newest.kind, document.kind} <= EXECUTABLE:
            raise Conflict(f"{document.path} is of kind {newest.kind}: register this under another path, or delete it")
        last = connection.run(self._sql["last_version"], path=document.path)[0][0]
        entry = _first(
            connection,
            self._sql["insert"],
            catalog_id=fresh_id(),
            path=document.path,
            version=last + 1,
            kind=document.kind,
            content=document.content,
            hash=document.hash,
            meta=orjson.dumps(document.meta).decode(),
            payload=orjson.dumps(document.payload).decode(),
            steps=document.steps,
            triggers=as_declared(document.triggers),
        )
        assert entry is not None
        declare_newest(connection, entry.path, datetime.now(UTC), again=False)
        return entry, True


def _first(connection: Connection, sql: str, **params: Any) -> CatalogVersion | None:
    rows = connection.rows(sql, **params)
    return CatalogVersion(**rows[0]) if rows else None
