"""How an execution begins: its id, its workload, its first fact."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ..commands.fact import INLINE_LIMIT
from ..engine import events as e
from ..engine.events import Event
from ..engine.ids import execution_id
from ..engine.state import State
from ..errors import Conflict, InvalidRequest
from ..playbook.plan import Plan
from ..prices import budget_of
from ..store.log import Case
from .playbooks import Entry

# a workload above the inline limit stands beside the log, up to this many bytes of JSON
WORKLOAD_LIMIT = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Started:
    execution_id: str
    commands: int
    # an idempotency key had started it before
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Opening:
    case: Case
    fact: Event
    row: dict[str, Any]

    def replay_of(self, execution_id: str, request_hash: str | None) -> Started:
        """What the same key has started; raises Conflict if that was another request."""
        if request_hash != self.row["request_hash"]:
            raise Conflict(
                f"this Idempotency-Key has started execution {execution_id} with another playbook or payload; "
                "use a new key"
            )
        return Started(execution_id, 0, replayed=True)


def open_root(entry: Entry, plan: Plan, payload: Mapping[str, Any], at: int, idempotency_key: str | None) -> Opening:
    """Raises InvalidRequest for a payload that is too large or whose `ctx` is no object."""
    id = execution_id(at, secrets.token_hex(8))
    request = [entry.path, entry.version, payload]
    request_hash = hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
    keys = {"idempotency_key": idempotency_key, "request_hash": request_hash if idempotency_key else None}
    return _opening(id, str(entry.catalog_id), entry.version, entry.path, plan, payload, at, None, 0, keys)


def open_child(parent: Case, started: Event, plan: Plan) -> Opening:
    order = started.payload
    link = {
        "execution_id": parent.execution_id,
        "command_id": started.command_id,
        "step": started.step,
        "generation": started.generation,
        "resumes": order["resumes"],
        "return_step": order.get("return_step"),
    }
    return _opening(
        order["execution_id"],
        order["catalog_id"],
        order["version"],
        order["path"],
        plan,
        order.get("payload") or {},
        started.at,
        link,
        order["depth"],
        {},
    )


def _opening(
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
) -> Opening:
    given = dict(payload)
    ctx = given.pop("ctx", {})
    if not isinstance(ctx, dict):
        raise InvalidRequest("payload.ctx must be an object")
    workload = _merge(plan.workload, given)
    size = len(orjson.dumps(workload))
    if size > WORKLOAD_LIMIT:
        raise InvalidRequest(f"the workload has {size} bytes, at most {WORKLOAD_LIMIT} are taken; pass a URL instead")
    fact = Event(
        e.STARTED,
        at,
        payload={
            "path": path,
            "version": version,
            "plan": plan.hash,
            "entry": plan.entry,
            "depth": depth,
            **({"workload": workload} if size <= INLINE_LIMIT else {"workload_bytes": size}),
            **({"ctx": ctx} if ctx else {}),
            **({"budget": budget_of(plan.budget)} if plan.budget else {}),
            **({"parent": parent} if parent else {}),
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
        "at": at,
        **keys,
    }
    state = State(id, workload=workload)
    return Opening(Case(id, catalog_id, path, version, plan.hash, parent, depth, 0, 0, state), fact, row)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
