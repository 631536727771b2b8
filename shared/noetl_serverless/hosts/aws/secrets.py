"""Secrets of Secrets Manager, read by functions and filled by the migration."""

from __future__ import annotations

import uuid

from .api import Api, AwsError

_MISSING = "ResourceNotFoundException"
_EXISTS = "ResourceExistsException"


class SecretsManagerVault:
    """The `cloud.vault.Vault` of AWS. An id is an ARN, or a name in Secrets Manager."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, id: str) -> str | None:
        try:
            # the default, but not of every emulator
            body = {"SecretId": id, "VersionStage": "AWSCURRENT"}
            answer = await self._api.json("secretsmanager", "secretsmanager.GetSecretValue", body)
        except AwsError as error:
            if error.code == _MISSING:
                return None
            raise
        # an emulator may give an empty secret a version without a value
        value = answer.get("SecretString")
        return None if value is None else str(value)

    async def replace(self, id: str, value: str, previous: str | None) -> bool:
        # the same request token for the same change of a secret: Secrets Manager accepts only the first value
        token = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{id}\n{previous or ''}"))
        body = {"SecretId": id, "SecretString": value, "ClientRequestToken": token}
        try:
            await self._api.json("secretsmanager", "secretsmanager.PutSecretValue", body)
        except AwsError as error:
            if error.code == _EXISTS:
                return False
            raise
        return True
