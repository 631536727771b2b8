"""Executions from their logs alone: rebuild one as of any event, compare its projections, or project it again."""

from __future__ import annotations

import asyncio

from ...engine.replay import up_to
from ...errors import InvalidRequest
from ...inspection.expected_projections import NAMES, document
from ..models.replay import (
    CommandRow,
    DifferenceEntry,
    ListCommands,
    ListResults,
    Rebuild,
    RebuiltEntry,
    RebuiltMany,
    RecordingEntry,
    Replayed,
    ReplayState,
    ResultRow,
    Validate,
    Validated,
    commands_of,
    results_of,
)
from ..operation import USERS, Call, Operation
from ..page import Page
from .identifiers import execution_id_of

SURFACES = {name.removesuffix("s"): name for name in NAMES}


async def state(call: Call) -> Replayed:
    query: ReplayState = call.query
    positions = [query.as_of_event_id, query.as_of_position, query.as_of_time]
    if sum(value is not None for value in positions) > 1:
        raise InvalidRequest("as_of_event_id, as_of_position and as_of_time exclude each other; give only one")
    seq = query.as_of_event_id or query.as_of_position
    # one more than requested, to know whether the limit cut something off
    events, workload = await call.services.replays.log(int(query.execution_id), query.limit + 1)
    at = None if query.as_of_time is None else int(query.as_of_time.timestamp() * 1000)
    log = up_to(events, seq=seq, at=at)
    names = None if query.projection == "all" else [SURFACES[query.projection]]
    cut = log[: query.limit]
    result = await asyncio.to_thread(document, query.execution_id, cut, workload, names)
    return Replayed(**result, complete=len(cut) == len(log), as_of_time=query.as_of_time)


async def validate(call: Call) -> Validated:
    query: Validate = call.query
    found = await call.services.replays.validate(int(query.execution_id))
    entries = [DifferenceEntry.of(difference) for difference in found]
    return Validated(execution_id=query.execution_id, valid=not found, differences=entries)


async def rebuild(call: Call) -> RebuiltMany:
    body: Rebuild = call.body
    replays = call.services.replays
    if body.execution_id is not None:
        return RebuiltMany(executions=[await _rebuild(call, body.execution_id)], next=None)
    ids = await replays.ids(int(body.after), body.limit)
    done = [await _rebuild(call, id) for id in ids]
    return RebuiltMany(executions=done, next=ids[-1] if len(ids) == body.limit else None)


async def _rebuild(call: Call, execution_id: str) -> RebuiltEntry:
    plan = await call.services.orchestrator.plan_of(execution_id)
    return RebuiltEntry.of(await call.services.replays.rebuild(int(execution_id), plan))


async def recording(call: Call) -> RecordingEntry:
    return RecordingEntry.of(await call.services.replays.recording(execution_id_of(call)))


async def results(call: Call) -> Page:
    query: ListResults = call.query
    found = results_of(await call.services.replays.recording(execution_id_of(call)), query.after)
    items = found[: query.limit]
    return Page(items, more=len(found) > len(items), next_parameters=lambda row: {"after": row.key})


async def commands(call: Call) -> Page:
    query: ListCommands = call.query
    found = commands_of(await call.services.replays.recording(execution_id_of(call)), query.after)
    items = found[: query.limit]
    return Page(items, more=len(found) > len(items), next_parameters=lambda row: {"after": row.command_id})


OPERATIONS = (
    Operation(
        "replayState",
        "GET",
        "/api/replay/state",
        summary="Rebuild an execution from its log, as of any event or time, with checksums",
        tag="replay",
        roles=USERS,
        handler=state,
        answer=Replayed,
        query=ReplayState,
    ),
    Operation(
        "validateProjections",
        "GET",
        "/api/replay/validate",
        summary="Compare every projected row of an execution with its log",
        tag="replay",
        roles=USERS,
        handler=validate,
        answer=Validated,
        query=Validate,
    ),
    Operation(
        "rebuildProjections",
        "POST",
        "/api/replay/rebuild",
        summary="Rebuild projections from the logs, one execution per transaction; leases are lost",
        tag="replay",
        roles=frozenset({"operator"}),
        handler=rebuild,
        answer=RebuiltMany,
        next_parameter="after",
        body=Rebuild,
    ),
    Operation(
        "getRecording",
        "GET",
        "/api/executions/{execution_id}/recording",
        summary="Read what a replay needs in addition to the log: playbook, workload and sub-playbooks",
        tag="replay",
        roles=USERS,
        handler=recording,
        answer=RecordingEntry,
    ),
    Operation(
        "listResults",
        "GET",
        "/api/executions/{execution_id}/results",
        summary="List the stored results of an execution; a Link header leads to the next page",
        tag="replay",
        roles=USERS,
        handler=results,
        answer=ResultRow,
        query=ListResults,
        many=True,
        next_parameter="after",
    ),
    Operation(
        "listCommands",
        "GET",
        "/api/executions/{execution_id}/commands",
        summary="List the commands of an execution that are queued, running or delayed; a Link header leads to the "
        "next page",
        tag="replay",
        roles=USERS,
        handler=commands,
        answer=CommandRow,
        query=ListCommands,
        many=True,
        next_parameter="after",
    ),
)
