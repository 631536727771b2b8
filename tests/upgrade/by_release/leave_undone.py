"""Run by a release's own Python: do what a control plane and a reconciler do, and stop where they may be killed.

Arguments: the database's URL, and as JSON what to report: [{"execution_id", "command_id", "fence", "worker", "data",
"how"}]. `how`: `undecided` leaves the fact in the inbox; `unfollowed` decides it, and leaves the fact that the
parent gets by that in the parent's inbox. At last the runs of schedules that are due are owed, and not started.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

from noetl_serverless.protocol import Outcome, ReportRequest
from noetl_serverless.store.schedules import Schedules

try:
    from noetl_serverless.orchestrator import reports as reporting
    from noetl_serverless.orchestrator.commits import Commits
    from noetl_serverless.orchestrator.notifications import Notifications
    from noetl_serverless.orchestrator.orchestrator import Orchestrator
    from noetl_serverless.orchestrator.plans import Plans
    from noetl_serverless.store.catalog import PostgresCatalog
    from noetl_serverless.store.database import Database
    from noetl_serverless.store.event_store import PostgresEventStore

    ATTEMPTS, COMMIT, FOLLOW = "MAX_ATTEMPTS", "commit_fact", "process_inboxes"
except ModuleNotFoundError:
    # what the releases up to 4fe7d66 call the same
    from noetl_serverless.ledger import reporting  # type: ignore[no-redef,import-not-found]
    from noetl_serverless.ledger.commits import Commits  # type: ignore[no-redef,import-not-found]
    from noetl_serverless.ledger.doorbell import Doorbell as Notifications  # type: ignore[no-redef,import-not-found]
    from noetl_serverless.ledger.ledger import Ledger as Orchestrator  # type: ignore[no-redef,import-not-found]
    from noetl_serverless.ledger.playbooks import Playbooks as Plans  # type: ignore[no-redef,import-not-found]
    from noetl_serverless.store.log import Log as PostgresEventStore  # type: ignore[no-redef,import-not-found]

    from noetl_serverless.store.catalog import Catalog as PostgresCatalog  # type: ignore[no-redef,attr-defined]
    from noetl_serverless.store.connection import Database  # type: ignore[no-redef,attr-defined]

    ATTEMPTS, COMMIT, FOLLOW = "RACES", "append", "follow"


async def killed(*_: Any, **__: Any) -> None:
    return None


async def main(url: str, reports: list[dict[str, Any]]) -> None:
    database = Database(url, 4)
    plans = Plans(PostgresCatalog(database), {})
    orchestrator = Orchestrator(PostgresEventStore(database), plans, Notifications(None, None))
    setattr(Commits, COMMIT, killed)
    setattr(Commits, FOLLOW, killed)
    attempts = getattr(reporting, ATTEMPTS)
    for report in reports:
        # who loses every race for the execution's row leaves the fact in the inbox
        setattr(reporting, ATTEMPTS, 0 if report["how"] == "undecided" else attempts)
        names = {name: report[name] for name in ("execution_id", "command_id", "fence", "data")}
        outcome = Outcome(**names, status="done", meta={"worker": report["worker"]})
        answer = await orchestrator.report(ReportRequest(worker_id=report["worker"], outcomes=[outcome]))
        assert answer.results[0].status == "accepted", answer
    await Schedules(database).claim_due(datetime.now(UTC), 100)
    await database.close()


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
