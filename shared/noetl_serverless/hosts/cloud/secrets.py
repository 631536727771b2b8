"""A function's secrets, kept for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from .vault import Vault

# how long a value is cached: a rotation is noticed within this time
CACHE_SECONDS = 300.0


class CachedSecrets:
    """A `ports.SecretStore`. `ids`: the engine's name of a secret -> its id in the vault."""

    def __init__(
        self,
        vault: Vault,
        ids: Mapping[str, str],
        *,
        ttl: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = vault
        self._ids = dict(ids)
        self._ttl = ttl
        self._clock = clock
        self._cached: dict[str, tuple[str, float]] = {}

    async def read(self, name: str) -> str:
        """KeyError if there is none of that name, or it has no value yet."""
        cached = self._cached.get(name)
        now = self._clock()
        if cached is not None and cached[1] > now:
            return cached[0]
        value = await self._vault.read(self._ids[name])
        if value is None:
            raise KeyError(name)
        self._cached[name] = (value, now + self._ttl)
        return value
