"""Artifact Registry: repositories, and the images that builds have put there."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unimplemented
from .messages import now
from .policies import Kind, Policies
from .project import Project
from .routes import Answer, Call, Route, page

SERVICE = "artifactregistry"
KIND = Kind("artifactregistry.repositories", ("artifactregistry",))

_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev/([^/]+)/([^/]+)/(.+):([\w.-]+)")
_GIVEN = ("format", "mode", "description", "labels", "cleanupPolicies", "cleanupPolicyDryRun", "dockerConfig")
_CHANGED = ("description", "labels", "cleanupPolicies", "cleanupPolicyDryRun", "dockerConfig")
# only the service sets them: as on Google they are ignored where a client gives them
_OUTPUT = ("name", "createTime", "updateTime", "sizeBytes", "registryUri", "satisfiesPzs")


class ArtifactRegistry:
    def __init__(self, project: Project, policies: Policies) -> None:
        self._project = project
        self._policies = policies
        self._repositories: dict[str, dict[str, Any]] = {}
        # of a tag, by its full name
        self._images: dict[str, Any] = {}

    def names(self) -> list[str]:
        return list(self._repositories)

    def routes(self) -> Iterable[Route]:
        repositories = "/v1/{parent=projects/*/locations/*}/repositories"
        repository = "/v1/{name=projects/*/locations/*/repositories/*}"
        tag = "/v1/{repository=projects/*/locations/*/repositories/*}/packages/{package}/tags/{tag}"
        yield Route(SERVICE, "createRepository", "POST", repositories, self.create, ["repositoryId"])
        yield Route(SERVICE, "listRepositories", "GET", repositories, self.list, ["pageSize", "pageToken"])
        yield Route(SERVICE, "getRepository", "GET", repository, self.get)
        yield Route(SERVICE, "updateRepository", "PATCH", repository, self.update, ["updateMask"])
        yield Route(SERVICE, "deleteRepository", "DELETE", repository, self.delete)
        yield Route(SERVICE, "getTag", "GET", tag, self.get_tag)
        template = "/v1/{resource=projects/*/locations/*/repositories/*}"
        yield from self._policies.routes(SERVICE, template, KIND, self._repository)

    # -- images

    def push(self, email: str, uri: str, image: object) -> None:
        """Raises NotFound, PermissionDenied, InvalidArgument."""
        name = self._tag(uri)
        repository = name.partition("/packages/")[0]
        self._repository(repository)
        if not self._policies.allows(email, "artifactregistry.repositories.uploadArtifacts", repository):
            raise PermissionDenied(f"{email} may not upload to {repository}.")
        self._images[name] = image

    def pull(self, uri: str) -> Any:
        """What has been pushed. NotFound, as Cloud Run says it."""
        image = self._images.get(self._tag(uri))
        if image is None:
            raise NotFound(f"Image '{uri}' not found.")
        return image

    def _tag(self, uri: str) -> str:
        found = _IMAGE.fullmatch(uri)
        if found is None:
            raise InvalidArgument(f"{uri!r} is no image of Artifact Registry with a tag.")
        location, project, repository, package, tag = found.groups()
        return f"projects/{project}/locations/{location}/repositories/{repository}/packages/{package}/tags/{tag}"

    # -- the API

    async def create(self, call: Call) -> Answer:
        self._policies.check(call.caller, "artifactregistry.repositories.create", self._project.name)
        id = call.query.get("repositoryId", "")
        if not _ID.fullmatch(id):
            raise InvalidArgument(f"The repository id {id!r} must match {_ID.pattern}.")
        name = f"{call.path['parent']}/repositories/{id}"
        if name in self._repositories:
            raise AlreadyExists("the repository already exists")
        given = _checked(await call.document())
        if given.get("format") != "DOCKER":
            raise Unimplemented("The stand-in has repositories of the format DOCKER only.")
        time = now().isoformat()
        made = {"mode": "STANDARD_REPOSITORY", **given, "name": name, "createTime": time, "updateTime": time}
        self._repositories[name] = made
        return _done(made)

    async def list(self, call: Call) -> Answer:
        self._policies.check(call.caller, "artifactregistry.repositories.list", self._project.name)
        found, more = page([self._repositories[name] for name in sorted(self._repositories)], call.query)
        return {"repositories": found, **more}

    async def get(self, call: Call) -> Answer:
        return self._permitted(call, "get")

    async def update(self, call: Call) -> Answer:
        repository = self._permitted(call, "update")
        given = _checked(await call.document())
        mask = call.query.get("updateMask", "")
        for field in mask.split(",") if mask else given.keys() & set(_CHANGED):
            if field not in _CHANGED:
                raise InvalidArgument(f"Invalid update_mask: {field} cannot be updated.")
            repository.pop(field, None)
            if field in given:
                repository[field] = given[field]
        repository["updateTime"] = now().isoformat()
        return repository

    async def delete(self, call: Call) -> Answer:
        name = self._permitted(call, "delete")["name"]
        del self._repositories[name]
        self._images = {tag: image for tag, image in self._images.items() if not tag.startswith(f"{name}/")}
        self._policies.drop(name)
        return _done({})

    async def get_tag(self, call: Call) -> Answer:
        repository, package, tag = (call.path[part] for part in ("repository", "package", "tag"))
        self._policies.check(call.caller, "artifactregistry.tags.get", repository)
        name = f"{repository}/packages/{package}/tags/{tag}"
        if name not in self._images:
            raise NotFound("Requested entity was not found.")
        return {"name": name}

    def _permitted(self, call: Call, permission: str) -> dict[str, Any]:
        self._policies.check(call.caller, f"artifactregistry.repositories.{permission}", call.path["name"])
        return self._repository(call.path["name"])

    def _repository(self, name: str) -> dict[str, Any]:
        if name not in self._repositories:
            raise NotFound("Requested entity was not found.")
        return self._repositories[name]


def _checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only the service sets. InvalidArgument."""
    given = {name: value for name, value in document.items() if name not in _OUTPUT}
    if unknown := given.keys() - set(_GIVEN):
        raise InvalidArgument(f"Invalid JSON payload received. Unknown name {min(unknown)!r}.")
    return given


def _done(response: Mapping[str, Any]) -> Answer:
    """A long-running operation that has ended."""
    return {"name": f"operations/{secrets.token_hex(16)}", "done": True, "response": response}
