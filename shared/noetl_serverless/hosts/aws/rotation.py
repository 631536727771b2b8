"""Secrets Manager's rotation of service tokens: a new one beside the old, which stays valid until it expires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .api import Api, AwsError
from .provision import TOKEN_PREFIX, ends_soon, service_token

_PENDING, _CURRENT = "AWSPENDING", "AWSCURRENT"
_TAKEN = "ResourceExistsException"


def is_rotation(event: Any) -> bool:
    return isinstance(event, dict) and {"Step", "SecretId", "ClientRequestToken"} <= event.keys()


async def rotate(
    event: Mapping[str, str], api: Api, key_id: str, secret_ids: Mapping[str, str], token_days: float
) -> dict[str, str]:
    """One of the four steps. ValueError for a secret that cannot be rotated like this: keys seal and sign what is
    stored.

    The new token is valid for `token_days`, which is longer than the time between two rotations; the old one stays
    valid until it expires.
    """
    id, version = event["SecretId"], event["ClientRequestToken"]
    name = next((name for name, secret_id in secret_ids.items() if secret_id == id), "")
    if not name.startswith(TOKEN_PREFIX):
        raise ValueError("only service tokens are rotated")
    match event["Step"]:
        case "createSecret":
            token = service_token(await _value(api, key_id), name.removeprefix(TOKEN_PREFIX), token_days)
            await _create(api, id, version, token)
        case "setSecret":
            pass  # the control plane verifies a token by its signature
        case "testSecret":
            pending = await _value(api, id, VersionId=version, VersionStage=_PENDING)
            if ends_soon(pending, await _value(api, key_id)):
                raise ValueError("the new token was not issued by this deployment")
        case "finishSecret":
            await _finish(api, id, version)
        case step:
            raise ValueError(f"rotation has no step {step!r}")
    return {"secret": name, "step": event["Step"]}


async def _value(api: Api, id: str, **selector: str) -> str:
    answer = await api.json("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": id, **selector})
    return str(answer["SecretString"])


async def _create(api: Api, id: str, version: str, token: str) -> None:
    body = {"SecretId": id, "ClientRequestToken": version, "SecretString": token, "VersionStages": [_PENDING]}
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
