"""The catalog in memory."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import NotFound
from ..ports import Catalog
from ..tools.plans import load_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCatalogEntry:
    catalog_id: int
    path: str
    version: int
    hash: str
    content: str


class MemoryCatalog(Catalog):
    """`entries`: every version, in the order in which they were registered."""

    def __init__(self) -> None:
        self.entries: list[MemoryCatalogEntry] = []

    def register(self, content: str, *, path: str | None = None, version: int | None = None) -> MemoryCatalogEntry:
        """Add a playbook under its own path and as its next version, unless others are named. Raises
        InvalidPlaybook."""
        plan = load_plan(content)
        path = plan.path if path is None else path
        known = [entry.version for entry in self.entries if entry.path == path]
        entry = MemoryCatalogEntry(
            catalog_id=len(self.entries) + 1,
            path=path,
            version=max(known, default=0) + 1 if version is None else version,
            hash=plan.hash,
            content=content,
        )
        self.entries.append(entry)
        return entry

    async def get(self, path: str, version: int | None = None) -> MemoryCatalogEntry:
        found = [entry for entry in self.entries if entry.path == path and version in (None, entry.version)]
        if not found:
            raise NotFound(f"the catalog has no {path if version is None else f'{path} version {version}'}")
        return max(found, key=lambda entry: entry.version)

    async def by_id(self, catalog_id: int) -> MemoryCatalogEntry:
        for entry in self.entries:
            if entry.catalog_id == catalog_id:
                return entry
        raise NotFound(f"the catalog has no entry {catalog_id}")

    async def text(self, hash: str) -> str:
        for entry in self.entries:
            if entry.hash == hash:
                return entry.content
        raise NotFound(f"the catalog has no playbook with the hash {hash}")
