"""Which version of a playbook a step starts: resolved when the step requests it, and recorded in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import events as e
from ..engine.error import bounded
from ..engine.events import Event
from ..errors import InvalidInput, InvalidPlaybook, InvalidRequest, NotFound, ResultStoreUnavailable
from ..limits import CHILD_DEPTH
from .payloads import PAYLOAD_REF, Payloads
from .plans import Plans
from .start import PAYLOAD, initial_values
from .transition import Transition

# how long facts in the inbox may wait for a payload that cannot be read, in ms
MAX_WAIT_MS = 3_600_000


async def resolve_child(playbooks: Plans, payloads: Payloads, transition: Transition, fact: Event) -> Event:
    """The `call.parked` fact with the version found; an error fact if there is none, if the depth is too great, or if
    the playbook cannot be started with the payload. Raises ResultStoreUnavailable while the payload cannot be read."""
    child = fact.payload["child"]
    if transition.state.depth + 1 > CHILD_DEPTH:
        return _error_fact(
            transition, fact, "child.too_deep", f"playbooks may start each other {CHILD_DEPTH} levels deep"
        )
    try:
        entry = await playbooks.entry(child["path"], child["version"])
        initial_values(
            await playbooks.plan(entry.hash), await payloads.load_payload(transition.execution.execution_id, child)
        )
    except NotFound as missing:
        return _error_fact(transition, fact, "child.not_found", missing.detail)
    except InvalidPlaybook as invalid:
        return _error_fact(
            transition, fact, "child.invalid", f"playbook {child['path']} cannot be run: {invalid.detail}"
        )
    except InvalidInput as unfit:
        message = f"playbook {child['path']} cannot be started: {unfit.detail}"
        # the payload of a child is no body of a request
        faults = [{**fault.to_dict(), "pointer": fault.pointer.removeprefix(PAYLOAD)} for fault in unfit.faults]
        return _error_fact(transition, fact, unfit.code, message, faults)
    except InvalidRequest as invalid:
        return _error_fact(
            transition, fact, "child.invalid", f"playbook {child['path']} cannot be started: {invalid.detail}"
        )
    resolved = {"catalog_id": str(entry.catalog_id), "version": entry.version, "plan_hash": entry.hash}
    return _replace_fact(fact, e.CALL_PARKED, {**fact.payload, "child": {**child, **resolved}})


async def resolve_child_again(
    playbooks: Plans, payloads: Payloads, transition: Transition, fact: Event, now: int
) -> Event:
    """A fact from the inbox, resolved again: a child's payload may have disappeared since it was checked. While
    it cannot be read, the fact and all behind it wait (ResultStoreUnavailable), at most MAX_WAIT_MS; `now` in ms."""
    if (
        fact.type != e.CALL_PARKED
        or PAYLOAD_REF not in fact.payload.get("child", {})
        or fact.command_id not in transition.state.commands
    ):
        return fact
    try:
        return await resolve_child(playbooks, payloads, transition, fact)
    except ResultStoreUnavailable as away:
        if now - fact.at <= MAX_WAIT_MS:
            raise
        return _error_fact(transition, fact, "child.invalid", f"its payload cannot be read: {away.detail}")


def _error_fact(
    transition: Transition, fact: Event, code: str, message: str, faults: Sequence[Mapping[str, Any]] = ()
) -> Event:
    """`faults`: of the payload."""
    details = {"errors": list(faults)} if faults else {}
    error = bounded({"kind": "playbook", "code": code, "message": message, "retryable": False, **details})
    command = transition.state.commands[fact.command_id or ""]
    payload = {"error": error, "meta": fact.payload.get("meta", {})}
    if command.frame is None:
        return _replace_fact(fact, e.CALL_ERROR, payload)
    _, start, end, _ = command.frame
    items = {"start": start, "end": end, "ok": 0, "failed": end - start, "data": [None] * (end - start)}
    return _replace_fact(fact, e.FRAME_COMMITTED, {**payload, **items})


def _replace_fact(fact: Event, event_type: str, payload: dict[str, Any]) -> Event:
    return Event(
        event_type,
        fact.at,
        step=fact.step,
        generation=fact.generation,
        command_id=fact.command_id,
        payload=payload,
    )
