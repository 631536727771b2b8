"""What the catalog in PostgreSQL and the one in memory both do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.errors import Conflict, NotFound
from noetl_serverless.ports import Catalog, CatalogEntry
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.testing.catalog import MemoryCatalog

HEAD = "apiVersion: noetl.io/v2\nkind: {kind}\nmetadata: {{name: x, path: t/x}}\n"
PLAYBOOK = HEAD.format(kind="Playbook") + "workflow: [{step: one, tool: {kind: noop, result: %d}}]\n"
TOOL = HEAD.format(kind="Tool") + "tool: {kind: noop}\n"


@dataclass
class Subject:
    catalog: Catalog
    register: Callable[[str], Awaitable[CatalogEntry]]
    delete: Callable[..., Awaitable[list[int]]]
    restore: Callable[..., Awaitable[list[int]]]

    async def version(self) -> int:
        return (await self.catalog.get("t/x")).version


@pytest.fixture(params=["postgres", "memory"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "memory":
        memory = MemoryCatalog()

        async def keep(text: str) -> CatalogEntry:
            return memory.register(text)

        return Subject(memory, keep, memory.delete, memory.restore)
    database: Database = request.getfixturevalue("database")
    catalog = PostgresCatalog(database)

    async def register(text: str) -> CatalogEntry:
        return (await catalog.register(document_of(text)))[0]

    return Subject(catalog, register, catalog.delete, catalog.restore)


async def test_a_deleted_version_is_found_by_its_hash_alone(subject: Subject) -> None:
    first = await subject.register(PLAYBOOK % 1)
    second = await subject.register(PLAYBOOK % 2)
    assert await subject.delete("t/x", 2) == [2]
    assert await subject.version() == 1
    for looking in (subject.catalog.get("t/x", 2), subject.catalog.by_id(second.catalog_id)):
        with pytest.raises(NotFound):
            await looking
    assert await subject.catalog.text(second.hash) == PLAYBOOK % 2
    assert (await subject.catalog.by_id(first.catalog_id)).version == 1


async def test_all_versions_are_deleted_and_restored_together(subject: Subject) -> None:
    for n in (1, 2, 3):
        await subject.register(PLAYBOOK % n)
    await subject.delete("t/x", 1)
    assert await subject.delete("t/x") == [2, 3]
    assert await subject.delete("t/x") == []
    with pytest.raises(NotFound):
        await subject.catalog.get("t/x")
    assert await subject.restore("t/x", 3) == [3]
    assert await subject.restore("t/x") == [1, 2]
    assert await subject.version() == 3


async def test_the_number_of_a_deleted_version_is_not_used_again(subject: Subject) -> None:
    await subject.register(PLAYBOOK % 1)
    await subject.delete("t/x")
    assert (await subject.register(PLAYBOOK % 1)).version == 2, "the text of a deleted version is a new version"
    await subject.restore("t/x")
    assert await subject.version() == 2


async def test_the_newest_version_may_be_deleted_alone(subject: Subject) -> None:
    for n in (1, 2):
        await subject.register(PLAYBOOK % n)
    await subject.delete("t/x", 2)
    assert (await subject.register(PLAYBOOK % 2)).version == 3
    assert await subject.delete("t/x") == [1, 3]
    assert await subject.restore("t/x", 2) == [2]
    assert await subject.version() == 2


async def test_what_was_never_there_cannot_be_deleted(subject: Subject) -> None:
    await subject.register(PLAYBOOK % 1)
    for change in (subject.delete, subject.restore):
        with pytest.raises(NotFound, match="the catalog has no t/x version 7"):
            await change("t/x", 7)
        with pytest.raises(NotFound, match="the catalog has no t/y"):
            await change("t/y")


async def test_a_path_keeps_its_kind_until_it_is_deleted(subject: Subject) -> None:
    await subject.register(PLAYBOOK % 1)
    agent = await subject.register((PLAYBOOK % 1).replace("kind: Playbook", "kind: Agent"))
    assert (agent.kind, agent.version) == ("Agent", 2), "an agent is a playbook, too"
    with pytest.raises(Conflict, match="t/x is of kind Agent"):
        await subject.register(TOOL)
    await subject.delete("t/x")
    tool = await subject.register(TOOL)
    assert (tool.kind, tool.version) == ("Tool", 3)
