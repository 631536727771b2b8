from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.counted import counted

from noetl_serverless.errors import Unavailable
from noetl_serverless.orchestrator.notifications import MAX_NAMED_COMMANDS, Notifications
from noetl_serverless.protocol import CommandKey
from noetl_serverless.telemetry import metrics
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.testing.host import MemoryInvoker


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
    return [invocation.payload for invocation in invoker.invocations]


async def test_a_few_commands_are_named_in_the_invocation_before_the_bus_has_them() -> None:
    bus, invoker = SlowBus(), MemoryInvoker()
    notifications = Notifications(bus, invoker)
    await notifications.notify(waiting(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    names = [{"execution_id": "7", "command_id": "0"}, {"execution_id": "7", "command_id": "1"}]
    assert payloads(invoker) == [{"pool": "shared", "waiting": 2, "commands": names}]
    bus.gate.set()
    await notifications.close()
    assert len(await bus.pull("shared", 10, 0)) == 2
    assert len(invoker.invocations) == 1


async def test_many_commands_are_invoked_for_once_the_bus_points_to_them() -> None:
    bus, invoker = SlowBus(), MemoryInvoker()
    notifications = Notifications(bus, invoker)
    await notifications.notify(waiting(MAX_NAMED_COMMANDS + 1))
    await asyncio.sleep(0.01)
    assert invoker.invocations == []
    bus.gate.set()
    await notifications.close()
    assert payloads(invoker) == [{"pool": "shared", "waiting": MAX_NAMED_COMMANDS + 1}]


async def test_without_the_bus_the_worker_is_asked_to_sweep() -> None:
    invoker = MemoryInvoker()
    notifications = Notifications(NoBus(), invoker, after_response=False)
    await notifications.notify(waiting(1))
    await notifications.notify(waiting(MAX_NAMED_COMMANDS + 1))
    assert [bool(payload.get("sweep")) for payload in payloads(invoker)] == [False, True, True]


def invocations(invoker: MemoryInvoker) -> list[tuple[str, dict[str, Any], float]]:
    return [(invocation.function, invocation.payload, invocation.delay) for invocation in invoker.invocations]


async def test_as_many_as_can_be_named_are() -> None:
    bus, invoker = MemoryNotifier(), MemoryInvoker()
    await Notifications(bus, invoker, after_response=False).notify(waiting(MAX_NAMED_COMMANDS))
    (payload,) = payloads(invoker)
    assert (payload["waiting"], len(payload["commands"])) == (MAX_NAMED_COMMANDS, MAX_NAMED_COMMANDS)
    assert len(await bus.pull("shared", 100, 0)) == MAX_NAMED_COMMANDS


async def test_each_pool_has_its_own_invocation() -> None:
    bus, invoker = MemoryNotifier(), MemoryInvoker()
    key = CommandKey(execution_id="7", command_id="x")
    await Notifications(bus, invoker, after_response=False).notify([*waiting(1), ("gpu", key)])
    assert [(function, payload["pool"], payload["waiting"]) for function, payload, _ in invocations(invoker)] == [
        ("shared", "shared", 1),
        ("gpu", "gpu", 1),
    ]
    assert await bus.pull("gpu", 10, 0)


async def test_where_nothing_waits_nobody_is_invoked() -> None:
    invoker = MemoryInvoker()
    await Notifications(MemoryNotifier(), invoker, after_response=False).notify([])
    assert invoker.invocations == []


async def test_without_a_bus_the_invocation_is_enough_and_without_a_host_the_bus() -> None:
    invoker = MemoryInvoker()
    await Notifications(None, invoker, after_response=False).notify(waiting(MAX_NAMED_COMMANDS + 1))
    assert payloads(invoker) == [{"pool": "shared", "waiting": MAX_NAMED_COMMANDS + 1}]
    bus = MemoryNotifier()
    notifications = Notifications(bus, None, after_response=False, timer_function="reconciler")
    await notifications.notify(waiting(1))
    await notifications.request_sweep("shared")
    await notifications.request_archive("shared")
    await notifications.schedule_wakeup(1.0)
    assert len(await bus.pull("shared", 10, 0)) == 1


async def test_a_worker_may_be_asked_to_sweep_or_to_write_the_archive() -> None:
    invoker = MemoryInvoker()
    notifications = Notifications(None, invoker)
    await notifications.request_sweep("gpu")
    await notifications.request_archive("gpu")
    assert invocations(invoker) == [
        ("gpu", {"pool": "gpu", "sweep": True}, 0.0),
        ("gpu", {"pool": "gpu", "archive": True}, 0.0),
    ]


async def test_a_timer_invokes_the_alarm_when_it_is_due_and_at_once_if_it_was() -> None:
    invoker = MemoryInvoker()
    notifications = Notifications(None, invoker, timer_function="reconciler")
    await notifications.schedule_wakeup(2.5)
    await notifications.schedule_wakeup(-1.0)
    assert invocations(invoker) == [("reconciler", {}, 2.5), ("reconciler", {}, 0.0)]
    silent = MemoryInvoker()
    await Notifications(None, silent).schedule_wakeup(2.5)
    assert silent.invocations == [], "the host's own schedule sees to it"


async def test_the_caller_is_answered_before_anybody_is_notified_unless_the_host_stops_then() -> None:
    bus = SlowBus()
    notifications = Notifications(bus, None)
    await asyncio.wait_for(notifications.notify(waiting(1)), 1.0)
    assert await bus.pull("shared", 10, 0) == []
    bus.gate.set()
    await notifications.close()
    assert len(await bus.pull("shared", 10, 0)) == 1
    slow = SlowBus()
    telling = asyncio.ensure_future(Notifications(slow, None, after_response=False).notify(waiting(1)))
    await asyncio.sleep(0.01)
    assert not telling.done()
    slow.gate.set()
    await telling


async def test_notifications_are_counted() -> None:
    def count(kind: str, what: str) -> float:
        return counted(metrics.notifications.labels(kind, what))

    kinds = [("bus", "sent"), ("bus", "given up"), ("invocation", "sent")]
    before = [count(*kind) for kind in kinds]
    await Notifications(MemoryNotifier(), MemoryInvoker(), after_response=False).notify(waiting(1))
    assert [count(*kind) for kind in kinds] == [before[0] + 1, before[1], before[2] + 1]
    await Notifications(NoBus(), None, after_response=False).notify(waiting(1))
    assert [count(*kind) for kind in kinds] == [before[0] + 1, before[1] + 1, before[2] + 1]
