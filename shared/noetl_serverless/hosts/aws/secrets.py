"""Secrets from Secrets Manager, kept for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from .api import Api, AwsError

# how long a value is cached: a rotation is noticed within this time
CACHE_SECONDS = 300.0
MISSING = "ResourceNotFoundException"


class SecretsManager:
    """`ids`: the engine's name of a secret -> its ARN or its name in Secrets Manager."""

    def __init__(
        self,
        api: Api,
        ids: Mapping[str, str],
        *,
        keep: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._ids = dict(ids)
        self._keep = keep
        self._clock = clock
        self._known: dict[str, tuple[str, float]] = {}

    async def read(self, name: str) -> str:
        """KeyError if there is none of that name, or it has no value yet."""
        known = self._known.get(name)
        now = self._clock()
        if known is not None and known[1] > now:
            return known[0]
        value = await self._value(name)
        self._known[name] = (value, now + self._keep)
        return value

    async def _value(self, name: str) -> str:
        try:
            answer = await self._api.json(
                "secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": self._ids[name]}
            )
        except AwsError as error:
            if error.code == MISSING:
                raise KeyError(name) from None
            raise
        return str(answer["SecretString"])
