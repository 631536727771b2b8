from __future__ import annotations

import base64
import os

import pytest

from noetl_serverless.errors import NotFound
from noetl_serverless.store.credentials import Credentials
from noetl_serverless.store.database import Database
from noetl_serverless.store.seal import Sealer, UnknownKey


def key(name: str) -> str:
    return f"{name}:{base64.b64encode(os.urandom(32)).decode()}"


@pytest.fixture
def old_key() -> str:
    return key("old")


@pytest.fixture
def credentials(database: Database, old_key: str) -> Credentials:
    return Credentials(database, Sealer.of(old_key))


async def test_data_comes_back_only_when_asked_for(credentials: Credentials) -> None:
    put = await credentials.put(name="wh", type="postgres", data={"password": "s3cret"}, tags=["a", "b,c"])
    assert put.data is None
    assert (await credentials.get("wh")).data is None
    found = await credentials.get("wh", with_data=True)
    assert (found.data, found.tags) == ({"password": "s3cret"}, ["a", "b,c"])
    assert "s3cret" not in repr(found)


async def test_the_secret_is_nowhere_in_the_database(credentials: Credentials, database: Database) -> None:
    await credentials.put(name="wh", type="postgres", data={"password": "s3cret"})
    [[row]] = await database.run("SELECT credential::text FROM noetl.credential")
    assert "s3cret" not in row
    assert b"s3cret".hex() not in row


async def test_an_id_finds_it_too_but_a_name_wins(credentials: Credentials) -> None:
    first = await credentials.put(name="wh", type="a", data={})
    assert (await credentials.get(str(first.credential_id))).name == "wh"
    await credentials.put(name=str(first.credential_id), type="b", data={})
    assert (await credentials.get(str(first.credential_id))).type == "b"


async def test_storing_again_replaces(credentials: Credentials) -> None:
    first = await credentials.put(name="wh", type="a", data={"x": 1}, description="old")
    again = await credentials.put(name="wh", type="b", data={"x": 2})
    assert (again.credential_id, again.description) == (first.credential_id, None)
    assert (await credentials.get("wh", with_data=True)).data == {"x": 2}


async def test_a_secret_moved_to_another_row_does_not_open(credentials: Credentials, database: Database) -> None:
    await credentials.put(name="mine", type="a", data={"x": 1})
    await credentials.put(name="yours", type="a", data={"x": 2})
    await database.run(
        "UPDATE noetl.credential SET sealed = (SELECT sealed FROM noetl.credential WHERE name = 'yours') "
        "WHERE name = 'mine'"
    )
    with pytest.raises(UnknownKey):
        await credentials.get("mine", with_data=True)


async def test_a_list_can_be_narrowed(credentials: Credentials) -> None:
    await credentials.put(name="b", type="postgres", data={}, description="The Warehouse")
    await credentials.put(name="a", type="postgres", data={}, tags=["warehouse"])
    await credentials.put(name="c", type="bearer", data={})
    assert [found.name for found in await credentials.entries(limit=1000, offset=0)] == ["a", "b", "c"]
    assert [found.name for found in await credentials.entries(type="bearer", limit=1000, offset=0)] == ["c"]
    assert [found.name for found in await credentials.entries(text="WAREHOUSE", limit=1000, offset=0)] == ["a", "b"]
    assert [found.name for found in await credentials.entries(text="100%", limit=1000, offset=0)] == []


async def test_what_is_deleted_is_gone(credentials: Credentials) -> None:
    await credentials.put(name="wh", type="a", data={})
    assert await credentials.delete("wh") == "wh"
    for again in (credentials.get("wh"), credentials.delete("wh")):
        with pytest.raises(NotFound):
            await again


async def test_rotation_seals_everything_under_the_new_key(
    credentials: Credentials, database: Database, old_key: str
) -> None:
    for n in range(5):
        await credentials.put(name=f"c{n}", type="a", data={"n": n})
    new_key = key("new")
    both = Credentials(database, Sealer.of(f"{new_key},{old_key}"))
    assert [await both.reseal(limit=3) for _ in range(3)] == [3, 2, 0]
    without_old = Credentials(database, Sealer.of(new_key))
    assert (await without_old.get("c4", with_data=True)).data == {"n": 4}
