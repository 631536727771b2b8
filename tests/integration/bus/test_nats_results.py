"""Results in a bucket of NATS, against a real server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from tests.unit.results.contract import ResultStoreContract
from tests.unit.results.write_once_contract import WriteOnceContract

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats_results import NatsResultStore
from noetl_serverless.errors import Unavailable, Unsupported
from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.results.stores import MAX_BYTES


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[NatsConnection]:
    connection = NatsConnection(nats_url)
    yield connection
    await connection.close()


@pytest.fixture
def bucket() -> str:
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def store(connection: NatsConnection, bucket: str) -> NatsResultStore:
    return NatsResultStore(connection, bucket)


class TestContract(ResultStoreContract, WriteOnceContract):
    sizes = (0, 1, 1000, 70_000)
    file_bytes = MAX_BYTES["kv"]


async def test_the_largest_object_fits(store: NatsResultStore) -> None:
    content = secrets.token_bytes(MAX_BYTES["kv"])
    await store.put("1/a/large.json", content)
    assert await store.get("1/a/large.json") == content


async def test_what_is_deleted_leaves_nothing_in_the_bucket(
    store: NatsResultStore, connection: NatsConnection, bucket: str
) -> None:
    for number in range(3):
        await store.put(f"1/a/{number}.json", b"x" * 1000)
    before = (await (await connection.jetstream()).stream_info(f"KV_{bucket}")).state
    assert (before.messages, before.bytes > 3000) == (3, True)
    for number in range(3):
        await store.delete(f"1/a/{number}.json")
    after = (await (await connection.jetstream()).stream_info(f"KV_{bucket}")).state
    assert (after.messages, after.bytes) == (0, 0), "a value or a marker is left"


async def test_no_entry_has_an_age_and_all_are_in_files(
    store: NatsResultStore, connection: NatsConnection, bucket: str
) -> None:
    await store.put("1/a/k.json", b"x")
    config = (await (await connection.jetstream()).stream_info(f"KV_{bucket}")).config
    assert (config.max_age or 0, config.storage, config.num_replicas) == (0, "file", 1)


async def test_keys_are_those_that_other_clients_of_the_bucket_can_name(
    store: NatsResultStore, nats_url: str, bucket: str
) -> None:
    await store.put("385/lo%2Ead it/9f.json", b"value")
    client = Client()
    await client.connect(nats_url)
    entries = await client.jetstream().key_value(bucket)
    assert await entries.keys() == ["385.lo=252Ead=20it.9f=2Ejson"]
    assert (await entries.get("385.lo=252Ead=20it.9f=2Ejson")).value == b"value"
    await client.close()


async def test_a_listing_goes_from_page_to_page(store: NatsResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = sorted(f"1/s{number % 7}/{number}.json" for number in range(50))
    await asyncio.gather(*(store.put(key, b"x") for key in keys))
    client = await store._connection.client()
    request, offsets = client.request, []

    async def page(subject: str, payload: bytes, **more: Any) -> Any:
        """As the server gives them, of which a page has a hundred thousand."""
        answer = await request(subject, orjson.dumps({**orjson.loads(payload), "offset": 0}), **more)
        info, offset = orjson.loads(answer.data), orjson.loads(payload)["offset"]
        subjects = sorted(info["state"]["subjects"].items())
        info["state"]["subjects"] = dict(subjects[offset : offset + 20])
        offsets.append(offset)
        answer.data = orjson.dumps({**info, "total": len(subjects), "offset": offset, "limit": 20})
        return answer

    monkeypatch.setattr(client, "request", page)
    assert [key async for key in store.list("1/")] == keys
    assert offsets == [0, 20, 40]


async def test_who_goes_on_with_the_whole_bucket_does_not_list_it_again(
    store: NatsResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = sorted(f"{number}/s/k.json" for number in range(30))
    await asyncio.gather(*(store.put(key, b"x") for key in keys))
    found: list[str] = []
    listings = 0
    below = store._below

    async def counting(folder: str) -> Sequence[str]:
        nonlocal listings
        listings += 1
        return await below(folder)

    monkeypatch.setattr(store, "_below", counting)
    while page := [key async for key, _ in _zip(store.list("", found[-1] if found else ""), range(7))]:
        found += page
    assert (found, listings) == (keys, 1)
    await store.put("0/s/new.json", b"x")
    assert [key async for key in store.list("")] == sorted(["0/s/new.json", *keys])
    within = [key for key in keys if key.startswith("1")]
    assert [key async for key in store.list("1", within[0])] == within[1:]


async def _zip(keys: AsyncIterator[str], numbers: range) -> AsyncIterator[tuple[str, int]]:
    for number in numbers:
        try:
            yield await anext(keys), number
        except StopAsyncIteration:
            return


async def test_of_several_nodes_the_first_is_asked_for_what_another_does_not_know(
    store: NatsResultStore, connection: NatsConnection, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("1/a/k.json", b"x")
    clustered = NatsResultStore(connection, bucket, replicas=3)
    asked: list[bool] = []
    get = JetStreamContext.get_last_msg

    async def behind(context: Any, stream: str, subject: str, direct: bool = False) -> Any:
        asked.append(direct)
        if direct:
            raise NotFoundError
        return await get(context, stream, subject, direct=direct)

    monkeypatch.setattr(JetStreamContext, "get_last_msg", behind)
    assert await clustered.get("1/a/k.json") == b"x"
    with pytest.raises(KeyError):
        await clustered.get("1/a/none.json")
    assert asked == [True, False, True, False]


async def test_a_server_whose_messages_are_smaller_says_so(tmp_path: Path) -> None:
    class Small(Nats):
        def _configuration(self) -> dict[str, object]:
            return {**super()._configuration(), "max_payload": 64 * 1024}

    server = Small(tmp_path / "nats", free_port(), secrets.token_hex(8), tmp_path / "log")
    process = server.start()
    try:
        connection = NatsConnection(server.url)
        store = NatsResultStore(connection)
        await store.put("1/a/small.json", b"x" * 60_000)
        with pytest.raises(Unsupported, match="at most 65536 bytes, and this result has 100000: set its max_payload"):
            await store.put("1/a/large.json", b"x" * 100_000)
        process.stop()
        with pytest.raises(Unavailable):
            await store.get("1/a/small.json")
        with pytest.raises(Unavailable):
            await store.put("1/a/other.json", b"x")
        await connection.close()
    finally:
        process.stop()
