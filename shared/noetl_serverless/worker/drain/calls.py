"""The calls of one drain to the control plane. Each may raise Problem."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ...errors import InvalidRequest
from ...protocol import (
    ClaimRequest,
    ClaimResponse,
    CommandKey,
    HeartbeatRequest,
    HeartbeatResponse,
    Held,
    Instance,
    Order,
    Outcome,
    ReportRequest,
    ReportResponse,
)
from ...telemetry.presence import FOLDED_AFTER_SECONDS
from ..execution.time_budget import TimeBudget
from ..orchestrator import Response
from .context import WorkerContext
from .keys import Key
from .shared_lock import SharedLock
from .slots import Slots


class Calls:
    def __init__(
        self,
        context: WorkerContext,
        budget: TimeBudget,
        slots: Slots,
        recover: Callable[[], None],
    ) -> None:
        """`recover`: request the commands that a lost answer may have contained."""
        self.lease_seconds = context.settings.lease
        # when the control plane last answered anything, by the loop's clock
        self.answered_at = 0.0
        # shared by calls that bring commands; exclusive for a recovery, which asks for all that this worker holds
        self.lock = SharedLock()
        self.recover = recover
        self._orchestrator = context.orchestrator
        self._worker_id = context.worker_id
        self._pool = context.settings.pool
        self._plans = context.plans
        self._registry = context.presence
        self._budget = budget
        self._slots = slots

    def supports(self, version: int) -> bool:
        return self._orchestrator.supports(version)

    def lease_end(self, sent: float, seconds: float | None = None) -> float:
        """When a lease, of so many seconds, expires that was granted by a call sent at `sent`, by the loop's clock."""
        return sent + (self.lease_seconds if seconds is None else seconds)

    async def claim(self, keys: Sequence[CommandKey], limit: int) -> Response[ClaimResponse]:
        """Claim `keys` or, without any, whatever is pending, with executions taking turns."""
        return await self._claim(self._claim_request(limit, commands=list(keys)))

    async def recover_leases(self, holding: Sequence[Key]) -> Response[ClaimResponse]:
        """The commands that this worker holds besides `holding`."""
        keys = [CommandKey(execution_id=execution, command_id=command) for execution, command in holding]
        return await self._claim(self._claim_request(0, recover=True, holding=keys))

    async def report(
        self, outcomes: list[Outcome], capacity: int, running: Sequence[Order] = (), *, fair_claim: bool = False
    ) -> Response[ReportResponse]:
        """`capacity`: how many commands the answer may bring; `running`: commands that already run here; `fair_claim`:
        one of `capacity` goes to a fair claim."""
        if fair_claim:
            self._slots.record_fair_claim()
        request = ReportRequest(
            worker_id=self._worker_id,
            pool=self._pool,
            outcomes=outcomes,
            capacity=min(capacity, 1000),
            turn=fair_claim,
            lease=self.lease_seconds,
            plans=self._plans.recent(),
            running=list(running),
        )
        try:
            answer = await self._orchestrator.report(request, timeout=self._timeout())
        except InvalidRequest:
            if not fair_claim:
                raise
            # a control plane of the previous release may share the address, and knows no fair claims
            request = request.model_copy(update={"turn": False})
            answer = await self._orchestrator.report(request, timeout=self._timeout())
        self._record_answer()
        if answer.doubtful:
            self.recover()
        return answer

    async def heartbeat(self, held: list[Held], seconds: float) -> HeartbeatResponse:
        """Extend the leases to so many seconds from now."""
        request = HeartbeatRequest(
            worker_id=self._worker_id, commands=held, lease=seconds, instance=self._instance_if_due()
        )
        answer = await self._orchestrator.heartbeat(request, timeout=self.lease_seconds / 3)
        self._record_answer()
        return answer

    def is_fair_claim_due(self) -> bool:
        return self._slots.is_fair_claim_due and self.supports(2)

    async def _claim(self, request: ClaimRequest) -> Response[ClaimResponse]:
        answer = await self._orchestrator.claim(request, timeout=self._timeout())
        self._record_answer()
        return answer

    def _claim_request(
        self,
        limit: int,
        *,
        commands: list[CommandKey] | None = None,
        recover: bool = False,
        holding: list[CommandKey] | None = None,
    ) -> ClaimRequest:
        return ClaimRequest(
            worker_id=self._worker_id,
            pool=self._pool,
            commands=commands or [],
            limit=limit,
            lease=self.lease_seconds,
            plans=self._plans.recent(),
            recover=recover,
            holding=holding or [],
            instance=self._instance_if_due(),
        )

    def _instance_if_due(self) -> Instance | None:
        """What the registry is to be told with a call that is made anyway."""
        if not self.supports(3):
            return None
        return self._registry.due("busy", len(self._slots.running), after=FOLDED_AFTER_SECONDS)

    def _timeout(self) -> float:
        return max(1.0, self._budget.left())

    def _record_answer(self) -> None:
        self.answered_at = asyncio.get_running_loop().time()
