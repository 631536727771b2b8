"""Playbooks by hash, compiled once: a version never changes, so a cached plan stays valid."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping

from ..errors import NotFound
from ..playbook.grammar import EXECUTABLE
from ..playbook.plan import Plan
from ..ports import Catalog, CatalogEntry
from ..tools.plans import is_slow_to_compile, load_plan
from .shared_lookups import SharedLookups

MAX_PLANS = 500


class Plans:
    def __init__(self, catalog: Catalog, pools: Mapping[str, str] | None = None) -> None:
        """`pools`: tool kind -> pool, for the kinds that do not run on the shared pool."""
        self._catalog = catalog
        self._pools = dict(pools or {})
        self._known: OrderedDict[str, tuple[Plan, str]] = OrderedDict()
        self._entries = SharedLookups[tuple[str, int | None], CatalogEntry](lambda key: catalog.get(*key))

    async def entry(self, path: str | None, version: int | None, catalog_id: str | None = None) -> CatalogEntry:
        """Raises NotFound, also for what cannot be started."""
        if catalog_id is not None:
            entry = await self._catalog.by_id(int(catalog_id))
        else:
            entry = await self._entries.get((path or "", version))
        if entry.kind not in EXECUTABLE:
            raise NotFound(f"{entry.path} is of kind {entry.kind}, not a playbook")
        return entry

    async def plan(self, hash: str) -> Plan:
        return (await self._load(hash))[0]

    async def text(self, hash: str) -> str:
        return (await self._load(hash))[1]

    async def _load(self, hash: str) -> tuple[Plan, str]:
        known = self._known.get(hash)
        if known is None:
            text = await self._catalog.text(hash)
            plan = await asyncio.to_thread(load_plan, text) if is_slow_to_compile(text) else load_plan(text)
            known = self._known[hash] = (plan.with_pools(self._pools), text)
            if len(self._known) > MAX_PLANS:
                self._known.popitem(last=False)
        return known
