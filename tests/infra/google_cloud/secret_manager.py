"""Secret Manager. As there, what is read back names the project by its number."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
from google.cloud import secretmanager_v1

from .conditions import Target
from .errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from .messages import Form, Message, has, render, stamp
from .policies import Kind, Policies
from .project import Project
from .routes import Answer, Call, Route, page

SERVICE = "secretmanager"
KIND = Kind("secretmanager.secrets", ("secretmanager",))
MAX_BYTES = 64 * 2**10

_State = secretmanager_v1.SecretVersion.State
_SECRET_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_SECRET = Form(
    secretmanager_v1.Secret,
    "replication.automatic replication.user_managed.replicas.location labels annotations",
    "name create_time etag",
)
_UPDATE = Form(secretmanager_v1.Secret, "labels annotations", "name create_time etag replication")
_ADD = Form(secretmanager_v1.AddSecretVersionRequest, "payload.data payload.data_crc32c", "parent")
_CHANGE = Form(secretmanager_v1.DisableSecretVersionRequest, "", "name")
_DESTROY = Form(secretmanager_v1.DestroySecretVersionRequest, "", "name")
_VERSION = secretmanager_v1.SecretVersion.pb()


@dataclass(slots=True)
class _Secret:
    message: Message
    versions: list[Message] = field(default_factory=list)
    # of each version, by its number; a destroyed one has none
    payloads: dict[int, bytes] = field(default_factory=dict)


class SecretManager:
    def __init__(self, project: Project, policies: Policies) -> None:
        self._project = project
        self._policies = policies
        self._secrets: dict[str, _Secret] = {}

    def names(self) -> list[str]:
        return list(self._secrets)

    def routes(self) -> Iterable[Route]:
        secret = "/v1/{name=projects/*/secrets/*}"
        version = "/v1/{name=projects/*/secrets/*/versions/*}"
        paging = ["pageSize", "pageToken"]
        yield Route(SERVICE, "createSecret", "POST", "/v1/{parent=projects/*}/secrets", self.create, ["secretId"])
        yield Route(SERVICE, "listSecrets", "GET", "/v1/{parent=projects/*}/secrets", self.list, paging)
        yield Route(SERVICE, "getSecret", "GET", secret, self.get)
        yield Route(SERVICE, "updateSecret", "PATCH", secret, self.update, ["updateMask"])
        yield Route(SERVICE, "deleteSecret", "DELETE", secret, self.delete)
        yield Route(SERVICE, "addSecretVersion", "POST", f"{secret}:addVersion", self.add_version)
        yield Route(SERVICE, "listSecretVersions", "GET", f"{secret}/versions", self.list_versions, paging)
        yield Route(SERVICE, "getSecretVersion", "GET", version, self.get_version)
        yield Route(SERVICE, "accessSecretVersion", "GET", f"{version}:access", self.access)
        yield Route(SERVICE, "enableSecretVersion", "POST", f"{version}:enable", self.enable)
        yield Route(SERVICE, "disableSecretVersion", "POST", f"{version}:disable", self.disable)
        yield Route(SERVICE, "destroySecretVersion", "POST", f"{version}:destroy", self.destroy)
        yield from self._policies.routes(SERVICE, "/v1/{resource=projects/*/secrets/*}", KIND, self._secret)

    async def create(self, call: Call) -> Answer:
        self._policies.check(call.caller, "secretmanager.secrets.create", self._project.name)
        id = call.query.get("secretId", "")
        if not _SECRET_ID.fullmatch(id):
            raise InvalidArgument(f"The secret id {id!r} must match {_SECRET_ID.pattern}.")
        given = _SECRET.parse(await call.document())
        if given.replication.WhichOneof("replication") is None:
            raise InvalidArgument("Secret.replication must be provided.")
        name = f"{self._project.name}/secrets/{id}"
        if name in self._secrets:
            raise AlreadyExists(f"Secret [{self._project.by_number(name)}] already exists.")
        given.name = name
        given.etag = _etag()
        stamp(given.create_time)
        self._secrets[name] = _Secret(given)
        return self._render(given)

    async def list(self, call: Call) -> Answer:
        self._policies.check(call.caller, "secretmanager.secrets.list", self._project.name)
        found, more = page([self._secrets[name] for name in sorted(self._secrets)], call.query)
        return {"secrets": [self._render(one.message) for one in found], "totalSize": len(self._secrets), **more}

    async def get(self, call: Call) -> Answer:
        return self._render(self._checked(call, "secrets.get").message)

    async def update(self, call: Call) -> Answer:
        message = self._checked(call, "secrets.update").message
        if not call.query.get("updateMask"):
            raise InvalidArgument("An update_mask is required.")
        _UPDATE.update(message, _UPDATE.parse(await call.document()), call.query["updateMask"])
        message.etag = _etag()
        return self._render(message)

    async def delete(self, call: Call) -> Answer:
        name = self._checked(call, "secrets.delete").message.name
        del self._secrets[name]
        self._policies.drop(name)
        return {}

    async def add_version(self, call: Call) -> Answer:
        secret = self._checked(call, "versions.add")
        payload = _ADD.parse(await call.document()).payload
        if not 0 < len(payload.data) <= MAX_BYTES:
            raise InvalidArgument(f"The payload must have 1 to {MAX_BYTES} bytes.")
        if has(payload, "data_crc32c") and payload.data_crc32c != google_crc32c.value(payload.data):
            raise InvalidArgument("The checksum in data_crc32c does not match the data.")
        number = len(secret.versions) + 1
        version = _VERSION(
            name=f"{secret.message.name}/versions/{number}",
            state=_State.ENABLED,
            etag=_etag(),
            client_specified_payload_checksum=has(payload, "data_crc32c"),
        )
        version.replication_status.automatic.SetInParent()
        stamp(version.create_time)
        secret.versions.append(version)
        secret.payloads[number] = payload.data
        return self._render(version)

    async def list_versions(self, call: Call) -> Answer:
        versions = self._checked(call, "versions.list").versions
        found, more = page(versions[::-1], call.query)
        return {"versions": [self._render(version) for version in found], "totalSize": len(versions), **more}

    async def get_version(self, call: Call) -> Answer:
        return self._render(self._version(call, "get")[1])

    async def access(self, call: Call) -> Answer:
        secret, version = self._version(call, "access")
        if version.state != _State.ENABLED:
            raise FailedPrecondition(
                f"Secret Version [{self._project.by_number(version.name)}] is in {_State(version.state).name} state."
            )
        data = secret.payloads[_number(version)]
        payload = secretmanager_v1.SecretPayload.pb()(data=data, data_crc32c=google_crc32c.value(data))
        return {"name": self._project.by_number(version.name), "payload": render(payload)}

    async def enable(self, call: Call) -> Answer:
        return await self._change(call, "enable", _State.ENABLED)

    async def disable(self, call: Call) -> Answer:
        return await self._change(call, "disable", _State.DISABLED)

    async def destroy(self, call: Call) -> Answer:
        secret, version = self._version(call, "destroy")
        _DESTROY.parse(await call.document())
        secret.payloads.pop(_number(version), None)
        version.state = _State.DESTROYED
        stamp(version.destroy_time)
        return self._render(version)

    async def _change(self, call: Call, permission: str, state: int) -> Answer:
        _, version = self._version(call, permission)
        _CHANGE.parse(await call.document())
        if version.state == _State.DESTROYED:
            raise FailedPrecondition(f"Secret Version [{self._project.by_number(version.name)}] is in DESTROYED state.")
        version.state = state
        version.etag = _etag()
        return self._render(version)

    def _checked(self, call: Call, permission: str) -> _Secret:
        self._policies.check(call.caller, f"secretmanager.{permission}", call.path["name"])
        return self._secret(call.path["name"])

    def _secret(self, name: str) -> _Secret:
        secret = self._secrets.get(name)
        if secret is None:
            raise NotFound(f"Secret [{self._project.by_number(name)}] not found.")
        return secret

    def _version(self, call: Call, permission: str) -> tuple[_Secret, Message]:
        """The newest one is `latest`, in whatever state it is."""
        name, _, number = call.path["name"].partition("/versions/")
        self._policies.check(call.caller, f"secretmanager.versions.{permission}", name, Target(call.path["name"]))
        secret = self._secrets.get(name)
        if secret is None or not secret.versions:
            raise NotFound(f"Secret [{self._project.by_number(name)}] not found or has no versions.")
        if number == "latest":
            return secret, secret.versions[-1]
        for version in secret.versions:
            if str(_number(version)) == number:
                return secret, version
        raise NotFound(f"Secret Version [{self._project.by_number(call.path['name'])}] not found.")

    def _render(self, message: Message) -> dict[str, Any]:
        return {**render(message), "name": self._project.by_number(message.name)}


def _number(version: Message) -> int:
    return int(version.name.rpartition("/")[2])


def _etag() -> str:
    return f'"{secrets.token_hex(7)}"'
