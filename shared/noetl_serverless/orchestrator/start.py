"""How an execution begins: its id, its workload, its first fact."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..engine import events as e
from ..engine.events import Event
from ..engine.ids import execution_id
from ..engine.state import State
from ..errors import Conflict, Fault, InvalidInput, InvalidRequest, ValueFault
from ..limits import INLINE_BYTES, WORKLOAD_BYTES
from ..playbook.load import playbook_data
from ..playbook.plan import Plan
from ..playbook.values import InvalidValue, merged, stored
from ..ports import CatalogEntry
from ..prices import budget_of
from ..records import IdempotentStart, LoadedExecution

# the pointer to the payload in the body of a request
PAYLOAD = "/payload"


@dataclass(frozen=True, slots=True)
class Started:
    execution_id: str
    commands: int
    # whether an earlier request with the same idempotency key started it
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class NewExecution:
    execution: LoadedExecution
    fact: Event
    row: dict[str, Any]


def new_root(
    entry: CatalogEntry,
    plan: Plan,
    payload: Mapping[str, Any],
    at: int,
    idempotency_key: str | None,
    principal: Mapping[str, Any] | None = None,
    origin: Mapping[str, str] | None = None,
) -> NewExecution:
    """`origin`: executions that it comes from, for the log. Raises InvalidRequest for a payload that is too large,
    cannot be stored, or whose `ctx` is no object, and InvalidInput for one with which the workload does not fit its
    schema."""
    id = execution_id(at, secrets.token_hex(8))
    validated = validated_payload(payload)
    hashed = request_hash(entry.path, entry.version, validated, *_parent(origin)) if idempotency_key else None
    keys = {"idempotency_key": idempotency_key, "request_hash": hashed}
    return _new_execution(
        id,
        str(entry.catalog_id),
        entry.version,
        entry.path,
        plan,
        validated,
        at,
        None,
        0,
        keys,
        validated_payload(principal),
        origin=origin,
    )


def repeated_start(
    earlier: IdempotentStart,
    path: str,
    version: int | None,
    payload: Mapping[str, Any],
    origin: Mapping[str, str] | None = None,
    restart: Sequence[Any] = (),
) -> Started:
    """The execution that this key has started before. `version` None matches whichever version was the latest then.
    `restart`: what else a request for a restart gives. Raises Conflict if the earlier request was a different one."""
    is_other_version = version is not None and version != earlier.version
    more = (*_parent(origin), *restart)
    if is_other_version or earlier.request_hash != request_hash(
        path, earlier.version, validated_payload(payload), *more
    ):
        raise Conflict(
            f"this Idempotency-Key has started execution {earlier.execution_id} with another playbook or payload; "
            "use a new key"
        )
    return Started(earlier.execution_id, 0, replayed=True)


def check_agent(entry: CatalogEntry) -> None:
    """Raises InvalidRequest unless it is an agent: of that kind, or a playbook that says so."""
    if entry.kind == "Agent" or playbook_data(entry.content).get("metadata", {}).get("agent") is True:
        return
    raise InvalidRequest(
        f"{entry.path} version {entry.version} is no agent: start it with resource_kind playbook, or register it with "
        "`kind: Agent` or `metadata: {agent: true}`"
    )


def validated_payload(value: Any) -> Any:
    """The caller's value as one that can be stored; raises InvalidRequest with a pointer to what cannot."""
    try:
        return stored(value)
    except InvalidValue as error:
        fault = Fault(error.rule, pointer=PAYLOAD + error.pointer(), code="value.invalid")
        raise InvalidRequest(f"the payload cannot be stored: {error}", faults=[fault]) from None


