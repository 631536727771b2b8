"""Quarantine: executions that the engine could not decide about."""

from __future__ import annotations

from ..models.quarantine import (
    MAX_FACTS,
    Dropped,
    KeptFact,
    ListQuarantine,
    QuarantineDetail,
    QuarantineEntry,
    Retried,
    entry_fields,
)
from ..operation import USERS, Call, Operation
from ..page import Page
from .execute import principal_of
from .identifiers import execution_id_of


async def entries(call: Call) -> Page:
    query: ListQuarantine = call.query
    # one more, to know whether there is a next page
    found = await call.services.orchestrator.quarantined_executions(query.limit + 1, query.after)
    items = [QuarantineEntry.of(row) for row in found[: query.limit]]
    return Page(items, more=len(found) > len(items), next_parameters=lambda entry: {"after": entry.execution_id})


async def get(call: Call) -> QuarantineDetail:
    row = await call.services.orchestrator.quarantined_execution(str(execution_id_of(call)))
    return QuarantineDetail(**entry_fields(row), facts=[KeptFact.of(fact) for fact in row.facts[:MAX_FACTS]])


async def retry(call: Call) -> Retried:
    execution_id = str(execution_id_of(call))
    state = await call.services.orchestrator.retry_quarantined(execution_id)
    return Retried.model_validate(
        {"execution_id": execution_id, "status": state.status.upper(), "quarantined": state.quarantined}
    )


async def drop(call: Call) -> Dropped:
    execution_id = str(execution_id_of(call))
    await call.services.orchestrator.drop_quarantined(execution_id, principal_of(call))
    return Dropped(execution_id=execution_id)


OPERATIONS = (
    Operation(
        "listQuarantine",
        "GET",
        "/api/quarantine",
        summary="List executions in quarantine by id; a Link header leads to the next page",
        tag="quarantine",
        roles=USERS,
        handler=entries,
        answer=QuarantineEntry,
        query=ListQuarantine,
        many=True,
        next_parameter="after",
    ),
    Operation(
        "getQuarantined",
        "GET",
        "/api/quarantine/{execution_id}",
        summary="Read why an execution is in quarantine, and the facts kept for a retry",
        tag="quarantine",
        roles=USERS,
        handler=get,
        answer=QuarantineDetail,
    ),
    Operation(
        "retryQuarantined",
        "POST",
        "/api/quarantine/{execution_id}/retry",
        summary="Continue an execution in quarantine from where it stopped",
        tag="quarantine",
        roles=USERS,
        handler=retry,
        answer=Retried,
    ),
    Operation(
        "dropQuarantined",
        "DELETE",
        "/api/quarantine/{execution_id}",
        summary="Take an execution out of quarantine, leave it failed, and cancel its sub-playbooks",
        tag="quarantine",
        roles=USERS,
        handler=drop,
        answer=Dropped,
    ),
)
