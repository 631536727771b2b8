"""Starting executions and rerunning them."""

from __future__ import annotations

from typing import Any

from ...errors import InvalidRequest
from ..models.executions import Execute, Rerun, Started
from ..operation import USERS, Call, Operation
from .identifiers import execution_id_of

IDEMPOTENCY_KEY = "idempotency-key"
HEADERS = {"Idempotency-Key": "A second request with the same key starts nothing and returns the same response."}


async def execute(call: Call) -> Started:
    body: Execute = call.body
    if (body.path is None) == (body.catalog_id is None):
        raise InvalidRequest("give either path or catalog_id")
    return await start(
        call,
        path=body.path,
        catalog_id=body.catalog_id,
        version=None if body.version == "latest" else body.version,
        payload=body.payload,
    )


async def rerun(call: Call) -> Started:
    """Start the same version again, with the input of the first run and `payload` merged over it."""
    body: Rerun = call.body
    execution_id = execution_id_of(call)
    original = await call.services.executions.get(execution_id)
    initial = await call.services.executions.initial(execution_id)
    return await start(call, catalog_id=str(original.catalog_id), payload=merged(initial, body.payload))


async def start(call: Call, **arguments: Any) -> Started:
    key = call.header(IDEMPOTENCY_KEY)
    # a namespace of its own, so that no caller can use the key of a schedule's run
    started = await call.services.orchestrator.start(
        **arguments, idempotency_key=None if key is None else f"request:{key}", principal=principal_of(call)
    )
    return Started(execution_id=started.execution_id, commands_generated=started.commands)


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
        summary="Start an execution of a registered playbook",
        tag="executions",
        roles=USERS,
        handler=execute,
        answer=Started,
        body=Execute,
        headers=HEADERS,
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
        headers=HEADERS,
    ),
)
