"""The catalog in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import Conflict, NotFound
from ..playbook.grammar import EXECUTABLE
from ..playbook.load import read_playbook
from ..playbook.scripts import with_scripts
from ..playbook.tool_calls import calls_of, found, parts_of
from ..ports import Catalog
from ..tools.plans import known_kinds, load_plan
from ..tools.resources import kind_of, load_resource


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCatalogEntry:
    catalog_id: int
    path: str
    version: int
    hash: str
    content: str
    kind: str = "Playbook"
    deleted: bool = False


class MemoryCatalog(Catalog):
    """`entries`: every version, in the order in which they were registered."""

    def __init__(self) -> None:
        self.entries: list[MemoryCatalogEntry] = []

    def register(self, content: str, *, path: str | None = None, version: int | None = None) -> MemoryCatalogEntry:
        """Add a playbook, or another resource, under its own path and as its next version, unless others are named,
        with the tools of this catalog that it calls. Raises InvalidPlaybook, Conflict if the path is of another kind,
        and NotFound for a tool that is not here."""
        kind, own, hash, content = self._read(content)
        path = own if path is None else path
        newest = self._newest(path)
        if newest is not None and newest.kind != kind and not {newest.kind, kind} <= EXECUTABLE:
            raise Conflict(f"{path} is of kind {newest.kind}: register this under another path, or delete it")
        known = [entry.version for entry in self.entries if entry.path == path]
        entry = MemoryCatalogEntry(
            catalog_id=len(self.entries) + 1,
            path=path,
            version=max(known, default=0) + 1 if version is None else version,
            hash=hash,
            content=content,
            kind=kind,
        )
        self.entries.append(entry)
        return entry

    async def get(self, path: str, version: int | None = None) -> MemoryCatalogEntry:
        return self._find(path, version)

    async def by_id(self, catalog_id: int) -> MemoryCatalogEntry:
        for entry in self.entries:
            if entry.catalog_id == catalog_id and not entry.deleted:
                return entry
        raise NotFound(f"the catalog has no entry {catalog_id}")

    async def text(self, hash: str) -> str:
        for entry in self.entries:
            if entry.hash == hash:
                return entry.content
        raise NotFound(f"the catalog has no playbook with the hash {hash}")

    async def delete(self, path: str, version: int | None = None) -> list[int]:
        """The versions that were not deleted before; raises NotFound."""
        return self._mark(path, version, deleted=True)

    async def restore(self, path: str, version: int | None = None) -> list[int]:
        """The versions that were deleted; raises NotFound."""
        return self._mark(path, version, deleted=False)

    def _read(self, content: str) -> tuple[str, str, str, str]:
        """Its kind, path and hash, and the whole text."""
        if kind_of(content) is not None:
            resource = load_resource(read_playbook(content), kinds=known_kinds())
            return resource.kind, resource.path, resource.hash, content
        document = read_playbook(content)
        parts: dict[str, str] = {}
        for _, call in calls_of(document.root):
            if found(call, document.scripts) is not None:
                # registered elsewhere, or completed from files
                continue
            entry = self._find(call.path, call.version)
            parts |= parts_of(call, entry.version, entry.content)
        text = with_scripts(content, {**document.scripts, **parts}) if parts else content
        plan = load_plan(text)
        return str(document.value(("kind",))), plan.path, plan.hash, text

    def _newest(self, path: str, version: int | None = None) -> MemoryCatalogEntry | None:
        known = [
            entry
            for entry in self.entries
            if entry.path == path and version in (None, entry.version) and not entry.deleted
        ]
        return max(known, key=lambda entry: entry.version, default=None)

    def _find(self, path: str, version: int | None) -> MemoryCatalogEntry:
        entry = self._newest(path, version)
        if entry is None:
            raise NotFound(f"the catalog has no {_title(path, version)}")
        return entry

    def _mark(self, path: str, version: int | None, *, deleted: bool) -> list[int]:
        meant = [i for i, one in enumerate(self.entries) if one.path == path and version in (None, one.version)]
        if not meant:
            raise NotFound(f"the catalog has no {_title(path, version)}")
        changed = [index for index in meant if self.entries[index].deleted != deleted]
        for index in changed:
            self.entries[index] = replace(self.entries[index], deleted=deleted)
        return sorted(self.entries[index].version for index in changed)


def _title(path: str, version: int | None) -> str:
    return path if version is None else f"{path} version {version}"
