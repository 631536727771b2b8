"""Every operation of the control plane, over HTTP and a real PostgreSQL, with what schemathesis makes of its schema.

Half of the inputs name things that exist: with random names alone nothing but 404 would be seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette
from tests.integration.control_plane.conftest import SETTINGS

from noetl_serverless.control_plane.app import create_app
from noetl_serverless.control_plane.openapi import document
from noetl_serverless.control_plane.tokens import mint
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.migrate import migrate
from noetl_serverless.store.reader_role import create_reader_role, url_as_reader

from .conftest import FUZZ, TOKEN_KEY, Serve

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: two, path: demo/two}
triggers: [{name: hook, kind: webhook, auth: c, input: {n: "{{ event.data.n }}"}}]
workload: {a: {b: 1}}
workflow: [{step: first, tool: {kind: python, code: "result = 1"}}]
"""


def without_tuples(shape: Any) -> Any:
    """schemathesis makes of `prefixItems` in an answer what it then calls no schema."""
    if isinstance(shape, dict):
        return {name: without_tuples(value) for name, value in shape.items() if name != "prefixItems"}
    return [without_tuples(item) for item in shape] if isinstance(shape, list) else shape


schema = schemathesis.openapi.from_dict(
    without_tuples(document()),
    config=SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GenerationConfig(modes=MODES)))),
)


class Api:
    def __init__(self, url: str) -> None:
        self.url = url
        token = mint(TOKEN_KEY, "operator", "hostile", 3600)
        self.headers = {"authorization": f"Bearer {token}"}
        self.known: dict[str, str] = {}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = requests.post(self.url + path, json=body, headers=self.headers, timeout=30)
        assert answer.ok, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def api(postgres_server: Postgres, serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Api:
    create_database(postgres_server.url, "openapi")
    url = postgres_server.url_of("openapi")
    migrate(url)
    create_reader_role(url, "of-readers")
    given = replace(SETTINGS, reader_database_url=url_as_reader(url, "of-readers"))
    results = FsspecResultStore(tmp_path_factory.mktemp("results").as_uri())
    database = Database(url, 4)

    async def make() -> Starlette:
        catalog = PostgresCatalog(database)
        orchestrator = Orchestrator(PostgresEventStore(database), Plans(catalog), Notifications(None, None))
        return create_app(given, database=database, orchestrator=orchestrator, catalog=catalog, results=lambda: results)

    api = Api(serve(make, database.close).url)
    registered = api.post("/api/catalog/register", {"content": PLAYBOOK})
    api.known = {
        "execution_id": api.post("/api/execute", {"path": "demo/two"})["execution_id"],
        "trigger": "demo/two/hook",
        "event_id": api.post("/api/triggers/demo/two/hook/fire", {})["event_id"],
        "schedule": api.post("/api/schedules", {"path": "demo/two", "cron": "0 0 1 1 *", "name": "yearly"})["name"],
        "name": api.post("/api/credentials", {"name": "c", "data": {"password": "x"}})["name"],
        "catalog_id": registered["catalog_id"],
        "path": "demo/two",
        "playbook_path": "demo/two",
        "step": "first",
        "step_name": "first",
        "generation": "1",
        "query": "SELECT * FROM noetl.execution",
    }
    return api


@pytest.mark.parametrize("existing", [False, True])
@schema.parametrize()
@settings(FUZZ, max_examples=8)
def test_every_answer_is_what_the_document_says(case: Any, existing: bool, api: Api) -> None:
    if existing:
        for part in (case.path_parameters, case.query, case.body):
            if isinstance(part, dict):
                part.update({name: value for name, value in api.known.items() if name in part})
    if isinstance(case.query, dict) and "wait" in case.query:
        # up to a minute, as asked
        case.query["wait"] = 0
    case.call_and_validate(base_url=api.url, headers=api.headers, checks=CHECKS, timeout=30)
