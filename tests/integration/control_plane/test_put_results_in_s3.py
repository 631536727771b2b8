"""Results over REST with a server that speaks S3, in place of a folder."""

from __future__ import annotations

import hashlib

import aiohttp
import pytest
from starlette.applications import Starlette
from tests.integration.control_plane.conftest import SETTINGS, Client
from tests.integration.results.conftest import BUCKET, Servers, s3_environment, servers, unique  # noqa: F401

from noetl_serverless.control_plane.app import create_app
from noetl_serverless.hosts.local.objects import object_store
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore


@pytest.fixture
def app(
    database: Database,
    servers: Servers,  # noqa: F811
    unique: str,  # noqa: F811
) -> Starlette:
    results = ResultStores(object_store(f"s3://{BUCKET}/{unique}", s3_environment(servers.ministack.url)))
    catalog = PostgresCatalog(database)
    orchestrator = Orchestrator(
        PostgresEventStore(database), Plans(catalog), Notifications(None, None), results=lambda: results
    )
    return create_app(SETTINGS, database=database, orchestrator=orchestrator, catalog=catalog, results=lambda: results)


async def fetched(url: str) -> tuple[int, str | None, bytes]:
    """Status, type and body, without any token."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, answer.headers.get("content-type"), await answer.read()


async def test_a_body_is_streamed_to_s3_and_read_from_it_in_parts_and_by_url(user: Client, started: str) -> None:
    pieces = [bytes([n % 251]) * 500_000 for n in range(20)]
    content = b"".join(pieces)
    answer = await user.call(
        "PUT", f"/api/result/{started}", pieces, query={"name": "a/b ü"}, headers={"content-type": "text/csv"}
    )
    assert answer.status == 200, answer.body
    done = answer.json
    assert (done["store"], done["sha256"]) == ("s3", hashlib.sha256(content).hexdigest())
    query = {"ref": done["ref"]}
    assert (await user.get("/api/result/resolve", **query)).body == content
    part = await user.call("GET", "/api/result/resolve", query=query, headers={"range": "bytes=4999990-5000009"})
    assert (part.status, part.body) == (206, content[4999990:5000010])
    signed = (await user.get("/api/result/url", **query, seconds=60)).json
    assert await fetched(signed["url"]) == (200, "text/csv", content)
    assert (await user.call("DELETE", "/api/result", query=query)).json["deleted_count"] == 1
    gone = await user.get("/api/result/resolve", **query)
    assert (gone.status, gone.json["code"]) == (404, "REFERENCE_NOT_AVAILABLE")
    assert (await fetched(signed["url"]))[0] == 404
