"""What workers call, all the time: one body in, one call of the ledger, one body out."""

from __future__ import annotations

from ... import protocol
from ..operation import WORKERS, Call, Operation


async def claim(call: Call) -> protocol.ClaimResponse:
    return await call.services.ledger.claim(call.body)


async def report(call: Call) -> protocol.ReportResponse:
    return await call.services.ledger.report(call.body)


async def heartbeat(call: Call) -> protocol.HeartbeatResponse:
    return await call.services.ledger.heartbeat(call.body)


OPERATIONS = (
    Operation(
        "reportOutcomes",
        "POST",
        "/api/commands/report",
        "Report what became of commands, and get what follows, already claimed",
        "commands",
        WORKERS,
        report,
        protocol.ReportResponse,
        body=protocol.ReportRequest,
        audited=False,
    ),
    Operation(
        "claimCommands",
        "POST",
        "/api/commands/claim",
        "Claim commands under a lease, with all that is needed to run them",
        "commands",
        WORKERS,
        claim,
        protocol.ClaimResponse,
        body=protocol.ClaimRequest,
        audited=False,
    ),
    Operation(
        "heartbeat",
        "POST",
        "/api/commands/heartbeat",
        "Extend the leases of commands that still run",
        "commands",
        WORKERS,
        heartbeat,
        protocol.HeartbeatResponse,
        body=protocol.HeartbeatRequest,
        audited=False,
    ),
)
