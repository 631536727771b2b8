"""The cache of the keychain. Workers read and fill it for the commands that they run; users see no value of it."""

from __future__ import annotations

from ...errors import Forbidden, NotFound
from ...playbook.plan import KeychainEntry
from ...protocol import FetchedSecret, SecretAnswer, SecretRequest, SecretStored
from ...store.keychain import Slot
from ..models.keychain import DeletedSecrets, ListSecrets, SecretEntry, SelectSecrets
from ..operation import USERS, WORKERS, Call, Operation, audit
from ..page import Page
from .identifiers import catalog_id_of

# how many are looked at for the latest one of a name
MAX_OF_NAME = 1000


async def acquire(call: Call) -> SecretAnswer:
    body: SecretRequest = call.body
    slot, entry = await _slot(call, body)
    acquired = await call.services.keychain.acquire(slot, entry)
    if acquired.data is not None:
        audit("readSecret", call, execution_id=body.execution_id, secret=entry.name)
    return SecretAnswer(data=acquired.data, seconds_left=acquired.seconds_left, fetch=acquired.fetch_id)


async def store(call: Call) -> SecretStored:
    body: FetchedSecret = call.body
    slot, _ = await _slot(call, body)
    if body.data is None:
        await call.services.keychain.give_up(slot, body.fetch)
        return SecretStored(stored=False)
    return SecretStored(stored=await call.services.keychain.store(slot, body.fetch, body.data, body.ttl))


async def _slot(call: Call, request: SecretRequest) -> tuple[Slot, KeychainEntry]:
    """Where the secret is kept, by what its playbook says. Raises NotFound, and Forbidden for a secret that no running
    command can need."""
    owner = await call.services.keychain.owner(int(request.execution_id))
    if not owner.runs:
        raise Forbidden(f"the execution {request.execution_id} has ended: it needs no secrets")
    plan = await call.services.orchestrator.plan(owner.plan_hash)
    entry = plan.keychain.get(request.name)
    if entry is None:
        raise NotFound(f"the playbook has no keychain entry {request.name!r}")
    return Slot.of(entry, int(request.execution_id), owner, request.inputs), entry


async def entries(call: Call) -> Page:
    query: ListSecrets = call.query
    key, _, inputs = query.after.rpartition("|")
    # one more, to know whether there is a next page
    found = await call.services.keychain.entries(
        catalog_id_of(call),
        scope=query.scope,
        execution_id=_execution_id(query),
        after=(key, inputs),
        limit=query.limit + 1,
    )
    items = [SecretEntry.of(secret) for secret in found[: query.limit]]
    return Page(
        items,
        more=len(found) > len(items),
        next_parameters=lambda entry: {"after": f"{entry.cache_key}|{entry.inputs}"},
    )


async def get(call: Call) -> SecretEntry:
    query: SelectSecrets = call.query
    found = await call.services.keychain.entries(
        catalog_id_of(call),
        name=call.path("name"),
        scope=query.scope,
        execution_id=_execution_id(query),
        limit=MAX_OF_NAME,
    )
    if not found:
        raise NotFound(f"no value is cached for the keychain entry {call.path('name')!r}")
    return SecretEntry.of(max(found, key=lambda secret: secret.fetched_at))


async def delete(call: Call) -> DeletedSecrets:
    query: SelectSecrets = call.query
    name = call.path("name")
    count = await call.services.keychain.delete(
        catalog_id_of(call), name, scope=query.scope, execution_id=_execution_id(query)
    )
    if not count:
        raise NotFound(f"no value is cached for the keychain entry {name!r}")
    return DeletedSecrets(name=name, count=count)


def _execution_id(query: SelectSecrets) -> int | None:
    return None if query.execution_id is None else int(query.execution_id)


OPERATIONS = (
    Operation(
        "acquireSecret",
        "POST",
        "/api/keychain/acquire",
        summary="Read a cached secret that a command needs, or get the permission to fetch it",
        tag="keychain",
        roles=WORKERS,
        handler=acquire,
        answer=SecretAnswer,
        body=SecretRequest,
        audited=False,
    ),
    Operation(
        "storeSecret",
        "POST",
        "/api/keychain/store",
        summary="Cache a secret that was fetched, or say that it could not be fetched",
        tag="keychain",
        roles=WORKERS,
        handler=store,
        answer=SecretStored,
        body=FetchedSecret,
        audited=False,
    ),
    Operation(
        "listSecrets",
        "GET",
        "/api/keychain/{catalog_id}",
        summary="List the cached secrets of a version of a playbook, without their values",
        tag="keychain",
        roles=USERS,
        handler=entries,
        answer=SecretEntry,
        query=ListSecrets,
        many=True,
        next_parameter="after",
    ),
    Operation(
        "getSecret",
        "GET",
        "/api/keychain/{catalog_id}/{name}",
        summary="Read about the latest cached secret of a keychain entry, without its value",
        tag="keychain",
        roles=USERS,
        handler=get,
        answer=SecretEntry,
        query=SelectSecrets,
    ),
    Operation(
        "deleteSecrets",
        "DELETE",
        "/api/keychain/{catalog_id}/{name}",
        summary="Delete the cached secrets of a keychain entry; the next use fetches it again",
        tag="keychain",
        roles=USERS,
        handler=delete,
        answer=DeletedSecrets,
        query=SelectSecrets,
    ),
)
