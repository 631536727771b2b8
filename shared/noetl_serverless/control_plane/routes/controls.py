"""Control over a running execution: pause it, let it go on, send it a signal."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from ...engine.state import State
from ...errors import Conflict, InvalidRequest
from ...orchestrator.decisions import check_unanswered, wanted
from ...playbook.approvals import fault_of
from ...playbook.awaited import awaited_of
from ...protocol import SignalName
from ..models.controls import Pause, Paused, SendSignal, SignalSent
from ..operation import USERS, Call, Operation
from .execute import IDEMPOTENCY_KEY, principal_of
from .identifiers import execution_id_of

# signals that one answer names
MAX_NAMED = 16

_NAME = TypeAdapter[str](SignalName)


async def pause(call: Call) -> Paused:
    body: Pause = call.body
    id = str(execution_id_of(call))
    paused = await call.services.orchestrator.pause(id, body.reason, principal_of(call))
    return Paused(execution_id=id, status="paused" if paused else "already_paused")


async def resume(call: Call) -> Paused:
    id = str(execution_id_of(call))
    resumed = await call.services.orchestrator.resume(id, principal_of(call))
    return Paused(execution_id=id, status="resumed" if resumed else "not_paused")


async def signal(call: Call) -> SignalSent:
    body: SendSignal = call.body
    id, name = str(execution_id_of(call)), signal_name(call.path("signal"))
    key = call.header(IDEMPOTENCY_KEY)
    waiting_for: list[str] = []

    orchestrator = call.services.orchestrator
    plan = await orchestrator.plan_of(id)
    awaited = None if plan is None else awaited_of(plan)

    def look(state: State) -> None:
        expected = wanted(state, awaited, name)
        fault = fault_of(body.data)
        if expected == "decision" and fault is not None:
            raise InvalidRequest(f"'{name}' is an approval: {fault}, as `noetls approve` does")
        if expected == "value" and body.decision:
            raise Conflict(f"'{name}' is a signal, not an approval: use noetls signal")
        check_unanswered(state, awaited, name, body.data, is_decision=body.decision)
        waits = [wait.signal for wait in state.waits.values() if wait.signal is not None]
        waiting_for[:] = dict.fromkeys(waits)

    if body.decision and (fault := fault_of(body.data)) is not None:
        raise InvalidRequest(f"data: {fault}")
    is_new = await orchestrator.signal(id, name, body.data, id=key, by=principal_of(call), check=look)
    kept = is_new and name not in waiting_for
    return SignalSent(
        execution_id=id,
        signal=name,
        status="accepted" if is_new else "duplicate",
        kept=kept,
        waiting_for=waiting_for[:MAX_NAMED] if kept else [],
        advice=awaited.advice(name) if kept and awaited is not None else None,
    )


def signal_name(text: object) -> str:
    """Raises InvalidRequest."""
    try:
        return _NAME.validate_python(text)
    except ValidationError:
        raise InvalidRequest("the name of a signal has 1 to 200 characters, no '/' and no control characters") from None


OPERATIONS = (
    Operation(
        "pauseExecution",
        "POST",
        "/api/executions/{execution_id}/pause",
        summary="Pause an execution and its sub-playbooks: what runs ends, and nothing else begins",
        tag="executions",
        roles=USERS,
        handler=pause,
        answer=Paused,
        body=Pause,
    ),
    Operation(
        "resumeExecution",
        "POST",
        "/api/executions/{execution_id}/resume",
        summary="Let a paused execution and its sub-playbooks go on",
        tag="executions",
        roles=USERS,
        handler=resume,
        answer=Paused,
    ),
    Operation(
        "signalExecution",
        "POST",
        "/api/executions/{execution_id}/signals/{signal}",
        summary="Send a signal to an execution: it ends a wait for it, now or when there is one",
        tag="executions",
        roles=USERS,
        handler=signal,
        answer=SignalSent,
        body=SendSignal,
        headers={"Idempotency-Key": "A second signal with the same key changes nothing."},
    ),
)
