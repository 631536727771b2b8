"""The catalog: register, list, read."""

from __future__ import annotations

import asyncio

from ...errors import InvalidRequest
from ..models.catalog import (
    CatalogEntries,
    CatalogEntry,
    ListCatalog,
    PlanText,
    Register,
    Registered,
    Resource,
    Warning,
)
from ..operation import USERS, WORKERS, Call, Operation
from ..page import from_offset
from ..registration import as_text, document_of


async def register(call: Call) -> Registered:
    body: Register = call.body
    text = await call.services.scripts.complete(as_text(body.content))
    # a large playbook takes seconds: in a thread, other requests are answered meanwhile
    document = await asyncio.to_thread(document_of, text, strict=body.strict)
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
    rows = await call.services.catalog.entries(
        path=body.path,
        kind=body.resource_type,
        every_version=body.every_version,
        # one more, to know whether there is a next page
        limit=body.limit + 1,
        offset=body.offset,
    )
    page, next_offset = from_offset([CatalogEntry.of(entry) for entry in rows], body.limit, body.offset)
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
