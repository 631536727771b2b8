"""The ports: what the services ask of the world. Each has an in-memory twin that passes the same contract tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .protocol import CommandKey


@dataclass(frozen=True, slots=True)
class Pointer:
    """One notification taken from the bus; `ack` it once the command is claimed or known to be gone."""

    key: CommandKey
    token: Any


class Notifier(Protocol):
    """Hints that a command waits. Losing one costs latency, never a step."""

    async def publish(self, pool: str, commands: Sequence[CommandKey]) -> None: ...

    async def pull(self, pool: str, limit: int, wait: float) -> list[Pointer]:
        """Up to `limit` pointers; returns at once if there are any, else after at most `wait` seconds."""
        ...

    async def ack(self, pointers: Sequence[Pointer]) -> None: ...

    async def close(self) -> None: ...


class KeyValue(Protocol):
    """Small values with a time to live: sessions."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes) -> None: ...

    async def delete(self, key: str) -> None: ...


class Invoker(Protocol):
    """Starts another function, now or after a delay, without waiting for its end. A hint, like a notification."""

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None: ...


class SecretStore(Protocol):
    async def read(self, name: str) -> str:
        """The secret's value; KeyError if there is none of that name."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the result store put something."""

    store: str
    key: str
    bytes: int
    sha256: str


class ResultStore(Protocol):
    """Bytes by key, immutable once written."""

    async def put(self, key: str, data: bytes) -> Stored: ...

    async def get(self, key: str) -> bytes:
        """KeyError if it is not there."""
        ...

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """A part of it, as far as there is one; KeyError if it is not there."""
        ...

    async def delete(self, key: str) -> None: ...

    def list(self, prefix: str) -> AsyncIterator[str]: ...


class Host(Protocol):
    """What a function asks of where it runs."""

    def remaining(self) -> float:
        """Seconds this invocation may still run."""
        ...
