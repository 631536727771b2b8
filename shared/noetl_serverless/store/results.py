"""Reads the references of results, and writes those of results that users have put; those of steps are written by the
event store, with the outcome."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, Self

import orjson

from ..errors import Conflict, NotFound
from ..uri import ResultUri
from .database import Database
from .queries import load

BEGINNING = "-infinity"

Outcome = Literal["stored", "same", "replaced", "missing", "taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A row of `result_ref`. `bytes` and `sha256`: of the content; that of the object, if it is compressed, is in
    `meta`."""

    key: str
    ref: str
    name: str | None
    step: str | None
    store: str
    bytes: int
    sha256: str
    content_type: str
    scope: str
    expires_at: datetime | None
    created_at: datetime
    put_by: Mapping[str, Any] | None
    meta: Mapping[str, Any] | None
    deleted_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Of a row as JSON; one that an earlier release has archived lacks some columns."""
        found: dict[str, Any] = {field.name: row.get(field.name) for field in fields(cls)}
        for name in ("expires_at", "created_at", "deleted_at"):
            if isinstance(found[name], str):
                found[name] = datetime.fromisoformat(found[name])
        return cls(**found)

    @property
    def title(self) -> str:
        """The name that it was put under, or that of its step."""
        return self.name or self.of_step or ""

    @property
    def of_step(self) -> str | None:
        """The step that has made it, also of a part of what was accumulated, whose URI alone says it."""
        return self.step if self.step is not None else _step_in(self.ref)

    def is_readable(self, now: datetime) -> bool:
        return self.deleted_at is None and (self.expires_at is None or self.expires_at > now)


def _step_in(ref: str) -> str | None:
    try:
        return ResultUri.parse(ref).step
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Of a result in the list of an execution, which is in order of steps, and of times."""

    step: str = ""
    at: str = BEGINNING
    key: str = ""

    @classmethod
    def of(cls, result: StoredResult) -> Self:
        return cls(result.step or "", result.created_at.isoformat(), result.key)


@dataclass(frozen=True, slots=True)
class PutResult:
    """`former`: the key and the store of the object that is no longer needed."""

    outcome: Outcome
    result: StoredResult | None
    former: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCount:
    store: str
    scope: str
    put: bool
    results: int
    bytes: int


def _meta_of(reference: Mapping[str, Any]) -> dict[str, Any]:
    """As a row has it."""
    meta = {**(reference.get("meta") or {}), **{name: reference.get(name) for name in ("extracted", "preview")}}
    names = ("stored_bytes", "compression", "row_count", "extracted", "preview")
    return {name: meta[name] for name in names if meta.get(name) not in (None, {})}


