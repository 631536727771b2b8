"""Control over a running execution: pause it, let it go on, send it a signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from ...engine.state import CALLBACK, State
from ...errors import Conflict, InvalidRequest
from ...protocol import SignalName
from ..models.controls import Pause, Paused, Resume, SendSignal, SignalSent
from ..operation import USERS, Call, Operation
from .execute import IDEMPOTENCY_KEY, principal_of
from .identifiers import execution_id_of

# signals that one answer names
MAX_NAMED = 16
# sub-playbooks that are looked at for who waits for a signal
MAX_CHILDREN: Final = 100

_NAME = TypeAdapter[str](SignalName)


async def pause(call: Call) -> Paused:
    body: Pause = call.body
    id = str(execution_id_of(call))
    paused = await call.services.orchestrator.controls.pause(id, body.reason, principal_of(call))
    return Paused(execution_id=id, status="paused" if paused else "already_paused")


async def resume(call: Call) -> Paused:
    id = str(execution_id_of(call))
    resumed = await call.services.orchestrator.controls.resume(id, principal_of(call))
    return Paused(execution_id=id, status="resumed" if resumed else "not_paused")


async def signal(call: Call) -> SignalSent:
    # a cold start need not read what few playbooks have
    from ...orchestrator.decisions import check_unanswered, wanted
    from ...playbook.approvals import fault_of
    from ...playbook.awaited import awaited_of

    body: SendSignal = call.body
    id, name = str(execution_id_of(call)), signal_name(call.path("signal"))
    key = call.header(IDEMPOTENCY_KEY)
    waiting_for: list[str] = []
    children: list[str] = []

    orchestrator = call.services.orchestrator
    plan = await orchestrator.plan_of(id)
    awaited = None if plan is None else awaited_of(plan)

    fault = fault_of(body.data)

    def look(state: State) -> None:
        expected = wanted(state, awaited, name)
        if expected == "decision" and fault is not None:
            raise InvalidRequest(f"'{name}' is an approval: {fault}, as `noetls approve` does")
        if expected == "value" and body.decision:
            raise Conflict(f"'{name}' is a signal, not an approval: use noetls signal")
        check_unanswered(state, awaited, name, body.data, is_decision=body.decision)
        waits = [wait.signal for wait in state.waits.values() if wait.signal is not None]
        waiting_for[:] = dict.fromkeys(waits)
        children[:] = state.children

    if body.decision and fault is not None:
        raise InvalidRequest(f"data: {fault}")
    is_new = await orchestrator.controls.signal(id, name, body.data, id=key, by=principal_of(call), check=look)
    if not is_new and key is not None:
        await _check_repeated(call, id, name, body.data, key)
    kept = is_new and name not in waiting_for
    advice = awaited.advice(name) if kept and awaited is not None else None
    if advice is not None and (child := await _child_that_waits(call, children, name)) is not None:
        advice = f"no step of the playbook waits for '{name}', but its sub-playbook does: send it to execution {child}"
    return SignalSent(
        execution_id=id,
        signal=name,
        status="accepted" if is_new else "duplicate",
        kept=kept,
        waiting_for=waiting_for[:MAX_NAMED] if kept else [],
        advice=advice,
    )


async def _check_repeated(call: Call, execution_id: str, name: str, data: object, key: str) -> None:
    """Raises Conflict if the key was that of something else."""
    from ..recorded_signals import recorded_signals

    payload = None
    async for event in recorded_signals(call, execution_id, key):
        if (event.payload.get("by") or {}).get("kind") != CALLBACK:
            # of several, which are far apart, the last one is known
            payload = event.payload
    if payload is not None and _text(payload["signal"], payload.get("data")) != _text(name, data):
        raise Conflict("this Idempotency-Key has come with another signal or other data; use a new key")


def _text(name: str, data: object) -> bytes:
    return orjson.dumps([name, data], option=orjson.OPT_SORT_KEYS)


async def _child_that_waits(call: Call, children: Sequence[str], name: str) -> str | None:
    """Of the sub-playbooks that an execution waits for, one that waits for the signal."""
    states = await call.services.orchestrator.states(children[:MAX_CHILDREN])
    return next((it.execution_id for it in states if any(wait.signal == name for wait in it.waits.values())), None)


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
        body=Resume,
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
        headers={"Idempotency-Key": "The same signal with the same key again changes nothing; another one is refused."},
    ),
)
