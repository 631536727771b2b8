"""Users: they start executions, again until they are answered, and some change their mind. What they do to one that
runs, and what is sent to triggers, is said again until it is answered, too."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from .controls import Control, Delivery
from .playbooks import MAIN
from .server import Called, called
from .web_secret import KEY

if TYPE_CHECKING:
    from .world import World

TIMEOUT = 6.0
TRIES = 1000
# when nothing is said twice any more, in seconds: a request that was on its way may be late, and its process stalled
SAID = 120.0
# between two attempts to go on with one that has not ended
PATIENCE = 5.0
ENDED, CONFLICT, ACCEPTED = "ENDED", 409, "accepted"


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
    controls: tuple[Control, ...] = ()
    # names of the signals that were answered, by their keys
    taken: dict[str, str] = field(default_factory=dict)
    # whether it is gone on with if it has failed or was cancelled, and with what else in its payload
    restarts: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    restarted_id: str | None = None
    # why it could not be gone on with
    why_not: str = ""

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
        began = world.loop.now
        for control in order.controls:
            await asyncio.sleep(max(0.0, control.at - (world.loop.now - began)))
            await _control(world, order, control)
        if order.cancel_at is not None:
            await asyncio.sleep(max(0.0, order.cancel_at - (world.loop.now - began)))
            cascade = world.chance.random() < 0.7
            body = orjson.dumps({"reason": "changed my mind", "cascade": cascade})
            await _ask(world, order, called(f"/api/executions/{order.execution_id}/cancel", body), tries=TRIES)
        await _go_on(world, order)
        if order.restarts:
            await _restart(world, order)
    order.settled = True


async def _control(world: World, order: Order, control: Control) -> None:
    at = f"/api/executions/{order.execution_id}"
    if control.verb != "signal":
        body = b"{}" if control.verb == "pause" else None
        await _ask(world, order, called(f"{at}/{control.verb}", body), TRIES, may_end=True)
        return
    call = called(f"{at}/signals/{control.signal}", orjson.dumps({"data": control.data}), control.key)
    if await _ask(world, order, call, TRIES, may_end=True) is not ENDED:
        order.taken[control.key] = control.signal


async def _go_on(world: World, order: Order) -> None:
    """A request to pause it may come twice, and late."""
    if world.calm or not any(control.verb == "pause" for control in order.controls):
        return
    await asyncio.sleep(max(0.0, SAID - world.loop.now))
    await _ask(world, order, called(f"/api/executions/{order.execution_id}/resume"), TRIES, may_end=True)


async def _restart(world: World, order: Order) -> None:
    """Once it has ended."""
    key, body = f"again/{order.label}", orjson.dumps({"payload": order.changes})
    while True:
        call = called(f"/api/executions/{order.execution_id}/restart", body, key)
        answer = await _ask(world, order, call, TRIES, may_end=True)
        if answer is None:
            return
        if answer is not ENDED:
            order.restarted_id = answer["execution_id"]
            return
        assert order.execution_id is not None
        if (status := world.log.executions[order.execution_id].status) != "RUNNING":
            order.why_not = status
            return
        await asyncio.sleep(PATIENCE)


async def deliver(world: World, order: Order, delivery: Delivery) -> None:
    """As a sender does: several times, and each again until it is answered."""
    await asyncio.sleep(delivery.at)
    await asyncio.gather(*(_deliver(world, order, delivery) for _ in range(delivery.times)))
    order.settled = True


async def _deliver(world: World, order: Order, delivery: Delivery) -> None:
    body = orjson.dumps(delivery.data)
    for _ in range(TRIES):
        at = str(int(world.loop.wall()))
        signature = hmac.digest(KEY, f"{delivery.id}.{at}.".encode() + body, "sha256")
        headers = (
            (b"webhook-id", delivery.id.encode()),
            (b"webhook-timestamp", at.encode()),
            (b"webhook-signature", b"v1," + base64.b64encode(signature)),
        )
        if await _ask(world, order, called(f"/api/hooks/{delivery.trigger}", body, headers=headers), 1) is not None:
            return


async def _ask(world: World, order: Order, call: Called, tries: int, *, may_end: bool = False) -> Any:
    """None if it was never answered; with `may_end`, ENDED for what comes too late, or too early."""
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
        if may_end and status == CONFLICT:
            return ENDED
        if status not in (500, 503):
            world.log.broken("a user was refused", f"{call} {status} {answer!r}")
            return None
        await asyncio.sleep(0.5)
    return None
