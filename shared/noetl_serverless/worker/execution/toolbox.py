"""What the commands of a worker share, and the call of one tool."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ...errors import Problem
from ...limits import INLINE_BYTES
from ...protocol import (
    CallbackRequest,
    CallbackUrl,
    ClaimedCommand,
    FetchedSecret,
    SecretAnswer,
    SecretRequest,
    SecretStored,
)
from ...results.files import ResultFiles
from ...results.reader import Resolver
from ...results.stores import ResultStores
from ...tables.listed import TableTooLarge, listed
from ...tables.sealed import IN_MEMORY
from ...tables.table import InvalidTable
from ...telemetry import metrics
from ...telemetry.masking import masking
from ...tools.fair_queue import NO_SHARE, Share
from ...tools.port import Credential, Tool, ToolCall, ToolContext, ToolFailure, ToolOutcome
from ...tools.python_pool import PythonPool
from .errors import bounded, clean, step_error
from .refusals import Refusals

logger = logging.getLogger(__name__)

LoadTool = Callable[[str], Tool]
FindCredential = Callable[[str], Awaitable[Credential]]

# a tool enforces its own timeout, with a better error message; this much later it is cancelled from outside
OVERTIME_SECONDS = 1.0
# the timeout of these kinds begins when a process is free, which cannot be seen from outside
_QUEUED = frozenset({"python"})


class SecretCache(Protocol):
    """What workers ask of the control plane for their keychains: the cache of fetched secrets, which they share, and
    callback URLs. All raise the Problem of a refusal, and Unavailable."""

    async def acquire_secret(self, request: SecretRequest) -> SecretAnswer: ...

    async def store_secret(self, request: FetchedSecret) -> SecretStored: ...

    async def callback_url(self, request: CallbackRequest) -> CallbackUrl: ...


@dataclass(kw_only=True, frozen=True, slots=True)
class Toolbox:
    load_tool: LoadTool
    python: PythonPool
    credential: FindCredential
    stores: ResultStores
    resolver: Resolver
    scratch: Path
    # of tables; without them they are lists
    files: ResultFiles | None = None
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


async def call_tool(load_tool: LoadTool, call: ToolCall, context: ToolContext) -> tuple[ToolOutcome, float]:
    """Run the tool: its outcome, in which every failure except cancellation is, and the milliseconds that it took."""
    started = time.perf_counter()
    outcome = await _run(load_tool, call, context)
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
    return outcome, round(seconds * 1000, 3)


async def _run(load_tool: LoadTool, call: ToolCall, context: ToolContext) -> ToolOutcome:
    try:
        tool = load_tool(call.kind)
        call = await _plain(tool, call)
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
    except TableTooLarge as error:
        return _failed(step_error("value", "value.too_large", f"{call.kind}: {error}"))
    except InvalidTable as error:
        return _failed(step_error("value", "value.invalid", f"{call.kind}: a table cannot be read: {error}"))
    except LookupError as error:
        # this worker lacks the tool: the playbook was registered where it exists
        return _failed(step_error(call.kind, "tool.unavailable", str(error)))
    except Exception as error:
        logger.exception("the %s tool raised", call.kind)
        return _failed(step_error(call.kind, "tool.internal", f"{type(error).__name__}: {error}"))


async def _plain(tool: Tool, call: ToolCall) -> ToolCall:
    """The call, with lists in the place of its tables unless the tool takes these. Raises TableTooLarge, and
    InvalidTable."""
    if not call.has_tables or getattr(tool, "takes_tables", False):
        return call
    return await asyncio.to_thread(lambda: replace(call, config=listed(call.config), input=listed(call.input)))


def context_of(
    toolbox: Toolbox,
    command: ClaimedCommand,
    name: str,
    *,
    attempt: int = 1,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    credential: FindCredential | None = None,
    share: Share = NO_SHARE,
    inline_bytes: int = INLINE_BYTES,
) -> ToolContext:
    """The context of a call within `command`. `name` distinguishes it from all others of the execution; `credential`:
    where the tool's credentials are found, by default among the stored ones; `share`: that of the playbook;
    `inline_bytes`: the largest rows that stay a list."""
    return ToolContext(
        execution_id=command.execution_id,
        command_id=command.command_id,
        step=command.step,
        attempt=attempt,
        idempotency_key=f"{command.execution_id}/{name}",
        credential=credential or toolbox.fetch_credential,
        python=toolbox.python,
        scratch=toolbox.scratch,
        allow_private_http=toolbox.allow_private_http,
        waiting=waiting,
        share=share,
        inline_bytes=inline_bytes,
        files=IN_MEMORY if toolbox.files is None else toolbox.files,
    )


def _failed(error: dict[str, Any]) -> ToolOutcome:
    return ToolOutcome("error", error=error)
