"""Secrets of Secret Manager, read by functions and filled by the migration."""

from __future__ import annotations

import base64

from .api import NOT_FOUND, Api, GoogleError


class SecretManagerVault:
    """The `cloud.vault.Vault` of Google Cloud. An id is a resource name: projects/PROJECT/secrets/SECRET."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, id: str) -> str | None:
        try:
            answer = await self._api.json("secretmanager", "GET", f"/v1/{id}/versions/latest:access")
        except GoogleError as error:
            # the secret has no version
            if error.code == NOT_FOUND:
                return None
            raise
        return base64.b64decode(answer["payload"]["data"]).decode()

    async def replace(self, id: str, value: str, previous: str | None) -> bool:
        """Secret Manager has no way to refuse the second of two writers: who calls this makes sure that there is one.
        False if somebody has replaced `previous` before."""
        if await self.read(id) != previous:
            return False
        payload = {"payload": {"data": base64.b64encode(value.encode()).decode()}}
        await self._api.json("secretmanager", "POST", f"/v1/{id}:addVersion", payload)
        return True
