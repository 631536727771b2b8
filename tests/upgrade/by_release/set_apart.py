"""Run by the newer release's own Python: report what cannot be decided, and what is reported twice.

Arguments: the database's URL, and as JSON what to report: [{"execution_id", "command_id", "fence", "worker", "data",
"how"}]. `how`: `undecidable` by a fault that is planted in the engine meanwhile; `twice` leaves a second one of the
fact in the inbox once it has been decided, as two did who handed it in at once, and takes that in too.
"""

import asyncio
import json
import sys
from typing import Any

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.protocol import Outcome, ReportRequest
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore

AGAIN = """
    INSERT INTO noetl.inbox (execution_id, type, step, generation, command_id, at, payload)
    SELECT execution_id, type, step, generation, command_id, at, payload FROM noetl.event
    WHERE execution_id = :id AND command_id = :command AND type = 'call.done' RETURNING inbox_id"""


def broken(decider: decide.Decider) -> None:
    raise RuntimeError("a fault of the engine, planted")


async def main(url: str, reports: list[dict[str, Any]]) -> None:
    database = Database(url, 4)
    orchestrator = Orchestrator(
        PostgresEventStore(database), Plans(PostgresCatalog(database), {}), Notifications(None, None)
    )
    sound = decide.DECIDE[e.CALL_DONE]
    for report in reports:
        decide.DECIDE[e.CALL_DONE] = broken if report["how"] == "undecidable" else sound
        names = {name: report[name] for name in ("execution_id", "command_id", "fence", "data")}
        outcome = Outcome(**names, status="done", meta={"worker": report["worker"]})
        answer = await orchestrator.report(ReportRequest(worker_id=report["worker"], outcomes=[outcome]))
        assert answer.results[0].status == "accepted", answer
        if report["how"] == "twice":
            assert await database.run(AGAIN, id=int(report["execution_id"]), command=report["command_id"])
            assert await orchestrator.process_inbox(report["execution_id"])
        else:
            assert (await orchestrator.state(report["execution_id"])).quarantined
    await database.close()


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
