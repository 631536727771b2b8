"""The registry of components, with the paths of the original NoETL."""

from __future__ import annotations

from ...errors import Conflict, InvalidRequest, NotFound
from ...protocol import Instance
from ...store.runtimes import PoolOfWorkers
from ..models.runtimes import (
    Deregistered,
    ListRuntimes,
    NamedRuntime,
    PoolEntry,
    RegisteredRuntime,
    RegisterRuntime,
    RuntimeEntries,
    RuntimeEntry,
    RuntimeHeartbeat,
)
from ..operation import BOTH, USERS, Call, Operation
from ..page import rows_that_fit


async def register(call: Call) -> RegisteredRuntime:
    return await _register(call, call.body, "ok")


async def heartbeat(call: Call) -> RegisteredRuntime:
    body: RuntimeHeartbeat = call.body
    kind = body.kind or (body.registration.kind if body.registration else None) or await _only_kind(call, body.name)
    found = kind and await call.services.runtimes.heartbeat(kind, body.name, status=body.status, running=body.running)
    if found:
        id, runtime = found
        return RegisteredRuntime.model_validate(
            {"status": "ok", "name": body.name, "runtime_id": str(id), "kind": kind, "runtime": runtime}
        )
    if body.registration is None:
        what = body.kind or "component"
        raise NotFound(f"there is no {what} {body.name!r}: register it, or send `registration` with the heartbeat")
    if (body.registration.kind, body.registration.name) != (kind, body.name):
        raise InvalidRequest("registration: its name and kind must be those of the heartbeat")
    return await _register(call, body.registration, "recreated")


async def deregister(call: Call) -> Deregistered:
    body: NamedRuntime = call.body
    kind = body.kind or await _only_kind(call, body.name)
    if kind is None or not await call.services.runtimes.delete(kind, body.name):
        raise NotFound(f"there is no {body.kind or 'component'} {body.name!r}")
    return Deregistered.model_validate({"name": body.name, "kind": kind})


async def _only_kind(call: Call, name: str) -> str | None:
    """The kind of the component of this name, if there is one. Raises Conflict if there are several."""
    kinds = await call.services.runtimes.kinds(name)
    if len(kinds) > 1:
        raise Conflict(f"there are components {name!r} of several kinds: give `kind`, one of {', '.join(kinds)}")
    return kinds[0] if kinds else None


async def entries(call: Call) -> RuntimeEntries:
    query: ListRuntimes = call.query
    runtimes = call.services.runtimes
    rows = await runtimes.entries(
        kind=query.kind,
        pool=query.pool,
        runtime=query.runtime,
        state=query.state,
        after=int(query.after),
        # one more, to know whether there is a next page
        limit=query.limit + 1,
    )
    items = [RuntimeEntry.of(row) for row in rows]
    page = items[: len(rows_that_fit(items[: query.limit]))]
    return RuntimeEntries(
        items=page,
        next=page[-1].runtime_id if len(page) < len(items) else None,
        pools=_pools(call, await runtimes.pools()),
    )


async def _register(call: Call, body: RegisterRuntime, status: str) -> RegisteredRuntime:
    id = await call.services.runtimes.register(Instance(**body.model_dump()))
    return RegisteredRuntime.model_validate(
        {"status": status, "name": body.name, "runtime_id": str(id), "kind": body.kind, "runtime": body.runtime}
    )


def _pools(call: Call, found: list[PoolOfWorkers]) -> list[PoolEntry]:
    """Those that have instances, and those that the deployment has beside them."""
    known = call.services.pools.known
    by_name = {pool.pool: pool for pool in found}
    return [
        PoolEntry(
            pool=name,
            deployed=name in known if known else None,
            instances=pool.instances if (pool := by_name.get(name)) else 0,
            dead=pool.dead if pool else 0,
            versions=sorted(pool.versions) if pool else [],
            capacity=pool.capacity if pool else 0,
            running=pool.running if pool else 0,
            heartbeat=pool.heartbeat if pool else None,
            state=pool.state if pool else "unused",
            labels=dict(known[name].labels) if name in known else {},
            accelerator=known[name].accelerator if name in known else None,
        )
        for name in sorted(by_name.keys() | known.keys())
    ]


OPERATIONS = (
    Operation(
        "registerRuntime",
        "POST",
        "/api/worker/pool/register",
        summary="Register a component, such as an instance of a worker, or write it anew",
        tag="runtimes",
        roles=BOTH,
        handler=register,
        answer=RegisteredRuntime,
        body=RegisterRuntime,
        audited=False,
    ),
    Operation(
        "heartbeatRuntime",
        "POST",
        "/api/worker/pool/heartbeat",
        summary="Send a heartbeat of a component",
        tag="runtimes",
        roles=BOTH,
        handler=heartbeat,
        answer=RegisteredRuntime,
        body=RuntimeHeartbeat,
        audited=False,
    ),
    Operation(
        "deregisterRuntime",
        "DELETE",
        "/api/worker/pool/deregister",
        summary="Remove a component from the registry",
        tag="runtimes",
        roles=BOTH,
        handler=deregister,
        answer=Deregistered,
        body=NamedRuntime,
    ),
    Operation(
        "deregisterRuntimeByPost",
        "POST",
        "/api/worker/pool/deregister",
        summary="Remove a component from the registry, for clients that send no body with DELETE",
        tag="runtimes",
        roles=BOTH,
        handler=deregister,
        answer=Deregistered,
        body=NamedRuntime,
    ),
    Operation(
        "listRuntimes",
        "GET",
        "/api/worker/pools",
        summary="List components with their state, and the pools of workers",
        tag="runtimes",
        roles=USERS,
        handler=entries,
        answer=RuntimeEntries,
        next_parameter="after",
        query=ListRuntimes,
    ),
)
