"""Credentials are stored encrypted. Only workers and operators can read the secret, and no list contains it."""

from __future__ import annotations

from dataclasses import replace

from ...errors import InvalidRequest
from ...store.credentials import Credential
from ...tools import credential_types
from ..models.credentials import (
    CredentialEntries,
    CredentialEntry,
    Deleted,
    GetCredential,
    ListCredentials,
    PutCredential,
    StoredCredential,
)
from ..operation import BOTH, USERS, WORKERS, Call, Operation, audit, forbidden
from ..page import from_offset
from ..webhooks import doubt_of, fault_of

# how many triggers of one credential are named
MAX_WEBHOOKS = 20


async def put(call: Call) -> StoredCredential:
    body: PutCredential = call.body
    if faults := credential_types.check(body.type, body.data):
        raise InvalidRequest(faults[0].message, faults=faults)
    stored = await call.services.credentials.put(
        name=body.name,
        type=body.type,
        data=body.data,
        meta=body.meta,
        tags=body.tags,
        description=body.description,
    )
    entry = CredentialEntry.of(stored)
    warnings = [*credential_types.warnings(body.type), *await _of_webhooks(call, replace(stored, data=body.data))]
    return StoredCredential(**entry.model_dump(), warnings=warnings)


async def _of_webhooks(call: Call, credential: Credential) -> list[str]:
    """Why the webhooks that are signed with it are refused, or may be."""
    names = [credential.name, str(credential.credential_id)]
    found: list[str] = []
    for path, name, scheme in await call.services.triggers.signed_with(names, MAX_WEBHOOKS):
        said = fault_of(scheme, credential)
        if said is not None:
            found.append(f"the trigger {path}/{name} starts nothing: {said}")
        elif doubt := doubt_of(scheme, credential):
            found.append(f"the trigger {path}/{name}: {doubt}")
    return found


async def entries(call: Call) -> CredentialEntries:
    query: ListCredentials = call.query
    rows = await call.services.credentials.entries(
        type=query.type,
        text=query.q,
        # one more, to know whether there is a next page
        limit=query.limit + 1,
        offset=query.offset,
    )
    page, next_offset = from_offset([CredentialEntry.of(credential) for credential in rows], query.limit, query.offset)
    return CredentialEntries(items=page, filter={"type": query.type, "q": query.q}, next=next_offset)


async def get(call: Call) -> CredentialEntry:
    query: GetCredential = call.query
    if query.include_data:
        if call.caller.role not in WORKERS:
            raise forbidden(call.caller, "the data of credentials")
        audit("readCredentialData", call, credential=call.path("name"), execution_id=query.execution_id)
    return CredentialEntry.of(await call.services.credentials.get(call.path("name"), with_data=query.include_data))


async def delete(call: Call) -> Deleted:
    return Deleted(name=await call.services.credentials.delete(call.path("name")))


OPERATIONS = (
    Operation(
        "putCredential",
        "POST",
        "/api/credentials",
        summary="Store a credential, or replace the one of the same name",
        tag="credentials",
        roles=USERS,
        handler=put,
        answer=StoredCredential,
        body=PutCredential,
    ),
    Operation(
        "listCredentials",
        "GET",
        "/api/credentials",
        summary="List credentials, without their data",
        tag="credentials",
        roles=USERS,
        handler=entries,
        answer=CredentialEntries,
        next_parameter="offset",
        query=ListCredentials,
    ),
    Operation(
        "getCredential",
        "GET",
        "/api/credentials/{name}",
        summary="Read a credential by name or id; its data only on request",
        tag="credentials",
        roles=BOTH,
        handler=get,
        answer=CredentialEntry,
        query=GetCredential,
    ),
    Operation(
        "deleteCredential",
        "DELETE",
        "/api/credentials/{name}",
        summary="Delete a credential",
        tag="credentials",
        roles=USERS,
        handler=delete,
        answer=Deleted,
    ),
)
