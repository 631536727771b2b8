"""What the tasks of a step collect of their results, by name: small values whole, others in parts that are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...playbook.plan import Accumulate
from ...playbook.views import AccumulatedView, Fetch, Reader
from ...tables.table import Table
from .accumulate import add, part_of
from .domain import size_of
from .job import Job

if TYPE_CHECKING:
    from .collected import Collected

# of what one command stores of what is accumulated: they are in one event
REPORTED_PARTS: Final = 64


class Accumulation:
    """Of one run through the tasks. `values`: what is kept whole; `parts`: the others, none unless `in_parts`."""

    def __init__(self, job: Job, *, in_parts: bool) -> None:
        self._job = job
        self._in_parts = in_parts
        self.values: dict[str, Any] = {}
        # bytes of JSON
        self._sizes: dict[str, int] = {}
        self.parts: dict[str, Collected] = {}

    async def add(self, how: Accumulate, data: Any) -> None:
        """One result. Raises InvalidRequest for one that cannot be added, and TooLarge beyond max_items."""
        part = part_of(how, data)
        if how.name in self.parts:
            self._job.lazy.forget(self.parts[how.name].manifest(self._job))
            if how.strategy != "replace":
                await self.parts[how.name].add(how, part, self._job)
                return
            del self.parts[how.name]
        if isinstance(part, Table) and how.strategy == "concat":
            if self._in_parts:
                await self._store_in_parts(how)
                await self.parts[how.name].add(how, part, self._job)
                return
            part = list(part)
        add(self.values, how, part)
        await self._bound(how, part)

    def joins_tables(self, how: Accumulate | None) -> bool:
        """Whether a table is to be added to tables, so that few rows are better one than a list."""
        part = self.parts.get(how.name) if how is not None and how.strategy == "concat" else None
        return part is not None and part.may_end_with_table

    async def _bound(self, how: Accumulate, part: Any) -> None:
        """From a certain size on, what is collected is stored in parts."""
        if how.strategy == "replace" or not self._in_parts:
            # until it is added to
            self._sizes.pop(how.name, None)
            return
        from .collected import PART_BYTES

        known = self._sizes.get(how.name)
        size = size_of(self.values[how.name]) if known is None else known + size_of(part)
        self._sizes[how.name] = size
        if size >= PART_BYTES:
            await self._store_in_parts(how)

    async def _store_in_parts(self, how: Accumulate) -> None:
        from .collected import Collected

        self.parts[how.name] = await Collected.of(how, self.values.get(how.name, []), self._job)
        self.values.pop(how.name, None)
        self._sizes.pop(how.name, None)

    # -- reading

    def __bool__(self) -> bool:
        return bool(self.values or self.parts)

    def views(self, fetch: Fetch) -> dict[str, Any]:
        """As templates see it."""
        if not self.parts:
            return self.values
        reader = Reader(fetch)
        parts = {name: AccumulatedView(name, it.manifest(self._job), reader) for name, it in self.parts.items()}
        return {**self.values, **parts}

    # -- reporting

    @property
    def must_be_reported(self) -> bool:
        """Whether as many parts were stored as one report may name."""
        return self._job.loop is None and sum(len(it.unnamed) for it in self.parts.values()) >= REPORTED_PARTS

    def reported(self) -> list[dict[str, Any]]:
        """The references that are to be reported now."""
        return [ref for it in self.parts.values() for ref in it.reported()]

    # -- suspending

    async def state(self) -> Any:
        if not self.parts:
            return self.values
        for part in self.parts.values():
            await part.store_table(self._job)
        # in another form, which a worker of the previous release refuses to go on with
        return [self.values, {name: it.state() for name, it in self.parts.items()}]

    def restore(self, state: Any) -> None:
        values, parts = state if isinstance(state, list) else (state, {})
        if parts:
            from .collected import Collected

            self.parts = {name: Collected.restored(name, it) for name, it in parts.items()}
        # lists of its own: beside an orchestrator in one process, what is resumed is part of the execution's state
        self.values = {name: list(value) if isinstance(value, list) else value for name, value in values.items()}
