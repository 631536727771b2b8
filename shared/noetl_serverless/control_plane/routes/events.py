"""The log of an execution, with long polling for new events."""

from __future__ import annotations

import asyncio
import base64

import orjson

from ...errors import NotFound
from ...store.executions import ENDED
from ...store.recorded import RecordedEvent
from ..models.executions import EventEntry, ListEvents
from ..models.results import EventPayload, PartQuery
from ..operation import USERS, Call, Operation
from ..page import Page
from .identifiers import execution_id_of

# seconds between two reads of the database; growing, since a quiet execution tends to stay quiet
FIRST_POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 1.0
POLL_GROWTH = 1.5
# of a seq in a path
MAX_SEQ_DIGITS = 9


async def events(call: Call) -> Page:
    query: ListEvents = call.query
    execution_id = execution_id_of(call)
    found, head, status = await wait_for(call, execution_id, query)
    headers = {"noetl-execution-status": status, "noetl-last-seq": str(head)}
    more = bool(found) and found[-1].seq < head
    items = [EventEntry.of(event) for event in found]
    return Page(items, headers, more, lambda entry: {"after": entry.seq, "wait": None})


async def payload(call: Call) -> EventPayload:
    """The payload as JSON in UTF-8: the same bytes each time, so that it can be read in parts."""
    query: PartQuery = call.query
    execution_id, seq = execution_id_of(call), call.path("seq")
    number = int(seq) if seq.isdecimal() and len(seq) <= MAX_SEQ_DIGITS else 0
    found = await call.services.executions.events(execution_id, after=number - 1, limit=1) if number else []
    if not found or found[0].seq != number:
        raise NotFound(f"execution {execution_id} has no event {seq!r}")
    content = orjson.dumps(found[0].payload)
    part = content[query.offset : query.offset + query.limit]
    return EventPayload(seq=number, bytes=len(content), offset=query.offset, data=base64.b64encode(part).decode())


async def wait_for(call: Call, execution_id: int, query: ListEvents) -> tuple[list[RecordedEvent], int, str]:
    """Events, the last seq and the status. Waits only while there can be more, not once the execution has ended."""
    executions = call.services.executions
    deadline = asyncio.get_running_loop().time() + query.wait
    poll_seconds = FIRST_POLL_SECONDS
    after = query.after
    with call.services.watchers.watch(str(execution_id)) as changed:
        while True:
            changed.clear()
            found, head, status = await executions.follow(
                execution_id, after=after, type=query.event_type, limit=query.limit
            )
            remaining = deadline - asyncio.get_running_loop().time()
            if found or status in ENDED or remaining <= 0:
                return found, head, status
            # none of these was of the requested type
            after = max(after, head)
            await _sleep(changed, min(poll_seconds, remaining))
            poll_seconds = min(poll_seconds * POLL_GROWTH, MAX_POLL_SECONDS)


async def _sleep(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return


OPERATIONS = (
    Operation(
        "listEvents",
        "GET",
        "/api/executions/{execution_id}/events",
        summary="Read the log of an execution in order, optionally waiting for new events; a Link header leads to "
        "the next page, the headers NoETL-Execution-Status and NoETL-Last-Seq contain its status and last event",
        tag="executions",
        roles=USERS,
        handler=events,
        answer=EventEntry,
        query=ListEvents,
        many=True,
        next_parameter="after",
        bare=True,
    ),
    Operation(
        "getEventPayload",
        "GET",
        "/api/executions/{execution_id}/events/{seq}/payload",
        summary="Read a part of an event's payload that is too large for a list",
        tag="executions",
        roles=USERS,
        handler=payload,
        answer=EventPayload,
        query=PartQuery,
    ),
)
