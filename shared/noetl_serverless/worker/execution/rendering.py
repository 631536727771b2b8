"""Rendering with lazy results: a result that a template needs is fetched, and the template is rendered again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from ...playbook.views import Fetch, identity, meant_by
from ...results.accumulated import is_accumulated
from ...results.reader import Resolver
from ...tables.stream import MEDIA_TYPE
from ...tables.table import Table

T = TypeVar("T")

# above this many bytes of results, rendering may take long and is done in a thread
INLINE_BYTES = 1024 * 1024


class _NotLoaded(Exception):
    """Aborts a rendering; never leaves this module."""


class ReferenceLoader:
    """The results by reference of one command: each is fetched at most once, and only if a template needs it."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._loaded: dict[str, Any] = {}
        # whether what was loaded, or a task has returned, may have tables
        self.has_tables = False
        self._bytes = 0

    async def render(self, produce: Callable[[Fetch], T]) -> T:
        """The result of `produce(fetch)`, which must be pure. Errors of templates and of the resolver are passed on."""
        while True:
            missing: list[dict[str, Any]] = []

            def fetch(ref: dict[str, Any], missing: list[dict[str, Any]] = missing) -> Any:
                name = identity(ref)
                if name not in self._loaded:
                    missing.append(ref)
                    raise _NotLoaded
                return self._loaded[name]

            try:
                if self._bytes > INLINE_BYTES:
                    value = await asyncio.to_thread(produce, fetch)
                else:
                    value = produce(fetch)
            except Exception:
                if not missing:
                    raise
            else:
                if not missing:
                    return value
            for ref in missing:
                await self.load(ref)

    def expect_tables(self) -> None:
        self.has_tables = True

    async def load(self, ref: dict[str, Any]) -> Any:
        name = identity(ref)
        if name not in self._loaded:
            self._loaded[name] = value = await self._resolver.load(ref)
            meta = ref.get("meta", {})
            if meta.get("content_type") == MEDIA_TYPE or (is_accumulated(ref) and isinstance(value, Table)):
                # its rows are made as they are read
                self.has_tables = True
            else:
                self._bytes += int(meta.get("bytes", 0))
        return self._loaded[name]

    async def load_items(self, ref: dict[str, Any], start: int, end: int) -> list[Any]:
        """The items of a list from `start` to `end`."""
        if is_accumulated(ref):
            return await self._resolver.load_items(ref, start, end)
        return list(meant_by(ref, await self.load(ref))[start:end])

    def forget(self, ref: dict[str, Any]) -> None:
        """Give back what is not read any more."""
        value = self._loaded.pop(identity(ref), None)
        if value is not None and not isinstance(value, Table):
            self._bytes -= int(ref.get("meta", {}).get("bytes", 0))
