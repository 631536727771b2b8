"""Rendering with lazy results: a result that a template needs is fetched, and the template is rendered again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ...playbook.views import Fetch, identity, meant_by
from ...results.accumulated import is_accumulated
from ...results.reader import Resolver
from ...tables.json_text import JsonText, texts_in
from ...tables.mapped import MappedFile
from ...tables.media_types import has_tables
from ...tables.table import Table

T = TypeVar("T")

# above this many bytes of results, rendering may take long and is done in a thread
INLINE_BYTES = 1024 * 1024


class _NotLoaded(Exception):
    """Aborts a rendering; never leaves this module."""


def _forget_frames(error: BaseException | None) -> None:
    """A frame that the error came through may refer to it in turn, and to all that was loaded: that would stay until
    the garbage collector looks for such cycles."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


class ReferenceLoader:
    """The results by reference of one command: each is fetched at most once, and only if a template needs it."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._loaded: dict[str, Any] = {}
        # of large results, and of what was last returned by a task: their parts of which the JSON is in a file
        self._texts: dict[str, list[tuple[Any, JsonText]]] = {}
        self._written: tuple[Any, MappedFile] | None = None
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
            except Exception as error:
                if not missing:
                    raise
                _forget_frames(error)
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
            file = self._resolver.file_of(ref)
            self._loaded[name] = value = await self._resolver.load(ref)
            if file is not None:
                self._texts[name] = list(texts_in(value, file))
            meta = ref.get("meta", {})
            if has_tables(meta.get("content_type", "")) or (is_accumulated(ref) and isinstance(value, Table)):
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
        self._texts.pop(identity(ref), None)
        if value is not None and not isinstance(value, Table):
            self._bytes -= int(ref.get("meta", {}).get("bytes", 0))

    # -- JSON that is in files

    def keep_written(self, value: Any, file: MappedFile) -> None:
        """The file that has a task's result as JSON, for as long as it is the last one."""
        self._written = (value, file)

    def written(self, value: Any) -> MappedFile | None:
        """The file that has the value as JSON, if there is one: nothing may have changed in it."""
        return self._written[1] if self._written is not None and self._written[0] is value else None

    def texts_of(self, input: Mapping[str, Any]) -> dict[str, JsonText] | None:
        """The JSON of what is given by these names, as far as it is in files."""
        if not self._texts:
            return None
        known = {id(part): text for parts in self._texts.values() for part, text in parts}
        return {name: known[id(value)] for name, value in input.items() if id(value) in known} or None
