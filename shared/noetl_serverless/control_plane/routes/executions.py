"""Executions: list them, read their status, and cancel them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from ...engine import events as e
from ...engine.state import State
from ...errors import NotFound, Problem
from ...limits import PAGE_BYTES
from ...plurals import counted
from ...store.executions import CANCELLED, COMPLETED, ENDED, FAILED, RUNNING, Execution
from ..models.executions import (
    PAUSED,
    Cancel,
    CancellationCheck,
    Cancelled,
    CleanedUp,
    CleanUp,
    EventEntry,
    ExecutionDetail,
    ExecutionEntry,
    ExecutionStatus,
    Finalize,
    Finalized,
    GetExecution,
    GetStatus,
    ListExecutions,
    Origin,
    Pagination,
    duration,
    entry_fields,
    human,
)
from ..models.runs import MAX_CHILDREN, parked_timers, under_way
from ..operation import USERS, Call, Operation
from ..page import Page, truncate_payloads
from .execute import principal_of
from .identifiers import execution_id_of


async def entries(call: Call) -> Page:
    query: ListExecutions = call.query
    found, more = await call.services.executions.entries(
        status=query.status,
        paused=query.status == PAUSED,
        path=query.path,
        parent=None if query.parent_execution_id is None else int(query.parent_execution_id),
        principal=query.principal,
        principal_kind=query.principal_kind,
        since=query.since,
        until=query.until,
        before=None if query.before is None else int(query.before),
        limit=query.page_size,
        offset=(query.page - 1) * query.page_size,
    )
    now = call.services.now()
    items = [ExecutionEntry.of(execution, now) for execution in found]
    return Page(items, more=more, next_parameters=lambda entry: {"before": entry.execution_id, "page": None})


async def detail(call: Call) -> ExecutionDetail:
    query: GetExecution = call.query
    execution_id = execution_id_of(call)
    execution = await call.services.executions.get(execution_id)
    events: list[EventEntry] = []
    pagination = None
    if query.include_events:
        found, total = await call.services.executions.events_page(
            execution_id,
            after=query.since_event_id,
            type=query.event_type,
            limit=query.page_size,
            offset=(query.page - 1) * query.page_size,
        )
        events = truncate_payloads(EventEntry.of(event) for event in found)
        pagination = _pagination(query, total)
    first = await call.services.executions.events(execution_id, after=0, limit=1)
    origin = first[0].payload.get(e.ORIGIN) if first else None
    return ExecutionDetail(
        **entry_fields(execution, call.services.now()),
        origin=None if origin is None else Origin.model_validate(origin),
        warnings=execution.warnings or [],
        quarantined=execution.quarantined,
        restarts=[str(id) for id in await call.services.executions.restarts(execution_id)],
        events=events,
        events_included=query.include_events,
        events_endpoint=f"/api/executions/{execution_id}/events",
        pagination=pagination,
    )


async def status(call: Call) -> ExecutionStatus:
    query: GetStatus = call.query
    execution_id = execution_id_of(call)
    execution = await call.services.executions.get(execution_id)
    if execution.archived:
        state = await call.services.executions.state(execution_id)
    else:
        state = await call.services.orchestrator.state(str(execution_id))
    executions = call.services.executions
    outstanding = [] if state.ended else await executions.outstanding(execution_id, parked_timers(state))
    # in quarantine the state keeps the tokens that were under way
    current = [] if state.ended else sorted({token.step for token in state.tokens.values()})
    seconds = duration(execution.created_at, execution.ended_at, call.services.now())
    return ExecutionStatus(
        execution_id=str(execution_id),
        status=execution.status,
        current_step=current[0] if current else state.last,
        current_steps=current,
        under_way=under_way(state, outstanding),
        kept_signals=[signal.name for signal in state.signals[:MAX_CHILDREN]],
        completed_steps=_completed(state),
        failed=execution.status == FAILED,
        completed=execution.status in (COMPLETED, CANCELLED),
        cancelled=execution.status == CANCELLED,
        variables={**state.ctx, **(await _read(call, state.ctx_refs) if query.full else state.ctx_refs)},
        error=execution.error,
        principal=execution.principal,
        warnings=execution.warnings or [],
        quarantined=execution.quarantined,
        paused_since=None if state.paused is None else datetime.fromtimestamp(state.paused.at / 1000, UTC),
        start_time=execution.created_at,
        end_time=execution.ended_at,
        duration_seconds=seconds,
        duration_human=human(seconds),
    )


async def cancel(call: Call) -> Cancelled:
    body: Cancel = call.body
    execution_id = str(execution_id_of(call))
    try:
        status, cancelled = await call.services.orchestrator.controls.cancel(execution_id, body.reason, body.cascade)
    except NotFound:
        # an archived execution has ended; this raises NotFound again if there is no execution at all
        await call.services.executions.get(int(execution_id))
        status, cancelled = "already_completed", []
    count = len(cancelled)
    return Cancelled(
        status=status,
        execution_id=execution_id,
        cancelled_executions=cancelled,
        message=f"cancelled {counted(count, 'execution')}" if count else "the execution has already ended",
    )


async def _read(call: Call, refs: dict[str, Any]) -> dict[str, Any]:
    """The values of ctx that are stored by reference; the reference for each that does not fit or is not there."""
    values = dict(refs)
    remaining = PAGE_BYTES
    for name, ref in refs.items():
        size = int(ref.get("meta", {}).get("bytes", 0))
        if size <= remaining:
            try:
                store = call.services.results().named(ref["store"])
                values[name] = orjson.loads(await store.get_range(ref["key"], 0, size))
                remaining -= size
            except (KeyError, ValueError):
                continue
    return values


async def cancellation_check(call: Call) -> CancellationCheck:
    execution_id = execution_id_of(call)
    execution = await call.services.executions.get(execution_id)
    cancelled = execution.status == CANCELLED
    return CancellationCheck.model_validate(
        {
            "execution_id": str(execution_id),
            "cancelled": cancelled,
            "status": execution.status,
            "ended": execution.status in ENDED,
            "reason": (execution.error or {}).get("message") if cancelled else None,
        }
    )


async def finalize(call: Call) -> Finalized:
    body: Finalize = call.body
    execution_id = str(execution_id_of(call))
    try:
        status, ended = await call.services.orchestrator.controls.finalize(
            execution_id, body.reason, principal_of(call)
        )
    except NotFound:
        # an archived execution has ended; this raises NotFound again if there is no execution at all
        await call.services.executions.get(int(execution_id))
        status, ended = "already_completed", []
    if status == "already_completed":
        status = (await call.services.executions.get(int(execution_id))).status
    return Finalized.model_validate(
        {
            "status": "finalized" if ended else "already_completed",
            "execution_id": execution_id,
            "execution_status": status.upper(),
            "finalized_executions": ended,
            "message": f"forced {counted(len(ended), 'execution')} to end"
            if ended
            else "the execution has already ended",
        }
    )


async def clean_up(call: Call) -> CleanedUp:
    """Each by itself: one that cannot be cancelled now does not keep the others from it."""
    body: CleanUp = call.body
    minutes = f"{body.older_than_minutes:g} {'minute' if body.older_than_minutes == 1 else 'minutes'}"
    found, more = await call.services.executions.entries(
        status=RUNNING,
        until=call.services.now() - timedelta(minutes=body.older_than_minutes),
        limit=body.limit,
        offset=0,
    )
    ids = [str(execution.execution_id) for execution in found]
    if body.dry_run:
        message = f"{counted(len(ids), 'execution')} would be cancelled: running for more than {minutes}"
        return CleanedUp(cancelled_count=len(ids), execution_ids=ids, failed={}, more=more, message=message)
    cancelled: dict[str, None] = {}
    failed: dict[str, str] = {}
    for execution in found:
        # sub-playbooks may have been cancelled with their parents
        if str(execution.execution_id) not in cancelled:
            top = await _top_running(call, execution)
            try:
                reason = f"clean-up: it has been running for more than {minutes}"
                _, ended = await call.services.orchestrator.controls.cancel(top, reason)
                cancelled.update(dict.fromkeys(ended))
            except Problem as problem:
                failed[top] = problem.detail
    return CleanedUp(
        cancelled_count=len(cancelled),
        execution_ids=list(cancelled),
        failed=failed,
        more=more,
        message=f"cancelled {counted(len(cancelled), 'execution')} that had been running for more than {minutes}",
    )


async def _top_running(call: Call, execution: Execution) -> str:
    """The highest of the running executions above it, or itself: a parent began earlier, and would fail at the end of
    a sub-playbook that is cancelled before it."""
    while execution.parent_execution_id is not None:
        try:
            parent = await call.services.executions.get(execution.parent_execution_id)
        except NotFound:
            break
        if parent.status != RUNNING:
            break
        execution = parent
    return str(execution.execution_id)


def _completed(state: State) -> list[str]:
    return [step for step, outcome in state.outcomes.items() if outcome["status"] == "ok"]


def _pagination(query: GetExecution, total: int) -> Pagination:
    pages = max(1, -(-total // query.page_size))
    return Pagination(
        page=query.page,
        page_size=query.page_size,
        total=total,
        total_pages=pages,
        has_next=query.page < pages,
        has_prev=query.page > 1,
    )


OPERATIONS = (
    Operation(
        "listExecutions",
        "GET",
        "/api/executions",
        summary="List executions, newest first; a Link header leads to the next page",
        tag="executions",
        roles=USERS,
        handler=entries,
        answer=ExecutionEntry,
        query=ListExecutions,
        many=True,
        next_parameter="before",
        bare=True,
    ),
    Operation(
        "getExecution",
        "GET",
        "/api/executions/{execution_id}",
        summary="Read an execution and its latest events",
        tag="executions",
        roles=USERS,
        handler=detail,
        answer=ExecutionDetail,
        query=GetExecution,
    ),
    Operation(
        "getExecutionStatus",
        "GET",
        "/api/executions/{execution_id}/status",
        summary="Read the status of an execution",
        tag="executions",
        roles=USERS,
        handler=status,
        answer=ExecutionStatus,
        query=GetStatus,
    ),
    Operation(
        "checkCancellation",
        "GET",
        "/api/executions/{execution_id}/cancellation-check",
        summary="Read whether an execution was cancelled, for work that should then stop",
        tag="executions",
        roles=USERS,
        handler=cancellation_check,
        answer=CancellationCheck,
    ),
    Operation(
        "cleanUpExecutions",
        "POST",
        "/api/executions/cleanup",
        summary="Cancel executions, with their sub-playbooks, that have been running for too long",
        tag="executions",
        roles=USERS,
        handler=clean_up,
        answer=CleanedUp,
        body=CleanUp,
    ),
    Operation(
        "finalizeExecution",
        "POST",
        "/api/executions/{execution_id}/finalize",
        summary="Force an execution to end: cancel it if it is running, drop it if it is in quarantine",
        tag="executions",
        roles=USERS,
        handler=finalize,
        answer=Finalized,
        body=Finalize,
    ),
    Operation(
        "cancelExecution",
        "POST",
        "/api/executions/{execution_id}/cancel",
        summary="Cancel an execution and, by default, its sub-playbooks",
        tag="executions",
        roles=USERS,
        handler=cancel,
        answer=Cancelled,
        body=Cancel,
    ),
)
