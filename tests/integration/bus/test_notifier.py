from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from noetl_serverless.ports import Notifier, Pointer
from noetl_serverless.protocol import CommandKey

from .conftest import MakeNotifier


def key(number: int, execution: str = "9007199254740993") -> CommandKey:
    return CommandKey(execution_id=execution, command_id=f"step/{number}/1")


def keys(pointers: Iterable[Pointer]) -> list[CommandKey]:
    return [pointer.key for pointer in pointers]


async def test_what_is_published_is_pulled_in_order(notifier: Notifier) -> None:
    await notifier.publish("shared", [key(1), key(2), key(3)])
    assert keys(await notifier.pull("shared", 10, 1)) == [key(1), key(2), key(3)]


async def test_a_pull_takes_no_more_than_asked_for(notifier: Notifier) -> None:
    await notifier.publish("shared", [key(1), key(2), key(3)])
    assert keys(await notifier.pull("shared", 2, 1)) == [key(1), key(2)]
    assert keys(await notifier.pull("shared", 2, 0)) == [key(3)]


async def test_a_pull_for_nothing_takes_nothing(notifier: Notifier) -> None:
    await notifier.publish("shared", [key(1)])
    assert await notifier.pull("shared", 0, 1) == []
    assert keys(await notifier.pull("shared", 1, 0)) == [key(1)]


async def test_a_pull_without_waiting_comes_back_empty(notifier: Notifier) -> None:
    assert await notifier.pull("shared", 10, 0) == []


async def test_a_pull_waits_for_the_first_and_does_not_wait_for_more(notifier: Notifier) -> None:
    pull = asyncio.create_task(notifier.pull("shared", 10, 20))
    await asyncio.sleep(0.2)
    await notifier.publish("shared", [key(1)])
    assert keys(await asyncio.wait_for(pull, 10)) == [key(1)]


async def test_a_pull_gives_up_after_its_wait(notifier: Notifier) -> None:
    assert await asyncio.wait_for(notifier.pull("shared", 10, 0.2), 5) == []


async def test_pools_do_not_see_each_other(notifier: Notifier) -> None:
    await notifier.publish("gpu", [key(1)])
    await notifier.publish("shared", [key(2)])
    assert keys(await notifier.pull("shared", 10, 0.5)) == [key(2)]
    assert keys(await notifier.pull("gpu", 10, 0.5)) == [key(1)]


async def test_two_pulls_share_and_none_gets_what_the_other_has(notifier: Notifier) -> None:
    await notifier.publish("shared", [key(number) for number in range(20)])
    first, second = await asyncio.gather(
        notifier.pull("shared", 10, 1),
        notifier.pull("shared", 10, 1),
    )
    assert sorted(k.command_id for k in keys(first + second)) == sorted(key(n).command_id for n in range(20))


async def test_a_hint_published_twice_at_once_is_pulled_once(notifier: Notifier) -> None:
    await notifier.publish("shared", [key(1), key(1)])
    assert keys(await notifier.pull("shared", 10, 1)) == [key(1)]
    assert await notifier.pull("shared", 10, 0) == []


async def test_what_is_not_acknowledged_comes_back(make_notifier: MakeNotifier) -> None:
    notifier = make_notifier(ack_wait=0.5)
    await notifier.publish("shared", [key(1), key(2)])
    first, second = await notifier.pull("shared", 10, 1)
    await notifier.ack([first])
    assert await notifier.pull("shared", 10, 0) == []
    assert keys(await notifier.pull("shared", 10, 10)) == [second.key]


async def test_what_is_acknowledged_is_gone(make_notifier: MakeNotifier) -> None:
    notifier = make_notifier(ack_wait=0.3)
    await notifier.publish("shared", [key(1), key(2)])
    await notifier.ack(await notifier.pull("shared", 10, 1))
    assert await notifier.pull("shared", 10, 1) == []


async def test_a_pull_that_was_cancelled_takes_nothing(notifier: Notifier) -> None:
    pull = asyncio.create_task(notifier.pull("shared", 10, 20))
    await asyncio.sleep(0.2)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    await asyncio.sleep(0.1)
    await notifier.publish("shared", [key(1)])
    assert keys(await notifier.pull("shared", 10, 5)) == [key(1)]


async def test_publishing_nothing_is_nothing(notifier: Notifier) -> None:
    await notifier.publish("shared", [])
    assert await notifier.pull("shared", 10, 0) == []


async def test_a_thousand_at_once(notifier: Notifier) -> None:
    await notifier.publish("shared", [key(number) for number in range(1000)])
    seen: list[CommandKey] = []
    while pointers := await notifier.pull("shared", 300, 0.5):
        await notifier.ack(pointers)
        seen += keys(pointers)
    assert seen == [key(number) for number in range(1000)]
