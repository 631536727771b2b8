"""The port by which a worker reaches the orchestrator, which may run in another function or in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from ..errors import Forbidden, InvalidRequest, NotFound, Problem, TooLarge, Unauthenticated, Unsupported
from ..protocol import (
    ClaimRequest,
    ClaimResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ReportRequest,
    ReportResponse,
)

M = TypeVar("M", bound=BaseModel)

# how often a report is sent before its sender decides what to do next
MAX_REPORT_TRIES = 3
_PROBLEMS: dict[int, type[Problem]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    422: InvalidRequest,
    501: Unsupported,
}


@dataclass(frozen=True, slots=True)
class Response(Generic[M]):
    """`doubtful`: an earlier try may have taken effect although its answer was lost."""

    body: M
    doubtful: bool


class Orchestrator(Protocol):
    """Every call is tried again while the orchestrator does not answer. Raises Unavailable after `timeout` seconds, and
    the Problem of a refusal. Unavailable has the HTTP status of the last try in `answered`, if there was one; it is
    `doubtful` if the call may have taken effect.

    A lease is released by a report with the status `released`: it goes with the outcomes that are reported then.
    """

    def supports(self, version: int) -> bool:
        """Whether the orchestrator supports this version of the protocol."""
        ...

    async def claim(self, request: ClaimRequest, *, timeout: float) -> Response[ClaimResponse]: ...

    async def report(self, request: ReportRequest, *, timeout: float) -> Response[ReportResponse]:
        """Tried at most MAX_REPORT_TRIES times, because the report itself may make the orchestrator fail. An outcome
        that was accepted the first time is `stale` the second time."""
        ...

    async def heartbeat(self, request: HeartbeatRequest, *, timeout: float) -> HeartbeatResponse:
        """Extend leases; the answer names those that the worker has lost."""
        ...


def refusal(status: int, detail: str) -> Problem:
    """The Problem of an answer with this HTTP status."""
    return _PROBLEMS.get(status, Problem)(detail)
