"""The metadata server of a service's instances: who they are, and their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from noetl_serverless.hosts.local.ports import free_port

from ..errors import ApiError
from ..identities import LIFETIME, AccessTokens, IdTokens
from ..project import Project
from ..service_accounts import ServiceAccounts

_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_ROOT = "/computeMetadata/v1"


class MetadataServer:
    def __init__(
        self,
        project: Project,
        accounts: ServiceAccounts,
        access_tokens: AccessTokens,
        id_tokens: IdTokens,
        email: str,
        location: str,
    ) -> None:
        self.email = email
        self.port = free_port()
        self._project = project
        self._accounts = accounts
        self._access_tokens = access_tokens
        self._id_tokens = id_tokens
        self._location = location
        self._runner: web.AppRunner | None = None

    @property
    def environment(self) -> dict[str, str]:
        """By which Google's libraries find it; without these, at an address that is not of this machine."""
        host = f"127.0.0.1:{self.port}"
        return {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(text="computeMetadata/\n", headers=_FLAVOR)
        if request.headers.get("Metadata-Flavor") != "Google":
            return web.Response(status=403, text="Missing required header: Metadata-Flavor: Google", headers=_FLAVOR)
        try:
            found = self._find(request.path.removeprefix(_ROOT), request.query)
        except ApiError as error:
            return web.Response(status=error.code, text=str(error), headers=_FLAVOR)
        if isinstance(found, str):
            return web.Response(text=found, headers=_FLAVOR)
        return web.json_response(found, headers=_FLAVOR)

    def _find(self, path: str, query: Mapping[str, str]) -> Any:
        """Text, or a document for JSON; web.HTTPNotFound."""
        region = f"projects/{self._project.number}/regions/{self._location}"
        values = {
            "/project/project-id": self._project.id,
            "/project/numeric-project-id": self._project.number,
            "/instance/region": region,
            "/instance/zone": f"projects/{self._project.number}/zones/{self._location}-1",
            "/instance/id": f"{id(self):032x}",
            "/universe/universe-domain": "googleapis.com",
            "/universe/universe_domain": "googleapis.com",
        }
        if path in values:
            return values[path]
        for name in ("default", self.email):
            prefix = f"/instance/service-accounts/{name}/"
            if path.startswith(prefix):
                return self._of_account(path.removeprefix(prefix), query)
        raise web.HTTPNotFound(headers=_FLAVOR)

    def _of_account(self, path: str, query: Mapping[str, str]) -> Any:
        match path:
            case "":
                if query.get("recursive", "").lower() != "true":
                    return "aliases\nemail\nidentity\nscopes\ntoken\n"
                return {"aliases": ["default"], "email": self.email, "scopes": _SCOPES}
            case "email":
                return self.email
            case "scopes":
                return "".join(f"{scope}\n" for scope in _SCOPES)
            case "token":
                token = self._access_tokens.issue(self._accounts.caller(self.email))
                return {"access_token": token, "expires_in": LIFETIME, "token_type": "Bearer"}
            case "identity":
                if not query.get("audience"):
                    raise web.HTTPBadRequest(text="non-empty audience parameter required", headers=_FLAVOR)
                caller = self._accounts.caller(self.email)
                # without format=full Google leaves out the address for Compute Engine only
                return self._id_tokens.issue(caller, query["audience"])
            case _:
                raise web.HTTPNotFound(headers=_FLAVOR)
