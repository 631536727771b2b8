"""Secrets of Secret Manager, read by functions and filled by the migration."""

from __future__ import annotations

import base64

from .api import NOT_FOUND, Api, GoogleError


class SecretManagerVault:
    """The `cloud.vault.Vault` of Google Cloud. An id is a resource name: projects/PROJECT/secrets/SECRET."""

    def __init__(self, api: Api) -> None:
        self._api = api
        # what this process has written: `latest` may show it only later
        self._written: dict[str, str] = {}

    async def read(self, id: str) -> str | None:
        """A new version is at once there by its number, but as `latest` perhaps after hours: what seems to be empty is
        asked for its first version, too (https://cloud.google.com/secret-manager/regional-secrets/reference/consistency).
        """
        if id in self._written:
            return self._written[id]
        latest = await self._access(id, "latest")
        return await self._access(id, "1") if latest is None else latest

    async def replace(self, id: str, value: str, previous: str | None) -> bool:
        """Secret Manager has no way to refuse the second of two writers: who calls this makes sure that there is one.
        False if somebody has replaced `previous` before."""
        if await self.read(id) != previous:
            return False
        payload = {"payload": {"data": base64.b64encode(value.encode()).decode()}}
        await self._api.json("secretmanager", "POST", f"/v1/{id}:addVersion", payload)
        self._written[id] = value
        return True

    async def _access(self, id: str, version: str) -> str | None:
        try:
            answer = await self._api.json("secretmanager", "GET", f"/v1/{id}/versions/{version}:access")
        except GoogleError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        return base64.b64decode(answer["payload"]["data"]).decode()
