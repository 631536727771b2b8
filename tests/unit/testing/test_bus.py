from __future__ import annotations

import asyncio

from noetl_serverless.bus.key import encoded_key
from noetl_serverless.protocol import CommandKey
from noetl_serverless.testing.bus import MemoryKeyValue, MemoryNotifier

KEY = CommandKey(execution_id="7", command_id="load/1/1")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_pointer_comes_back_exactly_after_its_time() -> None:
    clock = Clock()
    notifier = MemoryNotifier(ack_wait=30, clock=clock)
    await notifier.publish("shared", [KEY])
    assert len(await notifier.pull("shared", 1, 0)) == 1
    clock.now += 29.9
    assert await notifier.pull("shared", 1, 0) == []
    clock.now += 0.1
    assert len(await notifier.pull("shared", 1, 0)) == 1


async def test_a_late_acknowledgement_of_a_pointer_that_came_back_changes_nothing() -> None:
    clock = Clock()
    notifier = MemoryNotifier(ack_wait=30, clock=clock)
    await notifier.publish("shared", [KEY])
    late = await notifier.pull("shared", 1, 0)
    clock.now += 30
    assert len(await notifier.pull("shared", 1, 0)) == 1
    await notifier.ack(late)
    clock.now += 30
    assert len(await notifier.pull("shared", 1, 0)) == 1


async def test_a_waiting_pull_sees_what_comes_back() -> None:
    notifier = MemoryNotifier(ack_wait=0.05)
    await notifier.publish("shared", [KEY])
    await notifier.pull("shared", 1, 0)
    (pointer,) = await asyncio.wait_for(notifier.pull("shared", 1, 30), 10)
    assert pointer.key == KEY


async def test_a_closed_notifier_is_empty() -> None:
    notifier = MemoryNotifier()
    await notifier.publish("shared", [KEY])
    await notifier.close()
    assert await notifier.pull("shared", 1, 0) == []


async def test_a_value_expires_on_time() -> None:
    clock = Clock()
    values = MemoryKeyValue(60, clock=clock)
    await values.put("a", b"one")
    clock.now += 59.9
    assert await values.get("a") == b"one"
    clock.now += 0.1
    assert await values.get("a") is None


def test_a_bucket_key_reveals_nothing_and_is_always_the_same() -> None:
    assert encoded_key("token") == encoded_key("token")
    assert encoded_key("token") != encoded_key("token2")
    assert "token" not in encoded_key("token")
    assert len(encoded_key("")) == 64
