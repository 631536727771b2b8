"""Objects that a bucket's service tells of, as events of the triggers that mean them."""

from __future__ import annotations

import base64
import json

from starlette.applications import Starlette
from tests.integration.control_plane.conftest import Client, database  # noqa: F401

from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.hosts.gcp.object_events import written_object
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.orchestrator.triggers import TriggerStarts
from noetl_serverless.reconciler.objects import ObjectEvents
from noetl_serverless.reconciler.passes import Passes
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.reconciler.service import create_app
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.schedules import Schedules
from noetl_serverless.store.triggers import Triggers

TEXT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: NAME, path: objects/NAME}
triggers:
  - {name: files, kind: object, url: "URL", suffix: .csv, input: {url: "{{ event.data.url }}"}}
workload: {url: null}
workflow:
  - {step: one, tool: {kind: python, code: "result = 1"}}
"""
URLS = {
    "exact": "gs://orders/in/",
    "whole": "gs://orders",
    "other_prefix": "gs://orders/out/",
    "other_bucket": "gs://order",
    "other_cloud": "s3://orders/in/",
}


def app_of(database: Database) -> Starlette:  # noqa: F811
    log, notifications = PostgresEventStore(database), Notifications(None, None)
    orchestrator = Orchestrator(log, Plans(PostgresCatalog(database)), notifications)
    triggers = Triggers(database)
    objects = ObjectEvents(triggers, TriggerStarts(triggers, orchestrator))

    async def record(body: bytes) -> None:
        if (one := written_object(body)) is not None:
            await objects.receive([one])

    async def close() -> None:
        return

    reconciler = Reconciler(log, orchestrator, Schedules(database), notifications, max_deliveries=5)
    return create_app(Passes(reconciler), checks={}, close=close, on_message=record)


def push(key: str, generation: int) -> bytes:
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": "orders",
        "objectId": key,
        "objectGeneration": str(generation),
        "eventTime": "2025-07-01T12:00:00Z",
    }
    message = {"attributes": attributes, "data": base64.b64encode(b"{}").decode(), "messageId": "1"}
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()


async def test_an_object_starts_one_execution_of_each_playbook_that_means_it(
    database: Database,  # noqa: F811
) -> None:
    for name, url in URLS.items():
        await PostgresCatalog(database).register(document_of(TEXT.replace("NAME", name).replace("URL", url)))
    reconciler = Client(app_of(database), "")
    pushes = [push("in/a.csv", 1)] * 3 + [push("in/a.csv", 2), push("in/b.txt", 1), b"", b"{}", b"x" * 2_000_000]
    for body in pushes:
        assert (await reconciler.call("POST", "/", body)).status == 200
    started = await database.run("SELECT path, workload->>'url' FROM noetl.execution ORDER BY 1, execution_id")
    # of each, once for each generation
    assert started == [[f"objects/{name}", "gs://orders/in/a.csv"] for name in ("exact", "exact", "whole", "whole")]
