"""The cache of secrets over a table in memory: the statements of `store.keychain`, by name."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from noetl_serverless.store.keychain import Keychain
from noetl_serverless.store.queries import load
from noetl_serverless.store.seal import Sealer

from .loop import Process

if TYPE_CHECKING:
    from .world import World

SEALER = Sealer.of(f"one:{base64.b64encode(bytes(range(32))).decode()}")
STATEMENTS = {sql: name for name, sql in load("keychain").items()}


@dataclass(slots=True)
class Row:
    """Times by the clock of the world."""

    expires_at: float
    fetch_id: str | None
    fetching_until: float | None
    sealed: bytes | None = None
    key_id: str | None = None
    fetched_at: float | None = None


class SecretTable:
    """noetl.keychain. `permits`: how often somebody was let fetch a value."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows: dict[tuple[str, str], Row] = {}
        self.permits = 0

    async def owner(self, execution_id: int) -> list[dict[str, Any]]:
        execution = self._world.log.executions.get(str(execution_id))
        if execution is None:
            return []
        top = self._world.top_of(str(execution_id))
        return [
            {
                "catalog_id": int(execution.loaded.catalog_id),
                "plan_hash": execution.loaded.plan_hash,
                "runs": execution.status == "RUNNING",
                "top_id": int(top),
                "top_catalog_id": int(self._world.log.executions[top].loaded.catalog_id),
            }
        ]

    async def find(self, keys: list[str], inputs: str, pause: float) -> list[dict[str, Any]]:
        """Nobody gives a value."""
        now = self._world.loop.now
        return [
            {
                "cache_key": key,
                "inputs": inputs,
                "sealed": row.sealed,
                "key_id": row.key_id,
                "valid": row.expires_at > now,
                "fetching": row.fetching_until is not None and row.fetching_until > now,
                "seconds_left": row.expires_at - now,
                "lifetime": 0.0 if row.fetched_at is None else row.expires_at - row.fetched_at,
                "countable": False,
            }
            for key in keys
            if (row := self._rows.get((key, inputs))) is not None
        ]

    async def begin_fetch(
        self, cache_key: str, inputs: str, lease: float, fetch_id: str, seen: bytes | None, **more: Any
    ) -> list[list[Any]]:
        now, row = self._world.loop.now, self._rows.get((cache_key, inputs))
        if row is None:
            self._rows[cache_key, inputs] = Row(now + lease, fetch_id, now + lease)
        elif (row.fetching_until is None or row.fetching_until <= now) and row.sealed == seen:
            row.fetch_id, row.fetching_until = fetch_id, now + lease
        else:
            return []
        self.permits += 1
        return [[fetch_id]]

    async def end_fetch(
        self, cache_key: str, inputs: str, fetch_id: str, sealed: bytes, key_id: str, ttl: float, **more: Any
    ) -> list[list[Any]]:
        now, row = self._world.loop.now, self._rows.get((cache_key, inputs))
        if row is None or row.fetch_id != fetch_id:
            return []
        self._rows[cache_key, inputs] = Row(now + ttl, None, None, sealed, key_id, now)
        return [[cache_key]]

    async def fail_fetch(self, cache_key: str, inputs: str, fetch_id: str, pause: float) -> list[list[Any]]:
        now, row = self._world.loop.now, self._rows.get((cache_key, inputs))
        if row is not None and row.fetch_id == fetch_id:
            row.fetch_id = None
            row.fetching_until = now + pause if row.sealed is not None and row.expires_at > now else None
        return []


class _Connection:
    """`Database`, as far as the cache calls it."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def run(self, sql: str, **params: Any) -> list[Any]:
        statement: Callable[..., Awaitable[list[Any]]] = getattr(self._world.secret_table, STATEMENTS[sql])
        return await self._world.statement(self._process, statement, **params)

    rows = run


def keychain(world: World, process: Process) -> Keychain:
    """As one control plane has it."""
    return Keychain(cast(Any, _Connection(world, process)), SEALER)
