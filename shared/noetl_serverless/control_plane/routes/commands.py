"""The frequent calls of workers. Each one is a single call of the orchestrator."""

from __future__ import annotations

from typing import TypeVar

from ... import protocol
from ...limits import ANSWER_BYTES
from ..encode import encode
from ..operation import WORKERS, Call, Operation

A = TypeVar("A", protocol.ClaimResponse, protocol.ReportResponse)


async def claim(call: Call) -> bytes:
    return await _fit_to_limit(call, await call.services.orchestrator.claim(call.body))


async def report(call: Call) -> bytes:
    return await _fit_to_limit(call, await call.services.orchestrator.report(call.body))


async def heartbeat(call: Call) -> protocol.HeartbeatResponse:
    return await call.services.orchestrator.heartbeat(call.body)


async def _fit_to_limit(call: Call, answer: A) -> bytes:
    """The answer in the worker's version of the protocol, with no more commands than fit into it. The others are
    released and wait for the next claim."""
    excluded = {}
    if not call.supports_protocol(2):
        commands = await call.services.orchestrator.for_older_worker(call.body.worker_id, answer.commands)
        answer = answer.model_copy(update={"commands": commands})
        excluded = {"commands": {"__all__": {"lost"}}}
    content = encode(answer, without=excluded)
    while len(content) > ANSWER_BYTES and len(answer.commands) > 1:
        half = len(answer.commands) // 2
        kept, returned = answer.commands[:half], answer.commands[half:]
        await call.services.orchestrator.return_commands(call.body.worker_id, returned)
        plans = {command.plan for command in kept}
        texts = {hash: text for hash, text in answer.plans.items() if hash in plans}
        answer = answer.model_copy(update={"commands": kept, "plans": texts})
        content = encode(answer, without=excluded)
    return content


OPERATIONS = (
    Operation(
        "reportOutcomes",
        "POST",
        "/api/commands/report",
        summary="Report the outcomes of commands; returns the next commands, already claimed",
        tag="commands",
        roles=WORKERS,
        handler=report,
        answer=protocol.ReportResponse,
        body=protocol.ReportRequest,
        audited=False,
    ),
    Operation(
        "claimCommands",
        "POST",
        "/api/commands/claim",
        summary="Claim commands under a lease, with everything needed to run them",
        tag="commands",
        roles=WORKERS,
        handler=claim,
        answer=protocol.ClaimResponse,
        body=protocol.ClaimRequest,
        audited=False,
    ),
    Operation(
        "heartbeat",
        "POST",
        "/api/commands/heartbeat",
        summary="Extend the leases of commands that still run",
        tag="commands",
        roles=WORKERS,
        handler=heartbeat,
        answer=protocol.HeartbeatResponse,
        body=protocol.HeartbeatRequest,
        audited=False,
    ),
)
