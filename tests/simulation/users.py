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
    path: str = MAIN
    # what is sent, if it is not the payload written down as usual, and whether it may be refused
    raw: bytes | None = None
    refusable: bool = False
    refused: bool = False
    execution_id: str | None = None
    settled: bool = False

    def body(self) -> bytes:
        payload = orjson.dumps(self.payload)
        if self.raw is not None:
            payload = payload[:-1] + b"," + self.raw[1:]
        return b'{"path":' + orjson.dumps(self.path) + b',"payload":' + payload + b"}"


async def serve(world: World, order: Order) -> None:
    """Without a key it is not safe to start it again."""
    await asyncio.sleep(order.at)
    key = f"user/{order.label}" if order.keyed else None
    answer = await _ask(world, order, called("/api/execute", order.body(), key), tries=1 if key is None else TRIES)
    if answer is not None:
        order.execution_id = answer["execution_id"]
        if order.cancel_at is not None:
            await asyncio.sleep(order.cancel_at)
            cascade = world.chance.random() < 0.7
            body = orjson.dumps({"reason": "changed my mind", "cascade": cascade})
            await _ask(world, order, called(f"/api/executions/{order.execution_id}/cancel", body), tries=TRIES)
    order.settled = True


async def _ask(world: World, order: Order, call: Called, tries: int) -> Any:
    for _ in range(tries):
        try:
            status, answer = await world.wire.send(call, TIMEOUT)
        except (aiohttp.ClientError, TimeoutError):
            status, answer = 503, b""
        if status < 400:
            return orjson.loads(answer)
        if order.refusable and 400 <= status < 500:
            order.refused = True
            return None
        if status not in (500, 503):
            world.log.broken("a user was refused", f"{call} {status} {answer!r}")
            return None
        await asyncio.sleep(0.5)
    return None
