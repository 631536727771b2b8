"""Secrets Manager's rotation, in its four steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ...store.connection import connect
from ...store.worker_role import create_worker_role
from ..cloud.configuration import database_url
from ..cloud.provision import ends_soon, password_of, role_secret, service_token
from .api import Api, AwsError

_PENDING, _CURRENT = "AWSPENDING", "AWSCURRENT"
_TAKEN = "ResourceExistsException"


class Rotated(Protocol):
    """What is secret. `use` may be called again with the same value; `check` raises if it is no good."""

    async def new_value(self) -> str: ...

    async def use(self, value: str) -> None: ...

    async def check(self, value: str) -> None: ...


class Token:
    """A service token: the old one stays valid until it expires, so nothing else has to be changed."""

    def __init__(self, role: str, api: Api, key_id: str, days: float) -> None:
        """`days`: for how long it is valid, which is longer than the time between two rotations."""
        self._role = role
        self._api = api
        self._key_id = key_id
        self._days = days

    async def new_value(self) -> str:
        return service_token(await _value(self._api, self._key_id), self._role, self._days, "aws")

    async def use(self, value: str) -> None:
        """The control plane verifies a token by its signature."""

    async def check(self, value: str) -> None:
        if ends_soon(value, await _value(self._api, self._key_id)):
            raise ValueError("the new token was not issued by this deployment")


class RolePassword:
    """The password of the database role of direct workers. A worker that connects between `use` and the last step tries
    again; connections that exist stay."""

    def __init__(self, role: str, owner_url: str | Callable[[], str]) -> None:
        """`owner_url`: the database, as a user who may change the role; if a function, it is called in a thread."""
        self._role = role
        self._owner_url = owner_url

    async def new_value(self) -> str:
        return role_secret(self._role)

    async def use(self, value: str) -> None:
        await asyncio.to_thread(lambda: create_worker_role(self._url(), self._role, password_of(value)))

    async def check(self, value: str) -> None:
        await asyncio.to_thread(lambda: connect(database_url(self._url(), value)).quit())

    def _url(self) -> str:
        return self._owner_url if isinstance(self._owner_url, str) else self._owner_url()


def is_rotation(event: Any) -> bool:
    return isinstance(event, dict) and {"Step", "SecretId", "ClientRequestToken"} <= event.keys()


async def rotate(event: Mapping[str, str], api: Api, secret: Rotated) -> None:
    """One of the steps. ValueError if it is none, or the new value is no good."""
    id, version = event["SecretId"], event["ClientRequestToken"]
    match event["Step"]:
        case "createSecret":
            await _create(api, id, version, await secret.new_value())
        case "setSecret":
            await secret.use(await _value(api, id, VersionId=version, VersionStage=_PENDING))
        case "testSecret":
            await secret.check(await _value(api, id, VersionId=version, VersionStage=_PENDING))
        case "finishSecret":
            await _finish(api, id, version)
        case step:
            raise ValueError(f"rotation has no step {step!r}")


async def _value(api: Api, id: str, **selector: str) -> str:
    answer = await api.json("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": id, **selector})
    return str(answer["SecretString"])


async def _create(api: Api, id: str, version: str, value: str) -> None:
    body = {"SecretId": id, "ClientRequestToken": version, "SecretString": value, "VersionStages": [_PENDING]}
    try:
        await api.json("secretsmanager", "secretsmanager.PutSecretValue", body)
    except AwsError as error:
        # the step is repeated if its answer was lost
        if error.code != _TAKEN:
            raise


async def _finish(api: Api, id: str, version: str) -> None:
    description = await api.json("secretsmanager", "secretsmanager.DescribeSecret", {"SecretId": id})
    stages: dict[str, list[str]] = description["VersionIdsToStages"]
    current = next((version for version, names in stages.items() if _CURRENT in names), "")
    if current == version:
        return
    body = {"SecretId": id, "VersionStage": _CURRENT, "MoveToVersionId": version, "RemoveFromVersionId": current}
    await api.json("secretsmanager", "secretsmanager.UpdateSecretVersionStage", body)
