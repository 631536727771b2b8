"""Reads the variables of executions; the event store writes them, with the events that set them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..engine.variables import Variable
from .database import Database
from .queries import load


@dataclass(kw_only=True, frozen=True, slots=True)
class StoredVariable:
    """`accessed_at`: when a user has read it last; if nobody has, when it was created."""

    name: str
    type: str
    value: Any
    source_step: str | None
    created_at: datetime
    accessed_at: datetime
    access_count: int
    expires_at: datetime | None

    @classmethod
    def of_state(cls, name: str, variable: Variable) -> StoredVariable:
        """Of an archived execution, for which nothing is counted any more."""
        created_at = _instant(variable.created_at)
        return cls(
            name=name,
            type=variable.type,
            value=variable.value,
            source_step=variable.source_step,
            created_at=created_at,
            accessed_at=created_at,
            access_count=0,
            expires_at=None if variable.expires_at is None else _instant(variable.expires_at),
        )


class StoredVariables:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = load("variables")

    async def entries(self, execution_id: int) -> list[StoredVariable]:
        """Those of an execution in the database, by name."""
        return [StoredVariable(**row) for row in await self._database.rows(self._sql["entries"], id=execution_id)]

    async def read(self, execution_id: int, name: str) -> StoredVariable | None:
        """One of them, which counts as read; None if there is none of that name."""
        rows = await self._database.rows(self._sql["read"], id=execution_id, name=name)
        return StoredVariable(**rows[0]) if rows else None


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
