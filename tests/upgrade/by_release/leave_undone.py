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

from noetl_serverless.ledger.commits import Commits
from noetl_serverless.ledger.doorbell import Doorbell
from noetl_serverless.ledger.ledger import Ledger
from noetl_serverless.ledger.playbooks import Playbooks
from noetl_serverless.store.log import Log

from noetl_serverless.ledger import reporting
from noetl_serverless.protocol import Outcome, ReportRequest
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.connection import Database
from noetl_serverless.store.schedules import Schedules


async def killed(*_: Any, **__: Any) -> None:
    return None


async def main(url: str, reports: list[dict[str, Any]]) -> None:
    database = Database(url)
    ledger = Ledger(Log(database), Playbooks(PostgresCatalog(database), {}), Doorbell(None, None))
    Commits.append = Commits.follow = killed  # type: ignore[assignment,method-assign]
    races = reporting.RACES
    for report in reports:
        # who loses every race for the execution's row leaves the fact in the inbox
        reporting.RACES = 0 if report["how"] == "undecided" else races
        names = {name: report[name] for name in ("execution_id", "command_id", "fence", "data")}
        outcome = Outcome(**names, status="done", meta={"worker": report["worker"]})
        answer = await ledger.report(ReportRequest(worker_id=report["worker"], outcomes=[outcome]))
        assert answer.results[0].status == "accepted", answer
    await Schedules(database).claim_due(datetime.now(UTC))
    await database.close()


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
