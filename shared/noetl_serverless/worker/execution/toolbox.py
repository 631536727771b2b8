"""What the commands of a worker share, and the call of one tool."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ...errors import Problem
from ...ports import ResultStore
from ...protocol import ClaimedCommand, FetchedSecret, SecretAnswer, SecretRequest, SecretStored
from ...results.reader import Resolver
from ...telemetry import metrics
from ...telemetry.masking import masking
from ...tools.fair_queue import Share
from ...tools.port import Credential, Tool, ToolCall, ToolContext, ToolFailure, ToolOutcome
from ...tools.python_pool import PythonPool
from .errors import bounded, clean, step_error
from .refusals import Refusals
from .stopwatch import Stopwatch

logger = logging.getLogger(__name__)

LoadTool = Callable[[str], Tool]
FindCredential = Callable[[str], Awaitable[Credential]]

# a tool enforces its own timeout, with a better error message; this much later it is cancelled from outside
OVERTIME_SECONDS = 1.0
# the timeout of these kinds begins when a process is free, which cannot be seen from outside
_QUEUED = frozenset({"python"})


class SecretCache(Protocol):
    """The cache of fetched secrets that workers share. Both raise the Problem of a refusal, and Unavailable."""

    async def acquire_secret(self, request: SecretRequest) -> SecretAnswer: ...

    async def store_secret(self, request: FetchedSecret) -> SecretStored: ...


@dataclass(kw_only=True, frozen=True, slots=True)
class Toolbox:
    load_tool: LoadTool
    python: PythonPool
    credential: FindCredential
    store: ResultStore
    resolver: Resolver
    scratch: Path
    allow_private_http: bool = False
    # None: no secrets of the keychain are resolved, and their names take their place
    secrets: SecretCache | None = None
    refusals: Refusals = field(default_factory=Refusals)
    # whether the control plane knows a version of the protocol
    supports: Callable[[int], bool] = lambda version: True

    async def fetch_credential(self, name: str) -> Credential:
        credential = await self.credential(name)
        for secret in credential.secrets():
            masking.register(secret)
        return credential


@dataclass(kw_only=True, frozen=True, slots=True)
class CallIdentity:
    """Identifies a call of a tool: in logs, and to distinguish a repeated call from a new one."""

    execution_id: str
    command_id: str
    step: str
    attempt: int
    idempotency_key: str
    # of the playbook
    share: Share

    @classmethod
    def of(cls, command: ClaimedCommand, name: str, *, share: Share, attempt: int = 1) -> CallIdentity:
        """A call within `command`. `name` distinguishes it from all others of the execution."""
        return cls(
            execution_id=command.execution_id,
            command_id=command.command_id,
            step=command.step,
            attempt=attempt,
            idempotency_key=f"{command.execution_id}/{name}",
            share=share,
        )


@dataclass(frozen=True, slots=True)
class CallResult:
    outcome: ToolOutcome
    duration_ms: float


async def call_tool(
    toolbox: Toolbox,
    call: ToolCall,
    identity: CallIdentity,
    stopwatch: Stopwatch,
    credential: FindCredential | None = None,
) -> CallResult:
    """Run the tool. Every failure except cancellation is in the outcome. `credential`: where the tool's credentials are
    found; by default among the stored ones."""
    started = time.perf_counter()
    context = context_of(toolbox, identity, stopwatch.paused, credential)
    outcome = await _run(toolbox, call, context)
    if outcome.status == "error" and (task := asyncio.current_task()) is not None and task.cancelling():
        # a tool that reports an error because it was cancelled has not failed: the command is released
        raise asyncio.CancelledError
    seconds = time.perf_counter() - started
    metrics.tool_seconds.labels(call.kind, outcome.status).observe(seconds)
    if outcome.status == "error":
        error = outcome.error or {"message": f"the {call.kind} tool gave no reason"}
        outcome.error = clean({"kind": call.kind, "code": "tool.failed", "retryable": False, **error})
    if outcome.extra:
        outcome.extra = bounded(outcome.extra)
    if outcome.meta:
        outcome.meta = bounded(outcome.meta)
    return CallResult(outcome, round(seconds * 1000, 3))


async def _run(toolbox: Toolbox, call: ToolCall, context: ToolContext) -> ToolOutcome:
    try:
        tool = toolbox.load_tool(call.kind)
        if call.timeout is None or call.kind in _QUEUED:
            return await tool.run(call, context)
        limit = asyncio.timeout(call.timeout + OVERTIME_SECONDS)
        try:
            async with limit:
                return await tool.run(call, context)
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"{call.kind} did not end within {call.timeout:g} s"
            return _failed(step_error(call.kind, "tool.timeout", message, retryable=True))
    except ToolFailure as failure:
        return failure.outcome()
    except Problem as problem:
        return _failed(step_error(call.kind, problem.code, problem.detail, retryable=problem.status >= 500))
    except LookupError as error:
        # this worker lacks the tool: the playbook was registered where it exists
        return _failed(step_error(call.kind, "tool.unavailable", str(error)))
    except Exception as error:
        logger.exception("the %s tool raised", call.kind)
        return _failed(step_error(call.kind, "tool.internal", f"{type(error).__name__}: {error}"))


def context_of(
    toolbox: Toolbox,
    identity: CallIdentity,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    credential: FindCredential | None = None,
) -> ToolContext:
    return ToolContext(
        execution_id=identity.execution_id,
        command_id=identity.command_id,
        step=identity.step,
        attempt=identity.attempt,
        idempotency_key=identity.idempotency_key,
        credential=credential or toolbox.fetch_credential,
        python=toolbox.python,
        scratch=toolbox.scratch,
        allow_private_http=toolbox.allow_private_http,
        waiting=waiting,
        share=identity.share,
    )


def _failed(error: dict[str, Any]) -> ToolOutcome:
    return ToolOutcome("error", error=error)
