"""A cloud's secret store, as its deployment fills it."""

from __future__ import annotations

from typing import Protocol


class Vault(Protocol):
    """`id` is the store's own name of a secret."""

    async def read(self, id: str) -> str | None:
        """None if it has no value yet."""
        ...

    async def replace(self, id: str, value: str, previous: str | None) -> bool:
        """False if another process has just replaced `previous`, which is None if there was no value."""
        ...
