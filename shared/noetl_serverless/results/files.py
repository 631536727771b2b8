"""Files of results on their way: in shared memory where there is room, else on disk."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from ..tables.mapped import MappedFile
from .disk import copy
from .reference import ResultRef
from .shared_memory import NotShared, SharedMemory

# between two looks at what has expired
LEAST_PAUSE_SECONDS: Final = 1.0


class ResultFiles:
    """`scratch`: a folder on disk; `shared`: None where nothing is shared; `producer`: the worker."""

    def __init__(self, scratch: Path, shared: SharedMemory | None = None, producer: str = "") -> None:
        self._scratch = scratch
        self.shared = shared
        self._producer = producer
        self._eviction: asyncio.TimerHandle | None = None

    def open(self, size: int) -> int:
        """The descriptor of an empty file without a name, for about so many bytes. Raises OSError."""
        file = None if self.shared is None else self.shared.open(size)
        return self.open_on_disk() if file is None else file

    def extend(self, descriptor: int, size: int) -> bool:
        """See `tables.sealed.NewFiles`: what has no more room in memory goes on on disk."""
        if self.shared is None or self.shared.extend(descriptor, size):
            return False
        on_disk = self.open_on_disk()
        try:
            copy(descriptor, on_disk, os.fstat(descriptor).st_size)
            os.lseek(on_disk, os.lseek(descriptor, 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(on_disk, descriptor, inheritable=False)
        finally:
            os.close(on_disk)
        return True

    def open_on_disk(self) -> int:
        """Raises OSError."""
        try:
            return os.open(self._scratch, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except (AttributeError, OSError):
            # macOS, and file systems that have no files without names
            with tempfile.TemporaryFile(dir=self._scratch) as file:
                return os.dup(file.fileno())

    def share(self, file: MappedFile, reference: ResultRef) -> dict[str, Any] | None:
        """The hint by which the reference's content is found in shared memory, if it is there."""
        if self.shared is None:
            return None
        meta = reference.meta
        hint = self.shared.admit(
            file,
            meta.sha256,
            rows=meta.row_count or 0,
            schema_digest=meta.schema_digest or "",
            media_type=meta.content_type,
            producer=self._producer,
        )
        self._evict_later()
        return hint

    async def shared_file(self, hint: dict[str, Any] | None, reference: ResultRef) -> MappedFile:
        """Raises NotShared."""
        if self.shared is None:
            raise NotShared("off")
        meta = reference.meta
        if self.shared.is_elsewhere(hint):
            return await asyncio.to_thread(self.shared.read, hint, meta.sha256, meta.bytes)
        return self.shared.read(hint, meta.sha256, meta.bytes)

    def _evict_later(self, after: float | None = None) -> None:
        """So that a worker without work gives the memory back."""
        if self.shared is not None and self._eviction is None:
            seconds = self.shared.lease_seconds if after is None else after
            self._eviction = asyncio.get_running_loop().call_later(max(seconds, LEAST_PAUSE_SECONDS), self._evict)

    def _evict(self) -> None:
        self._eviction = None
        if self.shared is not None and (after := self.shared.evict_expired()) is not None:
            self._evict_later(after)
