"""Users: they start executions, again until they are answered, and some change their mind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from .playbooks import MAIN
from .server import Called, called

if TYPE_CHECKING:
    from .world import World

TIMEOUT = 6.0
TRIES = 1000


@dataclass(slots=True)
class Order:
    """An execution that is wanted; `cancel_at`: and then not any more."""

    label: str
    payload: dict[str, Any]
    at: float
    keyed: bool
    cancel_at: float | None
    execution_id: str | None = None
    settled: bool = False


async def serve(world: World, order: Order) -> None:
    """Without a key it is not safe to start it again."""
    await asyncio.sleep(order.at)
    key = f"user/{order.label}" if order.keyed else None
    body = orjson.dumps({"path": MAIN, "payload": order.payload})
    answer = await _ask(world, called("/api/execute", body, key), tries=1 if key is None else TRIES)
    if answer is not None:
        order.execution_id = answer["execution_id"]
        if order.cancel_at is not None:
            await asyncio.sleep(order.cancel_at)
            cascade = world.chance.random() < 0.7
            body = orjson.dumps({"reason": "changed my mind", "cascade": cascade})
            await _ask(world, called(f"/api/executions/{order.execution_id}/cancel", body), tries=TRIES)
    order.settled = True


async def _ask(world: World, call: Called, tries: int) -> Any:
    for _ in range(tries):
        try:
            status, answer = await world.wire.send(call, TIMEOUT)
        except (aiohttp.ClientError, TimeoutError):
            status, answer = 503, b""
        if status < 400:
            return orjson.loads(answer)
        if status not in (500, 503):
            world.log.broken("a user was refused", f"{call} {status} {answer!r}")
            return None
        await asyncio.sleep(0.5)
    return None
