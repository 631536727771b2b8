from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from noetl_serverless.errors import NotFound
from noetl_serverless.store.catalog import NewResource, PostgresCatalog
from noetl_serverless.store.database import Database

DOCUMENT = NewResource(
    path="demo/hello",
    kind="Playbook",
    content="workflow: []",
    hash="h1",
    meta={"name": "hello", "tags": ["a"]},
    payload={"n": 1},
    steps=3,
)


@pytest.fixture
def catalog(database: Database) -> PostgresCatalog:
    return PostgresCatalog(database)


async def test_what_is_registered_can_be_read_in_three_ways(catalog: PostgresCatalog) -> None:
    entry, new = await catalog.register(DOCUMENT)
    assert new
    assert (entry.version, entry.meta, entry.payload) == (1, DOCUMENT.meta, DOCUMENT.payload)
    assert await catalog.get("demo/hello") == entry
    assert await catalog.get("demo/hello", 1) == entry
    assert await catalog.by_id(entry.catalog_id) == entry
    assert await catalog.text("h1") == DOCUMENT.content


async def test_the_same_text_again_is_the_same_version(catalog: PostgresCatalog) -> None:
    first, _ = await catalog.register(DOCUMENT)
    again, new = await catalog.register(DOCUMENT)
    assert (again, new) == (first, False)


async def test_going_back_to_an_older_text_makes_it_the_newest(catalog: PostgresCatalog) -> None:
    await catalog.register(DOCUMENT)
    await catalog.register(replace(DOCUMENT, content="other", hash="h2"))
    back, new = await catalog.register(DOCUMENT)
    assert (back.version, new) == (3, True)
    assert (await catalog.get("demo/hello")).content == DOCUMENT.content


async def test_many_at_once_get_a_version_each(catalog: PostgresCatalog) -> None:
    documents = [replace(DOCUMENT, content=f"# {n}", hash=f"h{n}") for n in range(12)]
    entries = await asyncio.gather(*map(catalog.register, documents))
    assert sorted(entry.version for entry, _ in entries) == list(range(1, 13))


async def test_a_listing_has_the_newest_of_each_path_below_a_path(catalog: PostgresCatalog) -> None:
    for path in ("demo/b", "demo/a", "demo/a/deep", "demo/ab", "other"):
        await catalog.register(replace(DOCUMENT, path=path))
    await catalog.register(replace(DOCUMENT, path="demo/a", content="new"))
    found = await catalog.entries(path="demo/a", limit=1000, offset=0)
    assert [(entry.path, entry.version, entry.content) for entry in found] == [
        ("demo/a", 2, ""),
        ("demo/a/deep", 1, ""),
    ]
    assert [entry.path for entry in await catalog.entries(path="demo", limit=2, offset=1)] == [
        "demo/a/deep",
        "demo/ab",
    ]


async def test_a_listing_of_every_version_has_the_newest_first(catalog: PostgresCatalog) -> None:
    await catalog.register(DOCUMENT)
    await catalog.register(replace(DOCUMENT, content="new"))
    found = await catalog.entries(path="demo/hello", every_version=True, limit=1000, offset=0)
    assert [entry.version for entry in found] == [2, 1]


async def test_a_listing_of_another_kind_is_empty(catalog: PostgresCatalog) -> None:
    await catalog.register(DOCUMENT)
    assert len(await catalog.entries(kind="playbook", limit=1000, offset=0)) == 1
    assert await catalog.entries(kind="agent", limit=1000, offset=0) == []


async def test_what_is_not_there_is_not_found(catalog: PostgresCatalog) -> None:
    await catalog.register(DOCUMENT)
    for looking, missing in (
        (catalog.get("nowhere"), "the catalog has no nowhere"),
        (catalog.get("demo/hello", 2), "the catalog has no demo/hello version 2"),
        (catalog.by_id(1), "the catalog has no entry 1"),
        (catalog.text("nothing"), "the catalog has no playbook with the hash nothing"),
    ):
        with pytest.raises(NotFound) as caught:
            await looking
        assert caught.value.detail == missing
