from __future__ import annotations


class MemoryVault:
    """`values`: what each secret holds, by id; those that may be filled are there, with None."""

    def __init__(self, values: dict[str, str | None]) -> None:
        self.values = values

    async def read(self, id: str) -> str | None:
        return self.values[id]

    async def replace(self, id: str, value: str, previous: str | None) -> bool:
        if self.values[id] != previous:
            return False
        self.values[id] = value
        return True
