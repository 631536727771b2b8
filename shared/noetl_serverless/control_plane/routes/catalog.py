"""The catalog: register, list, read."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...errors import Fault, InvalidPlaybook, InvalidRequest, NotFound
from ...playbook.document import plain_data
from ...playbook.load import read_playbook
from ...store.catalog import CatalogVersion, NewPlaybook
from ..models.catalog import (
    CREDENTIAL,
    BatchResult,
    CatalogEntries,
    CatalogEntry,
    Form,
    FormEntry,
    FormQuery,
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

if TYPE_CHECKING:
    from ...playbook.called_inputs import CalledPlaybook

# calls of one playbook that are compared with what they call
MAX_CALLS = 50


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
    document = await asyncio.to_thread(document_of, text, strict=body.strict, is_local=call.services.is_local)
    warnings = [*document.warnings, *await _unfit_calls(call, document)]
    entry, new = await call.services.catalog.register(document)
    message = "registered" if new else "unchanged: already registered"
    return Registered(
        message=f"{entry.path} version {entry.version} {message}",
        path=entry.path,
        version=entry.version,
        catalog_id=str(entry.catalog_id),
        kind=entry.kind,
        warnings=[Warning(**fault.to_dict()) for fault in warnings],
    )


async def _unfit_calls(call: Call, document: NewPlaybook) -> list[Fault]:
    """What the steps give to playbooks of the catalog that does not fit the schemas of these."""
    found: list[Fault] = []
    for called in document.calls[:MAX_CALLS]:
        try:
            entry = await call.services.catalog.get(called.path, called.version)
        except NotFound:
            # it may be registered later
            continue
        if "schemas" in entry.content:
            found += await asyncio.to_thread(_faults_of, called, entry)
    return found


def _faults_of(called: CalledPlaybook, entry: CatalogVersion) -> list[Fault]:
    from ...playbook.called_inputs import faults_of

    root = plain_data(read_playbook(entry.content).root)
    return list(faults_of(called, entry.payload, (root.get("schemas") or {}).get("input")))


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


async def form(call: Call) -> Form:
    query: FormQuery = call.query
    entry = await call.services.catalog.get(call.path("path"), None if query.version == "latest" else query.version)
    # a large playbook takes seconds to read
    return await asyncio.to_thread(_form_of, entry)


def _form_of(entry: CatalogVersion) -> Form:
    from ...playbook.input_form import input_form

    root = plain_data(read_playbook(entry.content or "").root)
    schemas, metadata = root.get("schemas") or {}, root["metadata"]
    description = metadata.get("description")
    fields = input_form(root.get("workload") or {}, schemas.get("input"))
    return Form(
        path=entry.path,
        version=entry.version,
        kind=entry.kind.lower(),
        title=metadata["name"],
        description_markdown=description if isinstance(description, str) else None,
        exposed_in_ui=metadata.get("exposed_in_ui") is True,
        fields=[FormEntry(**asdict(field)) for field in fields],
        input_schema=schemas.get("input"),
        result_schema=schemas.get("result"),
    )


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
        "getPlaybookForm",
        "GET",
        "/api/catalog/{path:path}/ui_schema",
        summary="Read a form for starting a playbook: its inputs with their types, defaults and descriptions",
        tag="catalog",
        roles=USERS,
        handler=form,
        answer=Form,
        query=FormQuery,
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
