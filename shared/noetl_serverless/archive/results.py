"""References of results wherever they are: in the database, or in the archive."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from ..engine.events import REPORTS, references_in
from ..store.database import Database
from ..store.results import BEGINNING, Place, StoredResult, StoredResults
from .read import ArchiveReader


class ResultHistory(StoredResults):
    """What an archived execution has is read as it was when it was archived. The rows of some of its results stay in
    the database: those of permanent ones, and of those that expire by themselves."""

    def __init__(self, database: Database, archive: ArchiveReader) -> None:
        super().__init__(database)
        self._archive = archive

    async def by_ref(self, execution_id: int, ref: str) -> list[StoredResult]:
        found = await super().by_ref(execution_id, ref)
        if found:
            return found
        archived = await self._archived(execution_id) or []
        return [result for result in reversed(archived) if result.ref == ref]

    async def newest(self, execution_id: int, step: str) -> StoredResult | None:
        archived = await self._archived(execution_id)
        if archived is None:
            return await super().newest(execution_id, step)
        now = datetime.now(UTC)
        of_step = [result for result in archived if (result.step or "") == step and result.is_readable(now)]
        return max(of_step, key=lambda result: (result.created_at, result.key), default=None)

    async def page(self, execution_id: int, after: Place, limit: int, *, step: str | None = None) -> list[StoredResult]:
        archived = await self._archived(execution_id)
        if archived is None:
            return await super().page(execution_id, after, limit, step=step)
        at = datetime.min.replace(tzinfo=UTC) if after.at == BEGINNING else datetime.fromisoformat(after.at)
        begin = (after.step if step is None else step, at, after.key)
        following = [
            result
            for result in archived
            if (result.step or "", result.created_at, result.key) > begin and step in (None, result.step or "")
        ]
        return following[:limit]

    async def _references(
        self, execution_id: int, keys: Collection[str], steps: Collection[str] | None
    ) -> dict[str, Mapping[str, Any]]:
        place = await self._archive.place(execution_id)
        if place is None:
            return await super()._references(execution_id, keys, steps)
        found: dict[str, Mapping[str, Any]] = {}
        async for event in self._archive.scan(place):
            if event.type in REPORTS and (steps is None or event.step in steps):
                found |= {ref["key"]: ref for ref in references_in(event.payload) if ref["key"] in keys}
            if len(found) == len(keys):
                break
        return found

    async def _archived(self, execution_id: int) -> list[StoredResult] | None:
        """By step and time; None of an execution that is not in the archive."""
        place = await self._archive.place(execution_id)
        if place is None:
            return None
        rows = [StoredResult.of(row) for row in (await self._archive.head(place))["results"]]
        return sorted(rows, key=lambda result: (result.step or "", result.created_at, result.key))
