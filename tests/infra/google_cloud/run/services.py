"""Cloud Run's API for services, with long-running operations."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Coroutine, Iterable
from typing import Any

from ..admin import admin_route
from ..conditions import Target
from ..errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from ..messages import Message, copy, packed, render, stamp
from ..policies import Kind, Policies
from ..routes import Answer, Call, Route, page
from . import form
from .service import DeployFailed, Service, Surroundings, differs

SERVICE = "run"
KIND = Kind("run.services", ("run",))

_SERVICE_ID = re.compile(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?")
# seconds for which a change is waited for before the operation is answered as one that goes on
_AT_ONCE = 20.0


class Services:
    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._services: dict[str, Service] = {}
        self._operations: dict[str, dict[str, Any]] = {}
        self._changes: set[asyncio.Task[None]] = set()

    def names(self) -> list[str]:
        return list(self._services)

    async def stop(self) -> None:
        for change in self._changes:
            change.cancel()
        for service in self._services.values():
            await service.stop()

    def routes(self) -> Iterable[Route]:
        services = "/v2/{parent=projects/*/locations/*}/services"
        service = "/v2/{name=projects/*/locations/*/services/*}"
        revision = "/v2/{name=projects/*/locations/*/services/*/revisions/*}"
        operation = "/v2/{name=projects/*/locations/*/operations/*}"
        paging = ["pageSize", "pageToken"]
        yield Route(SERVICE, "createService", "POST", services, self.create, ["serviceId"])
        yield Route(SERVICE, "listServices", "GET", services, self.list, paging)
        yield Route(SERVICE, "getService", "GET", service, self.get)
        yield Route(SERVICE, "updateService", "PATCH", service, self.update, ["updateMask"])
        yield Route(SERVICE, "deleteService", "DELETE", service, self.delete, ["etag"])
        yield Route(SERVICE, "listRevisions", "GET", f"{service}/revisions", self.list_revisions, paging)
        yield Route(SERVICE, "getRevision", "GET", revision, self.get_revision)
        yield Route(SERVICE, "getOperation", "GET", operation, self.get_operation)
        yield from self._policies.routes(
            SERVICE, "/v2/{resource=projects/*/locations/*/services/*}", KIND, self._service
        )
        yield admin_route("GET", "instances", self.list_instances)
        yield admin_route("POST", "instances/{pid}:kill", self.kill_instance)

    async def create(self, call: Call) -> Answer:
        self._policies.check(call.caller, "run.services.create", self._around.project.name)
        id = call.query.get("serviceId", "")
        if not _SERVICE_ID.fullmatch(id):
            raise InvalidArgument(f"The service id {id!r} must match {_SERVICE_ID.pattern}.")
        name = f"{call.path['parent']}/services/{id}"
        message = form.SERVICE.parse(await call.document())
        if message.name not in ("", name):
            raise InvalidArgument("service.name must be empty.")
        if name in self._services:
            raise AlreadyExists(f"Resource '{id}' already exists.")
        self._settle(call, message)
        message.name = name
        message.uid = secrets.token_hex(16)
        message.generation = 1
        message.creator = call.caller.email
        stamp(message.create_time)
        self._touch(call, message)
        service = Service(message, self._around)
        self._services[name] = service
        await service.start()
        return await self._operate(service, self._deploy(service))

    async def list(self, call: Call) -> Answer:
        self._policies.check(call.caller, "run.services.list", self._around.project.name)
        names = sorted(name for name in self._services if name.startswith(f"{call.path['parent']}/"))
        found, more = page(names, call.query)
        return {"services": [render(self._services[name].message) for name in found], **more}

    async def get(self, call: Call) -> Answer:
        return render(self._checked(call, "get").message)

    async def update(self, call: Call) -> Answer:
        service = self._checked(call, "update")
        given = form.SERVICE.parse(await call.document())
        async with service.changing:
            if given.etag and given.etag != service.message.etag:
                raise Aborted("The etag of the service is another: it has changed since it was read.")
            before = copy(service.message)
            changed = copy(service.message)
            form.SERVICE.update(changed, given, call.query.get("updateMask"))
            changed.name = before.name
            self._settle(call, changed)
            changed.generation += 1
            self._touch(call, changed)
            service.message.CopyFrom(changed)
            service.apply()
        work = self._deploy(service) if differs(before, changed) else self._adopt(service)
        return await self._operate(service, work)

    async def delete(self, call: Call) -> Answer:
        service = self._checked(call, "delete")
        if call.query.get("etag") not in (None, service.message.etag):
            raise Aborted("The etag of the service is another: it has changed since it was read.")
        del self._services[service.message.name]
        self._policies.drop(service.message.name)
        stamp(service.message.delete_time)
        return await self._operate(service, self._end(service))

    async def list_revisions(self, call: Call) -> Answer:
        self._policies.check(call.caller, "run.revisions.list", call.path["name"])
        revisions = self._service(call.path["name"]).revisions
        found, more = page(sorted(revisions, reverse=True), call.query)
        return {"revisions": [render(revisions[name]) for name in found], **more}

    async def get_revision(self, call: Call) -> Answer:
        name = call.path["name"]
        service = name.partition("/revisions/")[0]
        self._policies.check(call.caller, "run.revisions.get", service, Target(name))
        revision = self._service(service).revisions.get(name)
        if revision is None:
            raise NotFound(f"Resource '{name.rpartition('/')[2]}' was not found.")
        return render(revision)

    async def get_operation(self, call: Call) -> Answer:
        self._policies.check(call.caller, "run.operations.get", self._around.project.name)
        operation = self._operations.get(call.path["name"])
        if operation is None:
            raise NotFound("Operation not found.")
        return operation

    # -- for tests

    async def list_instances(self, call: Call) -> Answer:
        """`{"instances": [{"service", "revision", "pid", "port", "requests", "ready"}]}`."""
        return {
            "instances": [
                {
                    "service": service.message.name,
                    "revision": instance.revision.name,
                    "pid": instance.pid,
                    "port": instance.port,
                    "requests": instance.requests,
                    "ready": instance.is_ready,
                }
                for service in self._services.values()
                for instance in service.instances()
            ]
        }

    async def kill_instance(self, call: Call) -> Answer:
        """With SIGKILL, as when its machine is gone. Only what this process has started has a number here."""
        for service in self._services.values():
            for instance in service.instances():
                if str(instance.pid) == call.path["pid"]:
                    instance.crash()
                    return {}
        raise NotFound(f"No instance has the process {call.path['pid']}.")

    # --

    @property
    def _policies(self) -> Policies:
        return self._around.policies

    async def _deploy(self, service: Service) -> None:
        async with service.changing:
            await service.deploy()

    async def _end(self, service: Service) -> None:
        async with service.changing:
            await service.stop()

    async def _adopt(self, service: Service) -> None:
        """Nothing that needs a revision has changed."""
        service.message.observed_generation = service.message.generation

    async def _operate(self, service: Service, work: Coroutine[None, None, None]) -> Answer:
        location = "/".join(service.message.name.split("/")[:4])
        operation: dict[str, Any] = {
            "name": f"{location}/operations/{secrets.token_hex(16)}",
            "metadata": packed(service.message),
            "done": False,
        }
        self._operations[operation["name"]] = operation

        async def run() -> None:
            try:
                await work
                operation["response"] = packed(service.message)
            except DeployFailed as error:
                operation["error"] = {"code": FailedPrecondition.number, "message": str(error)}
            operation["metadata"] = packed(service.message)
            operation["done"] = True

        change = asyncio.create_task(run())
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        await asyncio.wait([change], timeout=_AT_ONCE)
        return operation

    def _settle(self, call: Call, message: Message) -> None:
        form.settle(message)
        for email in (message.template.service_account, message.build_config.service_account.rpartition("/")[2]):
            if email:
                self._around.accounts.check_may_act_as(self._policies, call.caller, email)

    def _touch(self, call: Call, message: Message) -> None:
        message.etag = f'"{secrets.token_urlsafe(12)}"'
        message.last_modifier = call.caller.email
        stamp(message.update_time)

    def _checked(self, call: Call, permission: str) -> Service:
        self._policies.check(call.caller, f"run.services.{permission}", call.path["name"])
        return self._service(call.path["name"])

    def _service(self, name: str) -> Service:
        service = self._services.get(name)
        if service is None:
            raise NotFound(f"Resource '{name.rpartition('/')[2]}' of kind 'SERVICE' does not exist.")
        return service
