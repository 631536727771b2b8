"""What a task has accumulated and is too large to be kept whole: it is stored in parts as it comes.

Adding a page costs what the page has: it is written once, alone or together with others, and a suspended pipeline
keeps only the parts' references, a bounded number of them, and the few items that are not worth an object yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from ...engine import events as e
from ...engine.digest import MODULUS, items_digest
from ...errors import InvalidRequest
from ...playbook.plan import Accumulate
from ...playbook.views import ACCUMULATED
from ...results.accumulated import MERGE
from ...results.joined import joined
from ...results.offload import Output
from ...tables.sealed import IN_MEMORY
from ...tables.stream import MEDIA_TYPE
from ...tables.table import Table
from ...tables.value import described
from ...uri import ResultUri
from .accumulate import check_items
from .domain import size_of
from .job import Job
from .output import output_of
from .store_result import store_part

# so many bytes of JSON become an object
PART_BYTES: Final = 64 * 1024
# so many parts of one level become one of the next
FANOUT: Final = 32
LABEL: Final = "a part of what was accumulated"
# what a reader of a part needs
_META: Final = ("content_type", "bytes", "sha256", "created_at", "row_count", "schema_digest", "compression")
_OF_REF: Final = ("ref", "store", "key", "scope")


@dataclass(slots=True)
class Collected:
    """`levels`: the parts that no part of a higher level has, by level. `count`: items; of objects, at least as many
    as there are keys. `digest`: of the items, however they are divided into parts."""

    name: str
    strategy: str
    merge_path: str | None
    levels: list[list[dict[str, Any]]] = field(default_factory=list)
    rest: Any = None
    rest_bytes: int = 0
    count: int = 0
    added: int = 0
    digest: int = 0
    total_parts: int = 0
    total_bytes: int = 0
    # the references to what has been stored and was not reported yet
    unnamed: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    async def of(cls, how: Accumulate, value: Any, job: Job) -> Collected:
        """What was collected until now, as one part."""
        new = cls(how.name, MERGE if isinstance(value, Mapping) else how.strategy, how.path)
        if value:
            await new._take(value, size_of(value), job)
        return new

    @classmethod
    def restored(cls, name: str, state: Mapping[str, Any]) -> Collected:
        return cls(
            name,
            **{
                **state,
                "digest": int(state["digest"], 16),
                "levels": [list(level) for level in state["levels"]],
                # its own: beside an orchestrator in one process, what is resumed is part of the execution's state
                "rest": state["rest"].copy() if state["rest"] else None,
            },
        )

    def state(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "merge_path": self.merge_path,
            "levels": self.levels,
            "rest": self.rest,
            "rest_bytes": self.rest_bytes,
            "count": self.count,
            "added": self.added,
            "digest": f"{self.digest:064x}",
            "total_parts": self.total_parts,
            "total_bytes": self.total_bytes,
        }

    async def add(self, how: Accumulate, part: Any, job: Job) -> None:
        """Raises InvalidRequest for a part of another kind, and TooLarge beyond max_items."""
        if (how.strategy == MERGE) != (self.strategy == MERGE):
            kinds = ("a list", "objects") if how.strategy == MERGE else ("an object", "a list")
            raise InvalidRequest(f"'{self.name}' is {kinds[0]}, to which '{how.strategy}' cannot add {kinds[1]}")
        value: Any = [part] if how.strategy == "append" else part
        if self.strategy == MERGE:
            await self._check_keys(how, value, job)
        else:
            check_items(how, self.count + len(value))
        if len(value):
            await self._take(value, size_of(value), job)

    async def _check_keys(self, how: Accumulate, part: Mapping[str, Any], job: Job) -> None:
        if how.max_items is None or self.count + len(part) <= how.max_items:
            return
        # some keys may be in several parts
        keys = len({**await self.load(job), **part})
        check_items(how, keys)
        self.count = keys - len(part)

    async def _take(self, value: Any, size: int, job: Job) -> None:
        self.digest = (self.digest + await asyncio.to_thread(self._digest_of, value)) % MODULUS
        self.added += 1
        self.total_bytes += size
        self.count += len(value)
        if isinstance(value, Table):
            await self._take_table(value, size, job)
            return
        if isinstance(self.rest, Table):
            await self._store_rest(job)
        self.rest_bytes += size
        if self.rest is None:
            self.rest = {} if self.strategy == MERGE else []
        if self.strategy == MERGE:
            self.rest.update(value)
        else:
            self.rest.extend(value)
        if self.rest_bytes >= PART_BYTES:
            await self._store_rest(job)

    async def _take_table(self, table: Table, size: int, job: Job) -> None:
        """It stays one, together with short ones that came before it, and what came before these comes before them."""
        short = self.rest if isinstance(self.rest, Table) and self.rest.schema_digest == table.schema_digest else None
        if short is None or size >= PART_BYTES:
            await self._store_rest(job)
            self.rest, self.rest_bytes = table, size
        else:
            files = IN_MEMORY if job.toolbox.files is None else job.toolbox.files
            self.rest = await joined(_each(short, table), files)
            # of many short ones most is what each has beside its rows
            self.rest_bytes = self.rest.file.size
        if self.rest_bytes >= PART_BYTES:
            await self._store_rest(job)

    async def store_table(self, job: Job) -> None:
        """So that `state` is JSON."""
        if isinstance(self.rest, Table):
            await self._store_rest(job)

    def _digest_of(self, value: Any) -> int:
        if isinstance(value, Table):
            text = f"{self.count}:{value.schema_digest}:{value.sha256}"
            return int.from_bytes(sha256(text.encode()).digest(), "big")
        if self.strategy == MERGE:
            return items_digest(self.added, [described(value)])
        return items_digest(self.count, described(value))

    async def _store_rest(self, job: Job) -> None:
        if self.rest:
            await self._append_part(self.rest, len(self.rest), self.rest_bytes, job)
        self.rest, self.rest_bytes = None, 0

    async def _append_part(self, value: Any, count: int, size: int, job: Job) -> None:
        ref = await self._stored(value, job)
        index = sum(part["count"] for level in self.levels for part in level)
        self.total_parts += 1
        # of objects, the parts themselves are counted
        length = 1 if self.strategy == MERGE else count
        part = {"ref": ref, "index": index, "count": length, "bytes": size, "level": 0}
        for level in range(len(self.levels) + 1):
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(part)
            if len(self.levels[level]) < FANOUT:
                return
            part = await self._list_of(self.levels[level], level + 1, job)
            self.levels[level] = []

    async def _list_of(self, parts: list[dict[str, Any]], level: int, job: Job) -> dict[str, Any]:
        return {
            "ref": await self._stored(parts, job),
            "index": parts[0]["index"],
            "count": sum(part["count"] for part in parts),
            "bytes": sum(part["bytes"] for part in parts),
            "level": level,
        }

    async def _stored(self, value: Any, job: Job) -> dict[str, Any]:
        said = output_of(job.step)
        # a time of its own would begin before that of the whole
        output = Output(
            inline_bytes=-1, kind=said.kind, scope=said.scope, compression=said.compression, preview_bytes=0
        )
        # what other items of a frame store differs by their place
        item = "" if job.iter is None else f"/{job.iter['_index']}"
        suffix = f"{item}/accumulated/{self.name}/{self.added}"
        full = await store_part(value, job.command, job.toolbox, part=suffix, output=output, label=LABEL)
        meta = {name: full["meta"][name] for name in (*_META, "stored_bytes") if name in full["meta"]}
        ref = {**{name: full[name] for name in _OF_REF}, e.PART_OF: self.name, "meta": meta}
        self.unnamed.append(ref)
        return ref

    # -- reading

    @property
    def parts(self) -> list[dict[str, Any]]:
        """In order."""
        return [part for level in reversed(self.levels) for part in level]

    @property
    def may_end_with_table(self) -> bool:
        """What was added last is waiting, or in a part; of a list of parts it is not known whether these are tables."""
        last = next((level[-1] for level in self.levels if level), None)
        if isinstance(self.rest, Table):
            return True
        if last is None or self.rest:
            return False
        return bool(last["level"] or last["ref"]["meta"].get("content_type") == MEDIA_TYPE)

    def manifest(self, job: Job) -> dict[str, Any]:
        """As it is now; another one once something was added."""
        execution_id, step = job.command.execution_id, job.command.step
        item = "" if job.iter is None else job.iter["_index"]
        state = f"{job.command.command_id}/{item}/{self.name}/{self.added}/{self.rest is None}/{self.digest}"
        number = int(sha256(state.encode()).hexdigest()[:8], 16)
        found = {
            "kind": ACCUMULATED,
            "ref": str(ResultUri(execution_id, "manifest", step, str(number))),
            "store": "manifest",
            "strategy": self.strategy,
            "merge_path": self.merge_path,
            "parts": self.parts,
            "total_parts": self.total_parts,
            "total_bytes": self.total_bytes,
            "meta": {"content_type": "application/json", "bytes": self.total_bytes, "digest": f"{self.digest:064x}"},
        }
        if self.strategy != MERGE:
            found["count"] = self.count
        if self.rest:
            found["rest"] = self.rest
        return found

    async def load(self, job: Job) -> Any:
        return await job.toolbox.resolver.load(self.manifest(job))

    async def finish(self, job: Job) -> dict[str, Any]:
        """The manifest, of a few hundred bytes, once all that was collected is stored."""
        await self._store_rest(job)
        parts = self.parts
        if len(parts) > 1:
            root = await self._list_of(parts, 1 + max(part["level"] for part in parts), job)
            self.levels = [[root]]
        return self.manifest(job)

    def reported(self) -> list[dict[str, Any]]:
        """The references that are to be reported now."""
        refs, self.unnamed = self.unnamed, []
        return refs


async def _each(*tables: Table) -> AsyncIterator[Table]:
    for table in tables:
        yield table
