"""The log of an execution, with waiting for what comes next."""

from __future__ import annotations

import asyncio

from ...store.executions import ENDED
from ...store.recorded import Recorded
from ..models.executions import EventEntry, ListEvents
from ..operation import USERS, Call, Operation, Page
from .identifiers import execution_id_of

# seconds between two looks at the database; growing, since what was quiet tends to stay so
FIRST_LOOK = 0.1
LAST_LOOK = 1.0
GROWTH = 1.5


async def events(call: Call) -> Page:
    query: ListEvents = call.query
    execution_id = execution_id_of(call)
    found, head, status = await wait_for(call, execution_id, query)
    headers = {"noetl-execution-status": status, "noetl-last-seq": str(head)}
    return Page([EventEntry.of(event) for event in found], headers)


async def wait_for(call: Call, execution_id: int, query: ListEvents) -> tuple[list[Recorded], int, str]:
    """Events, the last seq and the status. Waits only while there can be more, not for what has ended."""
    executions = call.services.executions
    deadline = asyncio.get_running_loop().time() + query.wait
    look = FIRST_LOOK
    after = query.after
    with call.services.wakeups.watch(str(execution_id)) as woken:
        while True:
            woken.clear()
            found, head, status = await executions.tail(
                execution_id, after=after, type=query.event_type, limit=query.limit
            )
            left = deadline - asyncio.get_running_loop().time()
            if found or status in ENDED or left <= 0:
                return found, head, status
            # of these none was of the type asked for
            after = max(after, head)
            await _sleep(woken, min(look, left))
            look = min(look * GROWTH, LAST_LOOK)


async def _sleep(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


OPERATIONS = (
    Operation(
        "listEvents",
        "GET",
        "/api/executions/{execution_id}/events",
        "Read the log of an execution in order, waiting for more if there is none yet; "
        "the headers NoETL-Execution-Status and NoETL-Last-Seq tell where it stands",
        "executions",
        USERS,
        events,
        EventEntry,
        query=ListEvents,
        many=True,
    ),
)
