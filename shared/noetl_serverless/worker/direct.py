"""The orchestrator in the worker's own process: a step costs one hop less."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import Problem
from ..orchestrator import orchestrator
from ..protocol import (
    ClaimRequest,
    ClaimResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ReportRequest,
    ReportResponse,
)
from ..store.refusal import refusal_of
from .orchestrator import MAX_REPORT_TRIES, Response, refusal
from .tries import TryFailed, until_answered

logger = logging.getLogger(__name__)

T = TypeVar("T")


class DirectOrchestrator:
    """An `Orchestrator` whose calls are answered in this process; they need no timeout of their own, because each
    statement of the database has one."""

    def __init__(self, instance: orchestrator.Orchestrator) -> None:
        self._orchestrator = instance

    def supports(self, version: int) -> bool:
        return True

    async def claim(self, request: ClaimRequest, *, timeout: float) -> Response[ClaimResponse]:
        answer, doubtful = await _until_answered(lambda: self._orchestrator.claim(request), timeout)
        return Response(answer, doubtful)

    async def report(self, request: ReportRequest, *, timeout: float) -> Response[ReportResponse]:
        answer, doubtful = await _until_answered(
            lambda: self._orchestrator.report(request), timeout, max_tries=MAX_REPORT_TRIES
        )
        return Response(answer, doubtful)

    async def heartbeat(self, request: HeartbeatRequest, *, timeout: float) -> HeartbeatResponse:
        return (await _until_answered(lambda: self._orchestrator.heartbeat(request), timeout))[0]


async def _until_answered(
    call: Callable[[], Awaitable[T]], timeout: float, max_tries: int | None = None
) -> tuple[T, bool]:
    async def once(remaining: float) -> T:
        try:
            return await call()
        except Exception as error:
            problem = refusal_of(error)
            if isinstance(problem, Problem) and problem.status < 500:
                raise refusal(problem.status, problem.detail) from error
            if not isinstance(error, Problem):
                logger.exception("the orchestrator failed")
            status = error.status if isinstance(error, Problem) else 500
            reason = f": {error.detail}" if isinstance(error, Problem) else ""
            raise TryFailed(f"it failed with {type(error).__name__}{reason}", reached=True, status=status) from error

    return await until_answered(once, timeout, max_tries)
