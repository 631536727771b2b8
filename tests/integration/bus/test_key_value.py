from __future__ import annotations

import asyncio

import pytest

from noetl_serverless.ports import KeyValue

from .conftest import MakeKeyValue


async def test_what_is_not_there_is_none(key_value: KeyValue) -> None:
    assert await key_value.get("absent") is None


async def test_a_value_is_read_back(key_value: KeyValue) -> None:
    await key_value.put("a", b"\x00one")
    assert await key_value.get("a") == b"\x00one"
    assert await key_value.get("b") is None


async def test_the_last_value_counts(key_value: KeyValue) -> None:
    await key_value.put("a", b"one")
    await key_value.put("a", b"two")
    assert await key_value.get("a") == b"two"


async def test_a_deleted_value_is_gone_and_can_come_again(key_value: KeyValue) -> None:
    await key_value.put("a", b"one")
    await key_value.delete("a")
    assert await key_value.get("a") is None
    await key_value.delete("a")
    await key_value.put("a", b"two")
    assert await key_value.get("a") == b"two"


@pytest.mark.parametrize("key", ["", "a.b c/>*", "ключ", "x" * 5000])
async def test_any_string_may_be_a_key(key_value: KeyValue, key: str) -> None:
    await key_value.put(key, b"value")
    assert await key_value.get(key) == b"value"


async def test_a_value_lives_as_long_as_its_bucket_says(make_key_value: MakeKeyValue) -> None:
    key_value = make_key_value(1.0)
    await key_value.put("a", b"one")
    assert await key_value.get("a") == b"one"
    for _ in range(100):
        await asyncio.sleep(0.1)
        if await key_value.get("a") is None:
            return
    pytest.fail("the value outlived its bucket's time by far")


async def test_a_bucket_takes_a_new_time_to_live(make_key_value: MakeKeyValue) -> None:
    await make_key_value(60.0).put("a", b"one")
    again = make_key_value(120.0)
    await again.put("b", b"two")
    assert await again.get("b") == b"two"
