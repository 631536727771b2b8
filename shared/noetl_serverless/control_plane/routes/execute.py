"""Starting executions and rerunning them."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, cast

import orjson
from pg8000.exceptions import DatabaseError

from ...engine import events as e
from ...errors import InvalidRequest, Problem
from ...orchestrator import start as orchestrator
from ...store.executions import ENDED
from ...store.projections import result_of
from ...store.refusal import refusal_of
from ..body import parse_entry
from ..models.executions import Execute, ExecuteBatch, ExecuteQuery, Rerun, Started, StartedBatch, StartedEntry
from ..operation import USERS, Call, Operation
from ..watchers import ExpectedEnd
from .events import FIRST_POLL_SECONDS, MAX_POLL_SECONDS, POLL_GROWTH
from .identifiers import execution_id_of

IDEMPOTENCY_KEY = "idempotency-key"
Status = Literal["COMPLETED", "FAILED", "CANCELLED"]
# status, result and error, as in a list of executions
End = tuple[Status, Any, Any]
HEADERS = {"Idempotency-Key": "A second request with the same key starts nothing and returns the same response."}


async def execute(call: Call) -> Started:
    query: ExecuteQuery = call.query
    return await start(call, request_key(call), query.wait, **await _arguments(call, call.body))


async def execute_batch(call: Call) -> StartedBatch:
    """Each by itself: one that fails does not keep the others from being started."""
    body: ExecuteBatch = call.body
    key = call.header(IDEMPOTENCY_KEY)
    keys = [None if key is None else f"batch:{index}:{key}" for index in range(len(body.root))]
    return StartedBatch([await _started(call, index, entry, keys[index]) for index, entry in enumerate(body.root)])


async def _started(call: Call, index: int, entry: Any, key: str | None) -> StartedEntry:
    try:
        done = await start(call, key, **await _arguments(call, parse_entry(Execute, entry)))
    except (Problem, DatabaseError, orjson.JSONEncodeError) as error:
        problem = refusal_of(error)
        if not isinstance(problem, Problem):
            raise
        return StartedEntry(index=index, status="failed", error=problem.to_dict())
    return StartedEntry(
        index=index,
        status="started",
        execution_id=done.execution_id,
        commands_generated=done.commands_generated,
    )


async def _arguments(call: Call, body: Execute) -> dict[str, Any]:
    """Of `Orchestrator.start`. Raises InvalidRequest, and NotFound for a parent that there is not."""
    if (body.path is None) == (body.catalog_id is None):
        raise InvalidRequest("give either path or catalog_id")
    parent = body.parent_execution_id
    if parent is not None:
        await call.services.executions.get(int(parent))
    return {
        "path": body.path,
        "catalog_id": body.catalog_id,
        "version": None if body.version == "latest" else body.version,
        "payload": body.payload,
        "origin": None if parent is None else {e.PARENT: parent},
        "agents_only": body.resource_kind == "agent",
    }


async def rerun(call: Call) -> Started:
    """Start the same version again, with the input of the first run and `payload` merged over it."""
    body: Rerun = call.body
    execution_id = execution_id_of(call)
    original = await call.services.executions.get(execution_id)
    initial = await call.services.executions.initial(execution_id)
    query: ExecuteQuery = call.query
    return await start(
        call,
        request_key(call),
        query.wait,
        catalog_id=str(original.catalog_id),
        payload=merged(initial, body.payload),
        origin={e.RERUN_OF: str(execution_id)},
        agents_only=body.resource_kind == "agent",
    )


def request_key(call: Call) -> str | None:
    """The idempotency key, in a namespace of its own, so that no caller can use the key of a schedule's run."""
    key = call.header(IDEMPOTENCY_KEY)
    return None if key is None else f"request:{key}"


async def start(call: Call, key: str | None, wait: float = 0.0, **arguments: Any) -> Started:
    """`key`: of idempotency; `wait`: seconds to wait for its end."""
    deadline = asyncio.get_running_loop().time() + wait
    with call.services.watchers.expect_end() as expected:
        started = await call.services.orchestrator.start(
            **arguments,
            idempotency_key=key,
            principal=principal_of(call),
            announce=expected.name,
        )
        end = None if not wait else await _end(call, started, expected, deadline)
    answer = Started(execution_id=started.execution_id, commands_generated=started.commands)
    if end is not None:
        answer.status, answer.result, answer.error = end
    return answer


async def _end(call: Call, started: orchestrator.Started, expected: ExpectedEnd, deadline: float) -> End | None:
    """How it ended, if it did in time. A commit of this process tells; the database is asked, less and less often,
    while no commit of this process has gone on with it."""
    loop = asyncio.get_running_loop()
    pause = 0.0 if started.replayed else FIRST_POLL_SECONDS
    while True:
        remaining = deadline - loop.time()
        await asyncio.wait([expected.state], timeout=max(0.0, min(pause, remaining)))
        if expected.state.done():
            state = expected.state.result()
            return cast("Status", state.status.upper()), result_of(state), state.error
        if not expected.is_followed or remaining <= 0:
            execution = await call.services.executions.get(int(started.execution_id))
            if execution.status in ENDED:
                return cast("Status", execution.status), execution.result, execution.error
            if remaining <= 0:
                return None
        expected.is_followed = False
        pause = min(max(pause, FIRST_POLL_SECONDS) * POLL_GROWTH, MAX_POLL_SECONDS)


def principal_of(call: Call) -> dict[str, str]:
    """Who starts it: the user on whose behalf the gateway calls, else the caller itself."""
    if call.user is not None:
        return {"kind": "user", "name": call.user}
    return {"kind": call.caller.role, "name": call.caller.subject}


def merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Objects merge key by key, everything else is replaced."""
    result = dict(base)
    for key, value in overrides.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            value = merged(before, value)
        result[key] = value
    return result


OPERATIONS = (
    Operation(
        "execute",
        "POST",
        "/api/execute",
        summary="Start an execution of a registered playbook, and optionally wait for its end",
        tag="executions",
        roles=USERS,
        handler=execute,
        answer=Started,
        body=Execute,
        query=ExecuteQuery,
        headers=HEADERS,
    ),
    Operation(
        "executeBatch",
        "POST",
        "/api/execute/batch",
        summary="Start up to 100 executions; each is started, or fails with a problem, by itself",
        tag="executions",
        roles=USERS,
        handler=execute_batch,
        answer=StartedBatch,
        body=ExecuteBatch,
        headers={"Idempotency-Key": "Each entry gets a key of its own, made of this one and its place in the list."},
    ),
    Operation(
        "rerunExecution",
        "POST",
        "/api/executions/{execution_id}/rerun",
        summary="Start the same playbook version again, with the same input and optional changes",
        tag="executions",
        roles=USERS,
        handler=rerun,
        answer=Started,
        body=Rerun,
        query=ExecuteQuery,
        headers=HEADERS,
    ),
)
