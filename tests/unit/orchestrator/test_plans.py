"""Playbooks that a process has at hand."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.errors import NotFound
from noetl_serverless.orchestrator import plans
from noetl_serverless.orchestrator.plans import Plans

from .conftest import Catalog


class Counting(Catalog):
    """Notes which texts are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    async def text(self, hash: str) -> str:
        self.fetched.append(hash)
        return await super().text(hash)


def filled(count: int) -> Counting:
    catalog = Counting()
    for number in range(count):
        catalog.add(f"t/{number}", f"- {{step: s{number}, tool: {{kind: noop}}}}\n")
    return catalog


async def test_a_playbook_is_read_once() -> None:
    catalog = filled(1)
    entry = catalog.found["t/0"]
    known = Plans(catalog)
    plan = await known.plan(entry.hash)
    assert (plan.entry, plan.hash) == ("s0", entry.hash)
    assert await known.plan(entry.hash) is plan
    assert await known.text(entry.hash) == entry.content
    assert catalog.fetched == [entry.hash]


async def test_so_many_are_kept_and_the_first_goes(monkeypatch: Any) -> None:
    monkeypatch.setattr(plans, "MAX_PLANS", 2)
    catalog = filled(3)
    known = Plans(catalog)
    hashes = [entry.hash for entry in catalog.found.values()]
    for hash in (*hashes[:2], *hashes[:2], hashes[2], hashes[1], hashes[0]):
        await known.plan(hash)
    assert catalog.fetched == [*hashes, hashes[0]]


async def test_an_entry_is_found_by_its_path_and_version_or_by_its_number() -> None:
    catalog = filled(2)
    known = Plans(catalog)
    assert await known.entry("t/1", None) is catalog.found["t/1"]
    assert await known.entry("t/1", 1) is catalog.found["t/1"]
    assert await known.entry(None, None, "1") is catalog.found["t/0"]
    for path, version in (("t/1", 2), ("t/9", None), (None, None)):
        with pytest.raises(NotFound):
            await known.entry(path, version)


async def test_a_step_goes_to_the_pool_of_its_kind() -> None:
    catalog = filled(1)
    hash = catalog.found["t/0"].hash
    assert (await Plans(catalog).plan(hash)).pool("s0") == "shared"
    assert (await Plans(catalog, {"noop": "gpu"}).plan(hash)).pool("s0") == "gpu"
