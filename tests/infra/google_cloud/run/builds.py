"""Cloud Run's builds: from a package in a bucket to an image in a repository, as Cloud Build's operations."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

from google.cloud import run_v2

from ..artifact_registry import ArtifactRegistry
from ..buckets import resource_of
from ..conditions import Target
from ..errors import ApiError, InvalidArgument, NotFound
from ..messages import Form, Message
from ..policies import Policies
from ..project import Project
from ..routes import Answer, Call, Route
from ..service_accounts import ServiceAccounts
from .image import BuildFailed, Images

SERVICE = "run"
_SUBMIT = Form(
    run_v2.SubmitBuildRequest,
    """
    storage_source.bucket storage_source.object_ storage_source.generation image_uri service_account
    buildpack_build.function_target buildpack_build.base_image buildpack_build.environment_variables""",
    "parent",
)
# of a build that has failed, in google.rpc.Code
_UNKNOWN = 2


class Builds:
    def __init__(
        self,
        project: Project,
        policies: Policies,
        accounts: ServiceAccounts,
        images: Images,
        registry: ArtifactRegistry,
    ) -> None:
        self._project = project
        self._policies = policies
        self._accounts = accounts
        self._images = images
        self._registry = registry
        self._operations: dict[str, dict[str, Any]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def routes(self) -> Iterable[Route]:
        parent = "/v2/{parent=projects/*/locations/*}"
        yield Route(SERVICE, "submitBuild", "POST", f"{parent}/builds:submit", self.submit)
        yield Route("cloudbuild", "getOperation", "GET", "/v1/{name=operations/build/*/*}", self.get_operation)

    async def stop(self) -> None:
        for build in self._running:
            build.cancel()

    async def submit(self, call: Call) -> Answer:
        self._policies.check(call.caller, "run.builds.submit", self._project.name)
        given = _SUBMIT.parse(await call.document())
        email = given.service_account.rpartition("/")[2]
        if not given.storage_source.bucket or not given.image_uri or not email:
            raise InvalidArgument("storage_source, image_uri and service_account must be given.")
        if not given.buildpack_build.function_target:
            raise InvalidArgument("buildpack_build.function_target must be given.")
        self._accounts.check_may_act_as(self._policies, call.caller, email)
        name = f"operations/build/{self._project.id}/{secrets.token_urlsafe(16)}"
        self._operations[name] = {"name": name, "done": False}
        build = asyncio.create_task(self._build(name, given, email))
        self._running.add(build)
        build.add_done_callback(self._running.discard)
        return {"buildOperation": dict(self._operations[name])}

    async def get_operation(self, call: Call) -> Answer:
        self._policies.check(call.caller, "cloudbuild.builds.get", self._project.name)
        if call.path["name"] not in self._operations:
            raise NotFound("Operation not found.")
        return self._operations[call.path["name"]]

    async def _build(self, name: str, given: Message, email: str) -> None:
        operation = self._operations[name]
        try:
            self._check_readable(email, given.storage_source)
            self._registry.push(email, given.image_uri, await self._images.build(given))
        except (BuildFailed, ApiError) as error:
            operation["error"] = {"code": _UNKNOWN, "message": str(error)}
        operation["done"] = True

    def _check_readable(self, email: str, source: Message) -> None:
        """BuildFailed if the build's account may not read its source."""
        bucket = resource_of(source.bucket)
        target = Target(f"{bucket}/objects/{source.object_}", "storage.googleapis.com/Object")
        if not self._policies.allows(email, "storage.objects.get", bucket, target):
            raise BuildFailed(f"The build's account {email} may not read gs://{source.bucket}/{source.object_}.")
