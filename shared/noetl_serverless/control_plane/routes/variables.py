"""Variables of an execution, with the paths of the original NoETL."""

from __future__ import annotations

from ...engine.variables import unexpired
from ...errors import InvalidRequest, NotFound
from ...limits import DELAY_SECONDS
from ...playbook.numbers import seconds
from ...store.variables import StoredVariable
from ..models.variables import (
    NamedVariable,
    SetVariables,
    Variable,
    VariableDeleted,
    Variables,
    VariablesDeleted,
    VariablesSet,
)
from ..operation import USERS, Call, Operation
from .execute import IDEMPOTENCY_KEY, principal_of
from .identifiers import execution_id_of


async def entries(call: Call) -> Variables:
    id = execution_id_of(call)
    found = await call.services.variables.entries(id) or await _archived(call, id)
    listed = {stored.name: Variable.of(stored) for stored in found}
    return Variables(execution_id=str(id), variables=listed, count=len(listed))


async def get(call: Call) -> NamedVariable:
    id, name = execution_id_of(call), call.path("name")
    found = await call.services.variables.read(id, name)
    if found is None:
        found = next((stored for stored in await _archived(call, id) if stored.name == name), None)
    if found is None:
        raise NotFound(f"execution {id} has no variable {name!r}")
    return NamedVariable.of(found, execution_id=str(id), var_name=name)


async def _archived(call: Call, id: int) -> list[StoredVariable]:
    """Those of an archived execution; none of any other. Raises NotFound."""
    if not (await call.services.executions.get(id)).archived:
        return []
    variables = (await call.services.executions.state(id)).variables
    current = unexpired(variables, round(call.services.now().timestamp() * 1000))
    return [StoredVariable.of_state(name, current[name]) for name in sorted(current)]


async def set_variables(call: Call) -> VariablesSet:
    body: SetVariables = call.body
    id = str(execution_id_of(call))
    is_new = await call.services.orchestrator.controls.set_variables(
        id,
        body.variables,
        type=body.var_type,
        source_step=body.source_step,
        ttl=_seconds(body.ttl),
        id=call.header(IDEMPOTENCY_KEY),
        by=principal_of(call),
    )
    return VariablesSet(
        execution_id=id,
        variables_set=len(body.variables),
        var_names=list(body.variables),
        status="accepted" if is_new else "duplicate",
    )


def _seconds(ttl: float | str | None) -> float | None:
    if ttl is None:
        return None
    try:
        found = seconds(ttl)
    except ValueError as error:
        raise InvalidRequest(f"ttl: {error}") from None
    if not 0 < found <= DELAY_SECONDS:
        raise InvalidRequest(f"ttl must be more than 0 and at most {DELAY_SECONDS} seconds; omit it for no expiry")
    return found


async def delete(call: Call) -> VariableDeleted:
    id, name = str(execution_id_of(call)), call.path("name")
    deleted = await call.services.orchestrator.controls.delete_variables(id, [name], by=principal_of(call))
    return VariableDeleted(execution_id=id, var_name=name, deleted=bool(deleted))


async def delete_all(call: Call) -> VariablesDeleted:
    id = str(execution_id_of(call))
    deleted = await call.services.orchestrator.controls.delete_variables(id, by=principal_of(call))
    return VariablesDeleted(execution_id=id, deleted_count=len(deleted))


OPERATIONS = (
    Operation(
        "listVariables",
        "GET",
        "/api/vars/{execution_id}",
        summary="List the variables of an execution with their values",
        tag="variables",
        roles=USERS,
        handler=entries,
        answer=Variables,
    ),
    Operation(
        "getVariable",
        "GET",
        "/api/vars/{execution_id}/{name}",
        summary="Read a variable of an execution, which is counted",
        tag="variables",
        roles=USERS,
        handler=get,
        answer=NamedVariable,
    ),
    Operation(
        "setVariables",
        "POST",
        "/api/vars/{execution_id}",
        summary="Set variables of an execution, which what begins from now on reads",
        tag="variables",
        roles=USERS,
        handler=set_variables,
        answer=VariablesSet,
        body=SetVariables,
        headers={"Idempotency-Key": "A second request with the same key changes nothing."},
    ),
    Operation(
        "deleteVariables",
        "DELETE",
        "/api/vars/{execution_id}",
        summary="Delete all variables of an execution",
        tag="variables",
        roles=USERS,
        handler=delete_all,
        answer=VariablesDeleted,
    ),
    Operation(
        "deleteVariable",
        "DELETE",
        "/api/vars/{execution_id}/{name}",
        summary="Delete a variable of an execution",
        tag="variables",
        roles=USERS,
        handler=delete,
        answer=VariableDeleted,
    ),
)
