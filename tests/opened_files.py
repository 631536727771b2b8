"""Files of tables that a test opens in its own way."""

from __future__ import annotations

from collections.abc import Callable

from noetl_serverless.tables.sealed import FilesInMemory


class OpenedBy(FilesInMemory):
    def __init__(self, open_file: Callable[[int], int]) -> None:
        self._open_file = open_file

    def open(self, size: int) -> int:
        return self._open_file(size)
