"""Files of a store whose objects are small enough to be held in memory."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from ..ports import StoredObject
from .key import check_size


class WholeObjects(ABC):
    """Takes and gives files through `put` and `get`."""

    @abstractmethod
    async def put(self, key: str, data: bytes) -> StoredObject: ...

    @abstractmethod
    async def get(self, key: str) -> bytes: ...

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        check_size(file, size)
        return await self.put(key, os.pread(file, size, 0))

    async def get_file(self, key: str, file: int) -> int:
        return os.pwrite(file, await self.get(key), 0)
