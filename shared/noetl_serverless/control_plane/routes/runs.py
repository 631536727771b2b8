"""Runs: how the commands of an execution went."""

from __future__ import annotations

from ..models.runs import ListRuns, RunEntry
from ..operation import USERS, Call, Operation
from ..page import Page
from .identifiers import execution_id_of


async def runs(call: Call) -> Page:
    query: ListRuns = call.query
    execution_id = execution_id_of(call)
    executions = call.services.executions
    # one more, to know whether there is a next page
    found = await executions.runs(
        execution_id, after=query.after, step=query.step, failed=query.failed, limit=query.limit + 1
    )
    if not found:
        # raises NotFound if there is no such execution
        await executions.get(execution_id)
    items = [RunEntry.of(run) for run in found[: query.limit]]
    return Page(items, more=len(found) > len(items), next_parameters=lambda entry: {"after": entry.seq})


OPERATIONS = (
    Operation(
        "listRuns",
        "GET",
        "/api/executions/{execution_id}/runs",
        summary="List the runs of an execution's commands, with queue time, run time and failed attempts; a Link "
        "header leads to the next page",
        tag="executions",
        roles=USERS,
        handler=runs,
        answer=RunEntry,
        query=ListRuns,
        many=True,
        next_parameter="after",
    ),
)
