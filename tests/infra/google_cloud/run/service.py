"""One service: its revisions, one of which gets all requests, and its address, which stays."""

from __future__ import annotations

import asyncio
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

from google.cloud import run_v2

from noetl_serverless.hosts.local.ports import free_port

from ..artifact_registry import ArtifactRegistry
from ..errors import ApiError
from ..guard import Guard
from ..identities import AccessTokens, IdTokens
from ..messages import Message, seconds, stamp
from ..policies import Policies
from ..project import Project
from ..service_accounts import ServiceAccounts
from .instance import Instance, Revision, StartFailed
from .metadata import MetadataServer
from .pool import Pool
from .proxy import Proxy

_State = run_v2.Condition.State
_LATEST = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
_TICK_SECONDS = 0.1
_LETTERS = string.ascii_lowercase


class DeployFailed(Exception):
    """A revision did not become ready; the one before it, if any, goes on."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all services have in common. `idle`: seconds until an instance without requests is stopped."""

    project: Project
    policies: Policies
    accounts: ServiceAccounts
    access_tokens: AccessTokens
    id_tokens: IdTokens
    registry: ArtifactRegistry
    guard: Guard
    home: Path
    idle: float


class Service:
    """`message` is what was asked for and what came of it, as the API shows it."""

    def __init__(self, message: Message, around: Surroundings) -> None:
        self.message = message
        self.revisions: dict[str, Message] = {}
        self.changing = asyncio.Lock()
        self._around = around
        self._pool: Pool | None = None
        self._retired: list[Pool] = []
        # by account: instances of an older revision may have another than those of the newest
        self._metadata: dict[str, MetadataServer] = {}
        self._count = 0
        self._proxy = Proxy(
            message.name,
            around.policies,
            around.accounts,
            around.id_tokens,
            lambda: self._pool,
            lambda: [*self.message.urls, *self.message.custom_audiences],
        )
        self._ticking: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return str(self.message.name.rpartition("/")[2])

    @property
    def log(self) -> Path:
        return self._around.home / f"{self.id}.log"

    async def start(self) -> None:
        """Listen, at an address that it keeps until it is deleted."""
        port = free_port()
        self.message.uri = f"http://127.0.0.1:{port}"
        self.message.urls.append(self.message.uri)
        await self._proxy.start(port)
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        for pool in self._pools():
            pool.kill()
        await self._proxy.stop()
        for server in self._metadata.values():
            await server.stop()

    def instances(self) -> list[Instance]:
        return [instance for pool in self._pools() for instance in pool.instances]

    def apply(self) -> None:
        """What takes effect without a new revision."""
        self._proxy.is_open_to_all = self.message.invoker_iam_disabled
        if self._pool is not None:
            self._pool.minimum, self._pool.maximum = self._limits()

    async def deploy(self) -> None:
        """A new revision of what the message says, which gets all requests once it is ready. DeployFailed."""
        self._count += 1
        suffix = "".join(secrets.choice(_LETTERS) for _ in range(3))
        name = f"{self.message.name}/revisions/{self.id}-{self._count:05d}-{suffix}"
        self.message.latest_created_revision = name
        self.message.reconciling = True
        self._record(name)
        try:
            pool = await self._ready_pool(name.rpartition("/")[2])
        except (ApiError, StartFailed) as error:
            self._conclude(name, _State.CONDITION_FAILED, str(error))
            raise DeployFailed(str(error)) from None
        finally:
            self.message.reconciling = False
        if self._pool is not None:
            self._retired.append(self._pool)
            self._pool.retire()
        self._pool = pool
        self.apply()
        self.message.latest_ready_revision = name
        del self.message.traffic_statuses[:]
        self.message.traffic_statuses.add(type_=_LATEST, percent=100)
        self._conclude(name, _State.CONDITION_SUCCEEDED, "")

    async def _ready_pool(self, revision: str) -> Pool:
        """Raises NotFound, StartFailed."""
        template = self.message.template
        # what build_config says is only where the image came from
        image = self._around.registry.pull(template.containers[0].image)
        metadata = await self._metadata_server(template.service_account)
        environment = {variable.name: variable.value for variable in template.containers[0].env}
        plan = Revision(
            name=revision,
            service=self.id,
            image=image,
            environment={**environment, **metadata.environment},
            concurrency=template.max_instance_request_concurrency,
            timeout=seconds(template.timeout),
            cpu_idle=template.containers[0].resources.cpu_idle,
            folder=self._around.home / self.id,
            log=self.log,
        )
        pool = Pool(plan, self._around.guard, *self._limits(), self._around.idle)
        try:
            await pool.start()
        except StartFailed as error:
            raise StartFailed(
                f"Revision '{revision}' is not ready and cannot serve traffic. The user-provided container failed to "
                f"start and listen on the port defined provided by the PORT environment variable within the allocated "
                f"timeout. {error}"
            ) from None
        return pool

    async def _metadata_server(self, email: str) -> MetadataServer:
        if email not in self._metadata:
            around = self._around
            location = self.message.name.split("/")[3]
            server = MetadataServer(
                around.project, around.accounts, around.access_tokens, around.id_tokens, email, location
            )
            await server.start()
            self._metadata[email] = server
        return self._metadata[email]

    def _limits(self) -> tuple[int, int]:
        """The fewest and the most instances: of the whole service, and of its revision."""
        service, revision = self.message.scaling, self.message.template.scaling
        most = min(revision.max_instance_count, service.max_instance_count or revision.max_instance_count)
        return min(max(service.min_instance_count, revision.min_instance_count), most), most

    def _record(self, name: str) -> None:
        template = self.message.template
        revision = run_v2.Revision.pb()(
            name=name,
            uid=secrets.token_hex(16),
            generation=1,
            service=self.id,
            service_account=template.service_account,
            max_instance_request_concurrency=template.max_instance_request_concurrency,
            timeout=template.timeout,
            scaling=template.scaling,
            containers=template.containers,
        )
        stamp(revision.create_time)
        self.revisions[name] = revision

    def _conclude(self, revision: str, state: int, message: str) -> None:
        for conditions, kind in (
            (self.message.conditions, "RoutesReady"),
            (self.message.conditions, "ConfigurationsReady"),
            (self.revisions[revision].conditions, "Ready"),
        ):
            for index in [index for index, one in enumerate(conditions) if one.type_ == kind]:
                del conditions[index]
            self._set_condition(conditions.add(type_=kind), state, message)
        self.message.terminal_condition.Clear()
        self.message.terminal_condition.type_ = "Ready"
        self._set_condition(self.message.terminal_condition, state, message)
        self.message.observed_generation = self.message.generation

    def _set_condition(self, condition: Message, state: int, message: str) -> None:
        condition.state = state
        condition.message = message
        stamp(condition.last_transition_time)

    def _pools(self) -> list[Pool]:
        return [*([self._pool] if self._pool else []), *self._retired]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for pool in self._pools():
                pool.tick()
            self._retired = [pool for pool in self._retired if pool.instances]


def differs(before: Message, after: Message) -> bool:
    """Whether a change makes a new revision."""
    return bool(before.template != after.template or before.build_config != after.build_config)
