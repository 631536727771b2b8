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
from ..errors import Conflict, Fault, InvalidRequest
from ..limits import INLINE_BYTES, WORKLOAD_BYTES
from ..playbook.plan import Plan
from ..playbook.values import InvalidValue, stored
from ..ports import CatalogEntry
from ..prices import budget_of
from ..records import IdempotentStart, LoadedExecution


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
) -> NewExecution:
    """Raises InvalidRequest for a payload that is too large, cannot be stored, or whose `ctx` is no object."""
    id = execution_id(at, secrets.token_hex(8))
    validated = validated_payload(payload)
    hashed = request_hash(entry.path, entry.version, validated) if idempotency_key else None
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
    )


def repeated_start(
    earlier: IdempotentStart, path: str, version: int | None, payload: Mapping[str, Any], restart: Sequence[Any] = ()
) -> Started:
    """The execution that this key has started before. `version` None matches whichever version was the latest then.
    `restart`: what else a request for a restart gives. Raises Conflict if the earlier request was a different one."""
    is_other_version = version is not None and version != earlier.version
    if is_other_version or earlier.request_hash != request_hash(
        path, earlier.version, validated_payload(payload), *restart
    ):
        raise Conflict(
            f"this Idempotency-Key has started execution {earlier.execution_id} with another playbook or payload; "
            "use a new key"
        )
    return Started(earlier.execution_id, 0, replayed=True)


def validated_payload(value: Any) -> Any:
    """The caller's value as one that can be stored; raises InvalidRequest with a pointer to what cannot."""
    try:
        return stored(value)
    except InvalidValue as error:
        fault = Fault(error.rule, pointer="/payload" + error.pointer(), code="value.invalid")
        raise InvalidRequest(f"the payload cannot be stored: {error}", faults=[fault]) from None


def request_hash(path: str, version: int, payload: Any, *restart: Any) -> str:
    """Identifies what a request starts; `restart`: what else a request for a restart gives."""
    return hashlib.sha256(orjson.dumps([path, version, payload, *restart], option=orjson.OPT_SORT_KEYS)).hexdigest()


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
    Raises InvalidRequest."""
    overrides = dict(payload)
    ctx = overrides.pop("ctx", {})
    if not isinstance(ctx, dict):
        raise InvalidRequest("payload.ctx must be an object")
    workload = merged(plan.workload, overrides)
    size = len(orjson.dumps(workload))
    if size > WORKLOAD_BYTES:
        raise InvalidRequest(f"the workload has {size} bytes; the limit is {WORKLOAD_BYTES}; pass a URL instead")
    if (size_of_ctx := len(orjson.dumps(ctx))) > INLINE_BYTES:
        raise InvalidRequest(f"payload.ctx has {size_of_ctx} bytes; the limit is {INLINE_BYTES}")
    return workload, ctx, size


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


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Objects merge key by key, everything else is replaced."""
    found = dict(base)
    for key, value in overrides.items():
        before = found.get(key)
        found[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return found