def with_schedule(declared: Mapping[str, Any], payload: dict[str, Any], schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The payload, and in its `schedule` the values of a schedule's run. A playbook requests them by their keys:
    those that `schedule` of its workload, `declared`, does not have are left out."""
    requested, given = declared.get("schedule"), payload.get("schedule", {})
    if not isinstance(requested, Mapping) or not isinstance(given, Mapping):
        return payload
    values = {key: value for key, value in schedule.items() if key in requested}
    return {**payload, "schedule": {**given, **values}} if values else payload


def _parent(origin: Mapping[str, str] | None) -> list[str]:
    """What a request names as its parent, if anything."""
    return [origin[e.PARENT]] if origin and origin.get(e.PARENT) else []


def request_hash(path: str, version: int, payload: Any, *more: Any) -> str:
    """Identifies what a request starts; `more`: its parent, or what else a request for a restart gives."""
    return hashlib.sha256(orjson.dumps([path, version, payload, *more], option=orjson.OPT_SORT_KEYS)).hexdigest()


def new_child(parent: LoadedExecution, started: Event, plan: Plan, payload: Mapping[str, Any]) -> NewExecution:
    """Raises InvalidRequest as `initial_values` does."""
    issued = started.payload
    link = {
        "execution_id": parent.execution_id,
        "command_id": started.command_id,
        "step": started.step,
        "generation": started.generation,
        "resumes": issued["resumes"],
        "return_step": issued.get("return_step"),
    }
    return _new_execution(
        issued["execution_id"],
        issued["catalog_id"],
        issued["version"],
        issued["path"],
        plan,
        payload,
        started.at,
        link,
        issued["depth"],
        {},
        parent.principal,
        issued.get("timeout"),
    )


def initial_values(plan: Plan, payload: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The workload and the ctx of an execution started with `payload`, and the workload's size in bytes of JSON.
    Raises InvalidRequest; InvalidInput if the workload does not fit the playbook's schema."""
    overrides = dict(payload)
    ctx = checked_ctx(overrides.pop("ctx", {}))
    workload = merged(plan.workload, overrides)
    size = len(orjson.dumps(workload))
    if size > WORKLOAD_BYTES:
        raise InvalidRequest(f"the workload has {size} bytes; the limit is {WORKLOAD_BYTES}; pass a URL instead")
    if plan.input_schema is not None:
        _check_input(plan, workload)
    return workload, ctx, size


def checked_ctx(ctx: Any) -> dict[str, Any]:
    """What a payload has under `ctx`. Raises InvalidRequest."""
    if not isinstance(ctx, dict):
        raise InvalidRequest("payload.ctx must be an object")
    if (size := len(orjson.dumps(ctx))) > INLINE_BYTES:
        raise InvalidRequest(f"payload.ctx has {size} bytes; the limit is {INLINE_BYTES}")
    return ctx


def _check_input(plan: Plan, workload: dict[str, Any]) -> None:
    # few playbooks have schemas, and a cold start need not read how they are compared
    from ..playbook.json_schema import check

    found = check(plan.input_schema or {}, workload)
    if not found:
        return
    faults = [
        ValueFault(
            f"{fault.pointer}: {fault.message}" if fault.pointer else fault.message,
            pointer=f"{PAYLOAD}{fault.pointer}",
            code=InvalidInput.code,
            expected=fault.expected,
            given=fault.given,
        )
        for fault in found
    ]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise InvalidInput(f"the input does not fit the schema of {plan.path}: {faults[0].message}{more}", faults=faults)


def _new_execution(
    id: str,
    catalog_id: str,
    version: int,
    path: str,
    plan: Plan,
    payload: Mapping[str, Any],
    at: int,
    parent: dict[str, Any] | None,
    depth: int,
    keys: Mapping[str, Any],
    principal: dict[str, Any] | None,
    timeout: float | None = None,
    origin: Mapping[str, str] | None = None,
) -> NewExecution:
    """`timeout`: seconds that its parent gives it."""
    workload, ctx, size = initial_values(plan, payload)
    fact = Event(
        e.STARTED,
        at,
        payload={
            "path": path,
            "version": version,
            "plan": plan.hash,
            "entry": plan.entry,
            "depth": depth,
            **({"workload": workload} if size <= INLINE_BYTES else {"workload_bytes": size}),
            **({"ctx": ctx} if ctx else {}),
            **({"budget": budget_of(plan.budget)} if plan.budget else {}),
            **({"timeout": timeouts[0]} if (timeouts := _sorted(timeout, plan.timeout)) else {}),
            **({"parent": parent} if parent else {}),
            **({"principal": principal} if principal else {}),
            **({e.ORIGIN: dict(origin)} if origin else {}),
        },
    )
    row = {
        "catalog_id": catalog_id,
        "path": path,
        "version": version,
        "plan_hash": plan.hash,
        "parent_execution_id": parent["execution_id"] if parent else None,
        "parent": parent,
        "depth": depth,
        "workload": workload,
        "principal": principal,
        "at": at,
        **keys,
    }
    state = State(id, workload=workload)
    execution = LoadedExecution(
        execution_id=id,
        catalog_id=catalog_id,
        path=path,
        version=version,
        plan_hash=plan.hash,
        parent=parent,
        depth=depth,
        head=0,
        snapshot=0,
        state=state,
        principal=principal,
    )
    return NewExecution(execution, fact, row)


def _sorted(*timeouts: float | None) -> list[float]:
    return sorted(timeout for timeout in timeouts if timeout is not None)
