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
        ttl: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
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
        value = await self._value(name)
        self._cached[name] = (value, now + self._ttl)
        return value

    async def _value(self, name: str) -> str:
        try:
            # the default, but not of every emulator
            body = {"SecretId": self._ids[name], "VersionStage": "AWSCURRENT"}
            answer = await self._api.json("secretsmanager", "secretsmanager.GetSecretValue", body)
        except AwsError as error:
            if error.code == MISSING:
                raise KeyError(name) from None
            raise
        return str(answer["SecretString"])
