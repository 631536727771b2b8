"""The control plane as an ASGI app. It is given its database and its orchestrator; it opens nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from functools import cache

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..archive.history import History
from ..archive.read import ArchiveReader
from ..archive.replays import ArchivedReplays
from ..archive.results import ResultHistory
from ..orchestrator.orchestrator import Orchestrator
from ..orchestrator.triggers import TriggerStarts
from ..playbook.pools import Pools
from ..ports import ResultStore
from ..results.stores import ResultStores
from ..settings import Settings
from ..store.archives import Archives
from ..store.catalog import PostgresCatalog
from ..store.credentials import Credentials
from ..store.database import Database
from ..store.keychain import Keychain
from ..store.result_objects import WorkerResultStore
from ..store.runtimes import Runtimes
from ..store.schedules import Schedules
from ..store.seal import Sealer
from ..store.triggers import Triggers
from ..store.variables import StoredVariables
from ..store.view_queries import ViewQueries
from ..telemetry.http import EXCEPTION_HANDLERS, middleware
from ..telemetry.probes import probe_routes
from ..tools import registry
from .callback_tokens import CallbackTokens
from .routes import OPERATIONS
from .scripts import ScriptReader
from .services import Services
from .tokens import Verifier
from .watchers import Watchers


async def _no_archive() -> None:
    return


def no_objects(url: str) -> ResultStore:
    raise ValueError(f"this control plane reads no {url}")


def _now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings,
    *,
    database: Database,
    orchestrator: Orchestrator,
    catalog: PostgresCatalog | None = None,
    watchers: Watchers | None = None,
    results: Callable[[], ResultStores],
    objects: Callable[[str], ResultStore] = no_objects,
    request_archive: Callable[[], Awaitable[None]] = _no_archive,
    trigger_sources: Collection[str] = ("nats",),
    now: Callable[[], datetime] = _now,
) -> Starlette:
    """Raises seal.BadKeys and tokens.BadKey: without its keys the control plane does not start.

    `watchers.notify` must be the orchestrator's `on_commit`: it wakes requests that wait for events at once.
    `objects` gives what is below a URL such as s3://bucket, for scripts. `request_archive` invokes a worker to write
    the batches that wait for their files. `trigger_sources`: what triggers may listen to here.
    """
    stored = cache(results)
    sealer = Sealer.of(settings.encryption_keys)
    credentials = Credentials(database, sealer)
    archives = Archives(database)
    archive = ArchiveReader(archives, lambda: stored().objects())
    catalog = catalog or PostgresCatalog(database)
    triggers = Triggers(database)
    services = Services(
        is_local=settings.host == "local",
        pools=Pools.of(settings.worker_pools, settings.pools, is_local=settings.host == "local"),
        allow_private_http=settings.http_allow_private,
        orchestrator=orchestrator,
        catalog=catalog,
        scripts=ScriptReader(
            objects,
            allow_private_http=settings.http_allow_private,
            result_url=settings.result_url,
            credential=credentials.fields,
            catalog=catalog,
        ),
        credentials=credentials,
        keychain=Keychain(database, sealer),
        schedules=Schedules(database),
        runtimes=Runtimes(database),
        triggers=triggers,
        trigger_sources=frozenset(trigger_sources),
        trigger_starts=TriggerStarts(triggers, orchestrator, now),
        executions=History(database, archive),
        variables=StoredVariables(database),
        replays=ArchivedReplays(database, archive),
        archives=archives,
        results=stored,
        worker_results=lambda worker, chunk_bytes: WorkerResultStore(database, worker, chunk_bytes=chunk_bytes),
        stored_results=ResultHistory(database, archive),
        result_ttl_days=settings.result_ttl_days,
        max_result_bytes=settings.max_result_bytes,
        scratch=settings.scratch,
        streams_answers=settings.host != "aws",
        view_queries=ViewQueries(settings.reader_database_url),
        verifier=Verifier(settings.token_key),
        callback_tokens=CallbackTokens(settings.token_key),
        public_url=settings.public_url.rstrip("/"),
        watchers=watchers or Watchers(),
        now=now,
        archive_after_days=settings.archive_after_days,
        request_archive=request_archive,
    )

    async def database_answers() -> None:
        await database.run("SELECT 1")

    return Starlette(
        routes=[
            *(operation.route(services) for operation in OPERATIONS),
            # below /api, the gateway passes them on, too
            *(
                Route(f"{folder}{path}", endpoint)
                for folder in ("", "/api")
                for path, endpoint in (("/openapi.json", _openapi), ("/docs", _page), ("/docs/{file}", _page_file))
            ),
            Route("/schema/playbook.json", _playbook_schema),
            *probe_routes({"database": database_answers}),
        ],
        middleware=middleware(),
        exception_handlers=EXCEPTION_HANDLERS,
    )


async def _openapi(request: Request) -> Response:
    from .openapi import document_bytes

    return Response(document_bytes(), media_type="application/json")


async def _page(request: Request) -> Response:
    from .api_page import page

    return page()


async def _page_file(request: Request) -> Response:
    from .api_page import file

    return await file(request)


async def _playbook_schema(request: Request) -> Response:
    # an editor reads it, without a token
    content = await asyncio.to_thread(_playbook_schema_bytes)
    return Response(content, media_type="application/schema+json")


@cache
def _playbook_schema_bytes() -> bytes:
    return orjson.dumps(registry.playbook_schema())
