from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from noetl_serverless.bus.memory import MemoryNotifier
from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.memory import MemoryInvoker
from noetl_serverless.ledger.doorbell import NAMED, Doorbell
from noetl_serverless.protocol import CommandKey


class SlowBus(MemoryNotifier):
    """Takes what is published once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None:
        await self.gate.wait()
        await super().publish(pool, commands)


class NoBus(MemoryNotifier):
    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None:
        raise Unavailable("NATS does not answer")


def waiting(count: int) -> list[tuple[str, CommandKey]]:
    return [("shared", CommandKey(execution_id="7", command_id=str(number))) for number in range(count)]


def payloads(invoker: MemoryInvoker) -> list[dict[str, Any]]:
    return [ring.payload for ring in invoker.rings]


async def test_a_few_commands_are_named_in_the_ring_before_the_bus_has_them() -> None:
    bus, invoker = SlowBus(), MemoryInvoker()
    bell = Doorbell(bus, invoker)
    await bell.ring(waiting(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    names = [{"execution_id": "7", "command_id": "0"}, {"execution_id": "7", "command_id": "1"}]
    assert payloads(invoker) == [{"pool": "shared", "waiting": 2, "commands": names}]
    bus.gate.set()
    await bell.close()
    assert len(await bus.pull("shared", 10, 0)) == 2
    assert len(invoker.rings) == 1


async def test_many_commands_are_rung_for_once_the_bus_points_to_them() -> None:
    bus, invoker = SlowBus(), MemoryInvoker()
    bell = Doorbell(bus, invoker)
    await bell.ring(waiting(NAMED + 1))
    await asyncio.sleep(0.01)
    assert invoker.rings == []
    bus.gate.set()
    await bell.close()
    assert payloads(invoker) == [{"pool": "shared", "waiting": NAMED + 1}]


async def test_without_the_bus_the_worker_is_asked_to_sweep() -> None:
    invoker = MemoryInvoker()
    bell = Doorbell(NoBus(), invoker, background=False)
    await bell.ring(waiting(1))
    await bell.ring(waiting(NAMED + 1))
    assert [bool(payload.get("sweep")) for payload in payloads(invoker)] == [False, True, True]
