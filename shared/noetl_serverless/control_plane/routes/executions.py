"""Executions: list them, read their status, and cancel them."""

from __future__ import annotations

from ...engine.state import State
from ...errors import NotFound
from ...store.executions import CANCELLED, COMPLETED, FAILED
from ..models.executions import (
    Cancel,
    Cancelled,
    EventEntry,
    ExecutionDetail,
    ExecutionEntry,
    ExecutionStatus,
    GetExecution,
    ListExecutions,
    Pagination,
    duration,
    entry_fields,
    human,
)
from ..models.runs import under_way
from ..operation import USERS, Call, Operation
from ..page import Page, truncate_payloads
from .identifiers import execution_id_of


async def entries(call: Call) -> Page:
    query: ListExecutions = call.query
    found, more = await call.services.executions.entries(
        status=query.status,
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
    return ExecutionDetail(
        **entry_fields(execution, call.services.now()),
        warnings=execution.warnings or [],
        quarantined=execution.quarantined,
        restarts=[str(id) for id in await call.services.executions.restarts(execution_id)],
        events=events,
        events_included=query.include_events,
        events_endpoint=f"/api/executions/{execution_id}/events",
        pagination=pagination,
    )


async def status(call: Call) -> ExecutionStatus:
    execution_id = execution_id_of(call)
    execution = await call.services.executions.get(execution_id)
    if execution.archived:
        state = await call.services.executions.state(execution_id)
    else:
        state = await call.services.orchestrator.state(str(execution_id))
    outstanding = [] if state.ended else await call.services.executions.outstanding(execution_id)
    # in quarantine the state keeps the tokens that were under way
    current = [] if state.ended else sorted({token.step for token in state.tokens.values()})
    seconds = duration(execution.created_at, execution.ended_at, call.services.now())
    return ExecutionStatus(
        execution_id=str(execution_id),
        status=execution.status,
        current_step=current[0] if current else state.last,
        current_steps=current,
        under_way=under_way(state, outstanding),
        completed_steps=_completed(state),
        failed=execution.status == FAILED,
        completed=execution.status in (COMPLETED, CANCELLED),
        cancelled=execution.status == CANCELLED,
        variables={**state.ctx, **state.ctx_refs},
        error=execution.error,
        principal=execution.principal,
        warnings=execution.warnings or [],
        quarantined=execution.quarantined,
        start_time=execution.created_at,
        end_time=execution.ended_at,
        duration_seconds=seconds,
        duration_human=human(seconds),
    )


async def cancel(call: Call) -> Cancelled:
    body: Cancel = call.body
    execution_id = str(execution_id_of(call))
    try:
        status, cancelled = await call.services.orchestrator.cancel(execution_id, body.reason, body.cascade)
    except NotFound:
        # an archived execution has ended; this raises NotFound again if there is no execution at all
        await call.services.executions.get(int(execution_id))
        status, cancelled = "already_completed", []
    count = len(cancelled)
    return Cancelled(
        status=status,
        execution_id=execution_id,
        cancelled_executions=cancelled,
        message=f"cancelled {count} execution(s)" if count else "the execution has already ended",
    )


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
