"""The host's ports in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Invocation:
    function: str
    payload: dict[str, Any]
    delay: float


class MemoryInvoker:
    """Keeps the invocations in `invocations`, in order."""

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None:
        self.invocations.append(Invocation(function, payload or {}, delay))

    async def close(self) -> None:
        return None


class MemorySecretStore:
    def __init__(self, secrets: dict[str, str]) -> None:
        self._secrets = secrets

    async def read(self, name: str) -> str:
        return self._secrets[name]


class MemoryHost:
    """`left` seconds remain; it changes only when it is set."""

    def __init__(self, left: float = 60.0) -> None:
        self.left = left

    def remaining(self) -> float:
        return self.left
