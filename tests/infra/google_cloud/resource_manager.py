"""The project itself: what Resource Manager says of it, and the policy that counts for all that is in it."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import PermissionDenied
from .policies import Kind, Policies
from .project import Project
from .routes import Answer, Call, Route

SERVICE = "cloudresourcemanager"
KIND = Kind("resourcemanager.projects", ())
_CREATED = "2026-01-01T00:00:00Z"


class ResourceManager:
    def __init__(self, project: Project, policies: Policies) -> None:
        self._project = project
        self._policies = policies

    def routes(self) -> Iterable[Route]:
        yield Route(SERVICE, "getProject", "GET", "/v1/{name=projects/*}", self.get_v1)
        yield Route(SERVICE, "getProject", "GET", "/v3/{name=projects/*}", self.get_v3)
        for version in ("v1", "v3"):
            yield from self._policies.routes(
                SERVICE,
                f"/{version}/{{resource=projects/*}}",
                KIND,
                self._check_name,
                get_by="POST",
                options_in_query=False,
            )

    async def get_v1(self, call: Call) -> Answer:
        self._policies.check(call.caller, "resourcemanager.projects.get", self._project.name)
        return {
            "projectNumber": self._project.number,
            "projectId": self._project.id,
            "lifecycleState": "ACTIVE",
            "name": self._project.id,
            "createTime": _CREATED,
        }

    async def get_v3(self, call: Call) -> Answer:
        self._policies.check(call.caller, "resourcemanager.projects.get", self._project.name)
        return {
            "name": f"projects/{self._project.number}",
            "projectId": self._project.id,
            "state": "ACTIVE",
            "displayName": self._project.id,
            "createTime": _CREATED,
        }

    def _check_name(self, name: str) -> None:
        if name != self._project.name:
            raise PermissionDenied(f"Permission denied on resource {name}.")
