"""The calls of a drain to the control plane, answered by a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noetl_serverless.protocol import Order, Outcome, ReportResponse, ReportResult
from noetl_serverless.worker.drain.shared_lock import SharedLock
from noetl_serverless.worker.orchestrator import Response


class FakeCalls:
    """Answers each report by the script: a status for all, an answer, an exception, or an async function that gives one
    of these; the last one repeats."""

    lease_seconds = 30.0

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.reports: list[list[str]] = []
        # of the outcomes of each report: their executions, fences and statuses
        self.executions: list[list[str]] = []
        self.fences: list[list[int]] = []
        self.statuses: list[list[str]] = []
        self.lock = SharedLock()
        self.answered_at = 0.0
        self.recoveries = 0

    def recover(self) -> None:
        self.recoveries += 1

    def is_fair_claim_due(self) -> bool:
        return False

    def lease_end(self, sent: float) -> float:
        return sent + self.lease_seconds

    async def report(
        self, outcomes: list[Outcome], capacity: int, running: Sequence[Order] = (), *, fair_claim: bool = False
    ) -> Response[ReportResponse]:
        self.reports.append([outcome.command_id for outcome in outcomes])
        self.executions.append([outcome.execution_id for outcome in outcomes])
        self.fences.append([outcome.fence for outcome in outcomes])
        self.statuses.append([outcome.status for outcome in outcomes])
        says = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(says):
            says = await says()
        if isinstance(says, Exception):
            raise says
        if isinstance(says, ReportResponse):
            return Response(says, False)
        results = [
            ReportResult(execution_id=each.execution_id, command_id=each.command_id, status=says) for each in outcomes
        ]
        return Response(ReportResponse(results=results, commands=[]), False)