class StoredResults:
    """`by_ref`, `newest`, `page`: of executions in the database; none of an execution that is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("results")

    async def by_ref(self, execution_id: int, ref: str) -> list[StoredResult]:
        """The newest first; more than one if the digits at the end of the URI are those of several."""
        return self._of(await self._database.rows(self._sql["by_ref"], id=execution_id, ref=ref))

    async def newest(self, execution_id: int, step: str) -> StoredResult | None:
        """The newest result of a step that can be read."""
        found = self._of(await self._database.rows(self._sql["newest"], id=execution_id, step=step))
        return found[0] if found else None

    async def page(self, execution_id: int, after: Place, limit: int, *, step: str | None = None) -> list[StoredResult]:
        """The next results after a place, those that cannot be read any more, too."""
        if step is None:
            return self._of(await self._database.rows(self._sql["page"], id=execution_id, **asdict(after), limit=limit))
        place = {"step": step, "at": after.at, "key": after.key}
        return self._of(await self._database.rows(self._sql["page_of_step"], id=execution_id, **place, limit=limit))

    async def described(self, execution_id: int, results: Sequence[StoredResult]) -> list[StoredResult]:
        """With what their references in the log say of results of steps: the rows have it only of what was put."""
        bare = [it for it in results if it.put_by is None and it.meta is None]
        if not bare:
            return list(results)
        # what a task accumulates is in parts of no step's name
        steps = None if any(it.step is None for it in bare) else {it.step or "" for it in bare}
        found = await self._references(execution_id, {it.key for it in bare}, steps)
        return [replace(it, meta=_meta_of(found[it.key])) if it.key in found else it for it in results]

    async def _references(
        self, execution_id: int, keys: Collection[str], steps: Collection[str] | None
    ) -> dict[str, Mapping[str, Any]]:
        """References of reports of these steps, or of any, by their keys."""
        named = {"keys": list(keys), "steps": None if steps is None else list(steps)}
        rows = await self._database.rows(self._sql["described"], id=execution_id, **named)
        return {row["key"]: row for row in rows}

    async def same(self, execution_id: int, name: str, sha256: str, content_type: str) -> StoredResult | None:
        """What was put under this name with this content before, and can be read."""
        named = {"name": name, "sha256": sha256, "content_type": content_type}
        found = self._of(await self._database.rows(self._sql["same"], id=execution_id, **named))
        return found[0] if found else None

    async def settled(self, execution_id: int, cutoff: datetime) -> bool:
        """Whether the execution, and all that may use its results, ended before `cutoff`."""
        rows = await self._database.run(self._sql["settled"], id=execution_id, cutoff=cutoff)
        return bool(rows[0][0])

    async def reserve(self, execution_id: int, row: Mapping[str, Any]) -> None:
        """Name an object that is about to be written, for an execution that has ended: what has no row is collected."""
        given = orjson.dumps({**row, "execution_id": execution_id}).decode()
        await self._database.run(self._sql["reserve"], row=given)

    async def put(
        self,
        execution_id: int,
        row: Mapping[str, Any],
        idempotency_key: str | None = None,
        *,
        gone: str | None = None,
        known: str | None = None,
    ) -> PutResult:
        """Register what was put; its object is written. `gone`: the key of an object that is known to be missing;
        `known`: that of what was put before with the same content, which has to be there still, as nothing was written.

        Raises NotFound, and Conflict: the key of the request came with something else, or the execution is archived.
        """
        given = orjson.dumps({**row, "execution_id": execution_id, "idempotency_key": idempotency_key}).decode()
        done = (await self._database.run(self._sql["put"], row=given, gone=gone, known=known))[0][0]
        match done["outcome"]:
            case "unknown":
                raise NotFound(f"there is no execution {execution_id}")
            case "archived":
                raise Conflict(f"execution {execution_id} is archived: nothing is put into it any more")
            case "other":
                raise Conflict("a request with this Idempotency-Key has put something else, or it was deleted since")
        written = done.get("row")
        return PutResult(done["outcome"], None if written is None else StoredResult.of(written), done.get("former"))

    async def mark_deleted(self, execution_id: int, keys: Sequence[str]) -> list[str]:
        """Take them from their readers; the keys of those that exist."""
        rows = await self._database.run(self._sql["mark_deleted"], id=execution_id, keys=list(keys))
        return [row[0] for row in rows]

    async def unmark_deleted(self, execution_id: int, keys: Sequence[str]) -> None:
        """Give them back to their readers."""
        await self._database.run(self._sql["unmark_deleted"], id=execution_id, keys=list(keys))

    async def remove(self, execution_id: int, keys: Sequence[str]) -> None:
        """Delete the rows of what users have put, whose objects are deleted."""
        await self._database.run(self._sql["remove"], id=execution_id, keys=list(keys))

    async def stats(self, execution_id: int | None, limit: int) -> list[ResultCount]:
        """Of the results of an execution, or of all, of at most `limit`."""
        rows = await self._database.rows(self._sql["stats"], id=execution_id, limit=limit)
        return [ResultCount(**row) for row in rows]

    def _of(self, rows: Sequence[Mapping[str, Any]]) -> list[StoredResult]:
        return [StoredResult(**row) for row in rows]
