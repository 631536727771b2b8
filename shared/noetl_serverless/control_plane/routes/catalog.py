"""The catalog: register, list, read."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...errors import Conflict, Fault, InvalidPlaybook, InvalidRequest, NotFound, Problem
from ...playbook.faults import did_you_mean
from ...playbook.grammar import RESOURCES
from ...playbook.load import playbook_data
from ...playbook.plan import Trigger
from ...store.catalog import CatalogVersion, NewResource
from ..models.catalog import (
    CREDENTIAL,
    BatchResult,
    CatalogEntries,
    CatalogEntry,
    Form,
    FormEntry,
    FormQuery,
    ListAgents,
    ListCatalog,
    PlanText,
    Register,
    RegisterBatch,
    Registered,
    RegisteredBatch,
    Resource,
    Warning,
)
from ..models.catalog_changes import (
    CatalogVersions,
    Changed,
    CompareVersions,
    ListVersions,
    OfPath,
    VersionDifference,
)
from ..models.triggers import NOT_READY
from ..operation import USERS, WORKERS, Call, Operation
from ..page import from_offset
from ..registration import as_text, document_of
from ..webhooks import doubt_of, fault_of

if TYPE_CHECKING:
    from ...playbook.called_inputs import CalledPlaybook

# what clients of the original send for whatever they register
ANY = "Playbook"
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
    except (InvalidPlaybook, Conflict) as error:
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
    services = call.services
    document = await asyncio.to_thread(
        document_of,
        text,
        strict=body.strict,
        is_local=services.is_local,
        pools=services.pools,
        trigger_sources=services.trigger_sources,
    )
    if body.resource_type not in (None, ANY, document.kind):
        message = f"the document is of kind {document.kind}, not {body.resource_type}"
        raise InvalidPlaybook(message, faults=[Fault(message, pointer="/kind", code="playbook.invalid_value")])
    warnings = [*document.warnings, *await _unfit_calls(call, document), *await _unready_triggers(call, document)]
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


async def _unready_triggers(call: Call, document: NewResource) -> list[Fault]:
    """The triggers whose credential or playbook is not there yet, or is not fit: until it is, they start nothing."""
    found: list[Fault] = []
    for index, trigger in enumerate(document.triggers):
        key = {"webhook": "auth", "playbook": "path"}.get(trigger.kind)
        name = None if key is None else trigger.config.get(key)
        if not isinstance(name, str):
            continue
        message = await _lack_of(call, trigger, name)
        if message is not None:
            pointer = f"/triggers/{index}/{key}"
            found.append(Fault(message, pointer=pointer, line=trigger.place.line, code=NOT_READY))
    return found


async def _lack_of(call: Call, trigger: Trigger, name: str) -> str | None:
    """`name`: of its credential, or of its playbook."""
    nothing = f"the trigger '{trigger.name}' starts nothing yet"
    try:
        if trigger.kind == "playbook":
            await call.services.catalog.get(name, None)
            return None
        credential = await call.services.credentials.get(name, with_data=True)
    except NotFound:
        return f"{nothing}: there is no {'credential' if trigger.kind == 'webhook' else 'playbook'} '{name}'"
    except Problem as problem:
        return f"{nothing}: {problem.detail}"
    if fault := fault_of(trigger.source, credential):
        return f"{nothing}: {fault}"
    doubt = doubt_of(trigger.source, credential)
    return None if doubt is None else f"the trigger '{trigger.name}': {doubt}"


async def _unfit_calls(call: Call, document: NewResource) -> list[Fault]:
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

    root = playbook_data(entry.content)
    return list(faults_of(called, entry.payload, (root.get("schemas") or {}).get("input")))


async def entries(call: Call) -> CatalogEntries:
    body: ListCatalog = call.body
    known = {kind.casefold(): kind for kind in RESOURCES}
    if body.resource_type is not None and body.resource_type.casefold() not in known:
        message = f"resource_type: this must be one of {', '.join(known.values())}"
        raise InvalidRequest(f"{message}{did_you_mean(body.resource_type.capitalize(), known.values())}")
    # one more, to know whether there is a next page
    limit = body.limit + 1
    rows = await _rows(call, body, limit)
    found = [CatalogEntry.of(entry) for entry in rows]
    if _with_credentials(body) and len(found) < limit:
        # behind all descriptions of credentials
        described = len(found) + body.offset
        if not found and body.offset:
            described = len(await _rows(call, body.model_copy(update={"offset": 0}), body.offset))
        credentials = await call.services.credentials.entries(
            type=None, text=None, limit=limit - len(found), offset=max(0, body.offset - described)
        )
        found += [CatalogEntry.of_credential(credential) for credential in credentials]
    page, next_offset = from_offset(found, body.limit, body.offset)
    return CatalogEntries(entries=page, next=next_offset)


async def _rows(call: Call, body: ListCatalog, limit: int) -> list[CatalogVersion]:
    return await call.services.catalog.entries(
        path=body.path,
        kind=body.resource_type,
        agents=body.agent_only,
        capabilities=_capabilities(body),
        every_version=body.every_version,
        deleted=body.include_deleted,
        limit=limit,
        offset=body.offset,
    )


def _with_credentials(body: ListCatalog) -> bool:
    """Whether stored credentials are listed, which have no paths, versions or capabilities, and are never agents."""
    is_credential = body.resource_type is not None and body.resource_type.casefold() == CREDENTIAL.casefold()
    return is_credential and body.path is None and not body.agent_only and not _capabilities(body)


def _capabilities(body: ListAgents) -> list[str]:
    return [*body.capabilities, *([body.capability] if body.capability is not None else [])]


async def agents(call: Call) -> CatalogEntries:
    body: ListAgents = call.body
    rows = await call.services.catalog.entries(
        path=body.path,
        agents=True,
        capabilities=_capabilities(body),
        deleted=body.include_deleted,
        limit=body.limit + 1,
        offset=body.offset,
    )
    page, next_offset = from_offset([CatalogEntry.of(entry) for entry in rows], body.limit, body.offset)
    return CatalogEntries(entries=page, next=next_offset)


async def versions(call: Call) -> CatalogVersions:
    body: ListVersions = call.body
    rows = await call.services.catalog.versions(
        body.path, deleted=body.include_deleted, before=body.before, limit=body.limit + 1
    )
    if not rows and body.before is None:
        raise NotFound(f"the catalog has no {body.path}")
    page = rows[: body.limit]
    return CatalogVersions(
        entries=[CatalogEntry.of(entry) for entry in page],
        next=page[-1].version if len(rows) > body.limit else None,
    )


async def compare(call: Call) -> VersionDifference:
    # needed for this alone
    from ..version_differences import difference

    body: CompareVersions = call.body
    base = await call.services.catalog.get(body.path, body.base)
    entry = await call.services.catalog.get(body.path, body.version)
    # two large playbooks are compiled: in a thread, other requests are answered meanwhile
    return await asyncio.to_thread(difference, base, entry)


async def delete(call: Call) -> Changed:
    body: OfPath = call.body
    return _changed("deleted", body, await call.services.catalog.delete(body.path, body.version))


async def restore(call: Call) -> Changed:
    body: OfPath = call.body
    return _changed("restored", body, await call.services.catalog.restore(body.path, body.version))


def _changed(what: str, body: OfPath, versions: list[int]) -> Changed:
    listed = f"version{'' if len(versions) == 1 else 's'} {', '.join(map(str, versions))}"
    message = f"{body.path} {listed} {what}" if versions else f"{body.path}: nothing is to be {what}"
    return Changed(message=message, path=body.path, versions=versions)


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

    root = playbook_data(entry.content or "")
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
        summary="Check a playbook, a tool or another document, and register it as the newest version of its path",
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
        summary="Check up to 100 documents and register those without faults",
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
        summary="List the catalog, without the texts",
        tag="catalog",
        roles=USERS,
        handler=entries,
        answer=CatalogEntries,
        next_parameter="offset",
        body=ListCatalog,
        audited=False,
    ),
    Operation(
        "listAgents",
        "POST",
        "/api/catalog/agents/list",
        summary="List the agents of the catalog, without their texts",
        tag="catalog",
        roles=USERS,
        handler=agents,
        answer=CatalogEntries,
        next_parameter="offset",
        body=ListAgents,
        audited=False,
    ),
    Operation(
        "listCatalogVersions",
        "POST",
        "/api/catalog/versions",
        summary="List the versions of a path, without their texts",
        tag="catalog",
        roles=USERS,
        handler=versions,
        answer=CatalogVersions,
        next_parameter="before",
        body=ListVersions,
        audited=False,
    ),
    Operation(
        "compareCatalogVersions",
        "POST",
        "/api/catalog/diff",
        summary="Compare two versions of a path: their texts, and the steps of playbooks",
        tag="catalog",
        roles=USERS,
        handler=compare,
        answer=VersionDifference,
        body=CompareVersions,
        audited=False,
    ),
    Operation(
        "deleteCatalogVersions",
        "POST",
        "/api/catalog/delete",
        summary="Delete a version of a path, or all of them; what runs goes on",
        tag="catalog",
        roles=USERS,
        handler=delete,
        answer=Changed,
        body=OfPath,
    ),
    Operation(
        "restoreCatalogVersions",
        "POST",
        "/api/catalog/restore",
        summary="Restore a deleted version of a path, or all of them",
        tag="catalog",
        roles=USERS,
        handler=restore,
        answer=Changed,
        body=OfPath,
    ),
    Operation(
        "getCatalogEntry",
        "POST",
        "/api/catalog/resource",
        summary="Read one version of a path, with its text",
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
