"""The catalog: register, list, read."""

from __future__ import annotations

import asyncio

from ...errors import InvalidPlaybook, InvalidRequest
from ..models.catalog import (
    CREDENTIAL,
    BatchResult,
    CatalogEntries,
    CatalogEntry,
    ListCatalog,
    PlanText,
    Register,
    RegisterBatch,
    Registered,
    RegisteredBatch,
    Resource,
    Warning,
)
from ..operation import USERS, WORKERS, Call, Operation
from ..page import from_offset
from ..registration import as_text, document_of


async def register(call: Call) -> Registered:
    return await _register(call, call.body)


async def register_batch(call: Call) -> RegisteredBatch:
    """Each by itself: a faulty one does not keep the others from being registered."""
    body: RegisterBatch = call.body
    results = [await _batch_result(call, index, item) for index, item in enumerate(body.items)]
    registered = sum(result.error is None for result in results)
    return RegisteredBatch(results=results, registered=registered, failed=len(results) - registered)


async def _batch_result(call: Call, index: int, body: Register) -> BatchResult:
    try:
        done = await _register(call, body)
    except InvalidPlaybook as error:
        return BatchResult(index=index, status="failed", message=error.title, error=error.detail)
    return BatchResult(
        index=index,
        status="registered",
        message=done.message,
        path=done.path,
        version=done.version,
        catalog_id=done.catalog_id,
        warnings=done.warnings,
    )


async def _register(call: Call, body: Register) -> Registered:
    text = await call.services.scripts.complete(as_text(body.content))
    # a large playbook takes seconds: in a thread, other requests are answered meanwhile
    document = await asyncio.to_thread(
        document_of,
        text,
        strict=body.strict,
        is_local=call.services.is_local,
        trigger_sources=call.services.trigger_sources,
    )
    entry, new = await call.services.catalog.register(document)
    message = "registered" if new else "unchanged: already registered"
    return Registered(
        message=f"{entry.path} version {entry.version} {message}",
        path=entry.path,
        version=entry.version,
        catalog_id=str(entry.catalog_id),
        kind=entry.kind,
        warnings=[Warning(**fault.to_dict()) for fault in document.warnings],
    )


async def entries(call: Call) -> CatalogEntries:
    body: ListCatalog = call.body
    # one more, to know whether there is a next page
    limit = body.limit + 1
    if body.resource_type is not None and body.resource_type.casefold() == CREDENTIAL.casefold():
        if body.path is not None:
            raise InvalidRequest("credentials have no paths; omit path, or read one: GET /api/credentials/{name}")
        credentials = await call.services.credentials.entries(type=None, text=None, limit=limit, offset=body.offset)
        found = [CatalogEntry.of_credential(credential) for credential in credentials]
    else:
        rows = await call.services.catalog.entries(
            path=body.path, kind=body.resource_type, every_version=body.every_version, limit=limit, offset=body.offset
        )
        found = [CatalogEntry.of(entry) for entry in rows]
    page, next_offset = from_offset(found, body.limit, body.offset)
    return CatalogEntries(entries=page, next=next_offset)


async def resource(call: Call) -> CatalogEntry:
    body: Resource = call.body
    if (body.path is None) == (body.catalog_id is None):
        raise InvalidRequest("give either catalog_id or path")
    if body.catalog_id is not None:
        return CatalogEntry.of(await call.services.catalog.by_id(int(body.catalog_id)))
    assert body.path is not None
    version = None if body.version == "latest" else body.version
    return CatalogEntry.of(await call.services.catalog.get(body.path, version))


async def plan(call: Call) -> PlanText:
    hash = call.path("hash")
    return PlanText(hash=hash, content=await call.services.catalog.text(hash))


OPERATIONS = (
    Operation(
        "registerPlaybook",
        "POST",
        "/api/catalog/register",
        summary="Check a playbook and register it as the newest version of its path",
        tag="catalog",
        roles=USERS,
        handler=register,
        answer=Registered,
        body=Register,
    ),
    Operation(
        "registerPlaybooks",
        "POST",
        "/api/catalog/register/batch",
        summary="Check up to 100 playbooks and register those without faults",
        tag="catalog",
        roles=USERS,
        handler=register_batch,
        answer=RegisteredBatch,
        body=RegisterBatch,
    ),
    Operation(
        "listCatalog",
        "POST",
        "/api/catalog/list",
        summary="List the catalog, without the texts of the playbooks",
        tag="catalog",
        roles=USERS,
        handler=entries,
        answer=CatalogEntries,
        next_parameter="offset",
        body=ListCatalog,
        audited=False,
    ),
    Operation(
        "getCatalogEntry",
        "POST",
        "/api/catalog/resource",
        summary="Read one version of a playbook, with its text",
        tag="catalog",
        roles=USERS,
        handler=resource,
        answer=CatalogEntry,
        body=Resource,
        audited=False,
    ),
    Operation(
        "getPlanText",
        "GET",
        "/api/catalog/plans/{hash}",
        summary="Read the playbook whose plan has this hash",
        tag="catalog",
        roles=WORKERS,
        handler=plan,
        answer=PlanText,
    ),
)
