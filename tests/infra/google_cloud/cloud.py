"""All stand-ins together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .admin import Admin
from .artifact_registry import ArtifactRegistry
from .buckets import Buckets
from .cloud_scheduler import CloudScheduler
from .cloud_tasks import CloudTasks
from .delivery import Delivery
from .guard import Guard
from .identities import AccessTokens, IdTokens
from .object_store import ObjectStore
from .objects import Objects
from .policies import Policies
from .project import Project
from .pubsub import PubSub
from .resource_manager import ResourceManager
from .run.builds import Builds
from .run.image import Images
from .run.service import Surroundings
from .run.services import Services
from .secret_manager import SecretManager
from .server import Server
from .service_accounts import ServiceAccountMethods, ServiceAccounts
from .storage_batch import StorageBatch


@dataclass(frozen=True, slots=True)
class Settings:
    """`home`: where functions are unpacked and logs are written; `tools`: where their environments are kept for the
    next time; `idle`: seconds until an instance without requests is stopped."""

    port: int
    home: Path
    tools: Path
    project: Project
    token: str
    idle: float


class Cloud:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        project = settings.project
        tokens = AccessTokens(settings.token)
        id_tokens = IdTokens()
        accounts = ServiceAccounts(project)
        policies = Policies(project, accounts.__contains__)
        secret_manager = SecretManager(project, policies)
        self._delivery = Delivery(accounts, id_tokens)
        self._tasks = CloudTasks(project, policies, accounts, self._delivery)
        self._scheduler = CloudScheduler(project, policies, accounts, self._delivery)
        self._pubsub = PubSub(project, policies, accounts, self._delivery)
        self._guard = Guard()
        url = f"http://127.0.0.1:{settings.port}"
        self._store = ObjectStore(settings.home, url, self._guard)
        buckets = Buckets(project, policies, self._pubsub, self._store, url)
        registry = ArtifactRegistry(project, policies)
        images = Images(self._store, settings.home / "images", settings.tools)
        self._builds = Builds(project, policies, accounts, images, registry)
        self._services = Services(
            Surroundings(
                project=project,
                policies=policies,
                accounts=accounts,
                access_tokens=tokens,
                id_tokens=id_tokens,
                registry=registry,
                guard=self._guard,
                home=settings.home / "run",
                idle=settings.idle,
            )
        )
        resources: dict[str, Callable[[], list[str]]] = {
            "serviceAccounts": accounts.names,
            "secrets": secret_manager.names,
            "services": self._services.names,
            "repositories": registry.names,
            "queues": self._tasks.names,
            "jobs": self._scheduler.names,
            "topics": self._pubsub.topics,
            "subscriptions": self._pubsub.subscriptions,
            "buckets": buckets.names,
            "notifications": buckets.notification_names,
        }
        self._server = Server(project, tokens)
        for methods in (
            ServiceAccountMethods(project, accounts, policies, tokens, id_tokens),
            secret_manager,
            registry,
            self._builds,
            self._services,
            self._tasks,
            self._scheduler,
            self._pubsub,
            buckets,
            Objects(policies, buckets, self._store),
            StorageBatch(self._store, url),
            ResourceManager(project, policies),
            Admin(resources, self._server.calls, tokens, accounts, policies),
        ):
            self._server.add(methods.routes())

    async def start(self) -> None:
        await self._delivery.start()
        await self._store.start()
        await self._server.start(self._settings.port)

    async def stop(self) -> None:
        await self._server.stop()
        await self._builds.stop()
        await self._services.stop()
        await self._scheduler.stop()
        await self._tasks.stop()
        await self._pubsub.stop()
        await self._delivery.stop()
        await self._store.stop()
        self._guard.stop()
