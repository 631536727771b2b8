"""The cache of the keychain. Workers read and fill it for the commands that they run; users see no value of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import Conflict, Forbidden, InvalidRequest, NotFound
from ...playbook.faults import did_you_mean
from ...playbook.grammar import EXECUTABLE
from ...playbook.keychain import DEFAULT_TTL_SECONDS, FETCHED, ID_TOKEN_FIELDS, TOKEN_FIELDS
from ...playbook.plan import KeychainEntry
from ...playbook.values import InvalidValue, stored
from ...protocol import FetchedSecret, SecretAnswer, SecretRequest, SecretStored
from ...store.keychain import GIVEN, CachedSecret, Owner, Scope, Slot
from ..models.keychain import (
    MAX_TTL_SECONDS,
    DeletedSecrets,
    GetSecret,
    GivenSecret,
    GiveSecret,
    ListSecrets,
    SecretEntry,
    SelectSecrets,
    cache_type_of,
)
from ..operation import USERS, WORKERS, Call, Operation, audit, forbidden
from ..page import Page
from .identifiers import catalog_id_of

# how many are looked at for the latest one of a name
MAX_OF_NAME = 1000
# in the order in which they take the place of a fetched value
GIVEN_SCOPES: tuple[Scope, ...] = ("local", "shared", "global")
# of kinds with one token, under several names
TOKENS: Mapping[str, frozenset[str]] = {"google_id_token": ID_TOKEN_FIELDS, "google_access_token": TOKEN_FIELDS}


async def acquire(call: Call) -> SecretAnswer:
    body: SecretRequest = call.body
    slot, entry, owner = await _slot(call, body)
    execution_id = int(body.execution_id)
    given = [Slot.in_scope(scope, entry.name, execution_id, owner, GIVEN) for scope in GIVEN_SCOPES]
    acquired = await call.services.keychain.acquire(slot, entry, given)
    if acquired.data is not None:
        audit("readSecret", call, execution_id=body.execution_id, secret=entry.name)
    return SecretAnswer(data=acquired.data, seconds_left=acquired.seconds_left, fetch=acquired.fetch_id)


async def store(call: Call) -> SecretStored:
    body: FetchedSecret = call.body
    slot, _, _ = await _slot(call, body)
    if body.data is None:
        await call.services.keychain.give_up(slot, body.fetch)
        return SecretStored(stored=False)
    return SecretStored(stored=await call.services.keychain.store(slot, body.fetch, body.data, body.ttl))


async def _slot(call: Call, request: SecretRequest) -> tuple[Slot, KeychainEntry, Owner]:
    """Where the secret is kept, by what its playbook says. Raises NotFound, and Forbidden for a secret that no running
    command can need."""
    owner = await call.services.keychain.owner(int(request.execution_id))
    if not owner.runs:
        raise Forbidden(f"the execution {request.execution_id} has ended: it needs no secrets")
    plan = await call.services.orchestrator.plan(owner.plan_hash)
    entry = plan.keychain.get(request.name)
    if entry is None:
        raise NotFound(f"the playbook has no keychain entry {request.name!r}")
    return Slot.of(entry, int(request.execution_id), owner, request.inputs), entry, owner


async def give(call: Call) -> GivenSecret:
    body: GiveSecret = call.body
    catalog_id, name = catalog_id_of(call), call.path("name")
    playbook = await call.services.catalog.by_id(catalog_id)
    entry = (await call.services.orchestrator.plan(playbook.hash)).keychain.get(name)
    if entry is None:
        raise InvalidRequest(f"{playbook.path} version {playbook.version} has no keychain entry {name!r} to read it")
    _check_kind(entry, body)
    data = _fields(entry, body.token_data)
    ttl = _ttl(call, entry, body)
    slot = await _given_slot(call, catalog_id, name, body)
    auto_renew = entry.auto_renew if body.auto_renew is None else body.auto_renew
    expires_at = await call.services.keychain.give(slot, entry, body.scope_type, data, ttl, auto_renew=auto_renew)
    return GivenSecret(
        message=f"the keychain entry {name!r} has this value for {ttl:g} s",
        keychain_name=name,
        catalog_id=str(slot.catalog_id),
        cache_key=slot.cache_key,
        scope_type=body.scope_type,
        execution_id=None if slot.execution_id is None else str(slot.execution_id),
        expires_at=expires_at,
        ttl_seconds=ttl,
        auto_renew=auto_renew,
    )


def _check_kind(entry: KeychainEntry, body: GiveSecret) -> None:
    if entry.kind not in FETCHED:
        raise InvalidRequest(
            f"the keychain entry {entry.name!r} is of kind {entry.kind}, whose values are not kept but read from the "
            f"playbook or a credential; a value can be given for the kinds {', '.join(sorted(FETCHED))}"
        )
    if body.credential_type not in (None, entry.kind):
        raise InvalidRequest(f"the keychain entry {entry.name!r} is of kind {entry.kind}, not {body.credential_type!r}")
    if body.cache_type not in (None, cache_type_of(entry.kind)):
        raise InvalidRequest(f"values of kind {entry.kind} have the cache_type {cache_type_of(entry.kind)}")


def _fields(entry: KeychainEntry, data: Mapping[str, Any]) -> dict[str, Any]:
    """All that templates may read of it. Raises InvalidRequest without the value, for a field that is missing."""
    try:
        fields: dict[str, Any] = dict(stored(data))
    except InvalidValue as error:
        raise InvalidRequest(f"token_data cannot be stored: {error.rule}") from None
    if (tokens := TOKENS.get(entry.kind)) is not None:
        values = [fields[field] for field in sorted(tokens) if field in fields]
        if not values:
            raise InvalidRequest(f"token_data needs one of {', '.join(sorted(tokens))}")
        return {**dict.fromkeys(tokens, values[0]), "token_type": "Bearer", **fields}
    needed = entry.config.get("map")
    if missing := [field for field in needed if field not in fields] if isinstance(needed, dict) else []:
        raise InvalidRequest(f"token_data has no field {', '.join(missing)}, which the keychain entry has")
    return fields


def _ttl(call: Call, entry: KeychainEntry, body: GiveSecret) -> float:
    if body.expires_at is None:
        return body.ttl_seconds or entry.ttl or DEFAULT_TTL_SECONDS
    ttl = (body.expires_at - call.services.now()).total_seconds()
    if not 1 <= ttl <= MAX_TTL_SECONDS:
        raise InvalidRequest(f"expires_at must be between 1 s and {MAX_TTL_SECONDS / 86_400:g} days from now")
    return ttl


async def _given_slot(call: Call, catalog_id: int, name: str, body: GiveSecret) -> Slot:
    """Raises NotFound, Conflict for an execution that has ended, and InvalidRequest for one of another playbook."""
    id = body.execution_id or body.parent_execution_id
    if id is None:
        return Slot.of_playbook(name, catalog_id, GIVEN)
    owner = await call.services.keychain.owner(int(id))
    slot = Slot.in_scope(body.scope_type, name, int(id), owner, GIVEN)
    if slot.catalog_id != catalog_id:
        of = "the topmost execution above it" if body.scope_type == "shared" else "it"
        raise InvalidRequest(f"execution {id}: {of} is of the playbook with the catalog id {slot.catalog_id}")
    if not owner.runs:
        raise Conflict(f"the execution {id} has ended: it needs no secrets")
    return slot


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
    query: GetSecret = call.query
    if query.include_data and call.caller.role != "operator":
        raise forbidden(call.caller, "the value of a secret")
    found = await call.services.keychain.entries(
        catalog_id_of(call),
        name=call.path("name"),
        scope=query.scope,
        execution_id=_execution_id(query),
        limit=MAX_OF_NAME,
    )
    if not found:
        raise await _nothing_cached(call)
    secret = max(found, key=_precedence)
    if not query.include_data:
        return SecretEntry.of(secret)
    audit("readSecret", call, execution_id=query.execution_id, secret=secret.name)
    return SecretEntry.of(secret, await call.services.keychain.value(secret))


def _precedence(secret: CachedSecret) -> tuple[Any, ...]:
    """Of what is used, the latest last."""
    given = secret.given and not secret.expired
    return given, -GIVEN_SCOPES.index(secret.scope) if given else 0, secret.fetched_at


async def delete(call: Call) -> DeletedSecrets:
    query: SelectSecrets = call.query
    name = call.path("name")
    count = await call.services.keychain.delete(
        catalog_id_of(call), name, scope=query.scope, execution_id=_execution_id(query)
    )
    if not count:
        raise await _nothing_cached(call)
    return DeletedSecrets(name=name, count=count)


async def _nothing_cached(call: Call) -> NotFound:
    """Whether its playbook has the entry at all."""
    name = call.path("name")
    try:
        resource = await call.services.catalog.by_id(catalog_id_of(call))
        known = (await call.services.orchestrator.plan(resource.hash)).keychain if resource.kind in EXECUTABLE else {}
    except NotFound:
        known = {}
    if name in known or not known:
        return NotFound(f"no value is cached for the keychain entry {name!r}")
    hint = did_you_mean(name, known) or f"; it has {', '.join(sorted(known))}"
    return NotFound(f"{resource.path} has no keychain entry {name!r}{hint}")


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
        "listSecretsOfCatalog",
        "GET",
        "/api/keychain/catalog/{catalog_id}",
        summary="Another path of listSecrets",
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
        summary="Read about the cached secret of a keychain entry; its value only on request",
        tag="keychain",
        roles=USERS,
        handler=get,
        answer=SecretEntry,
        query=GetSecret,
    ),
    Operation(
        "giveSecret",
        "POST",
        "/api/keychain/{catalog_id}/{name}",
        summary="Give the value of a keychain entry, which is then not fetched until it expires",
        tag="keychain",
        roles=USERS,
        handler=give,
        answer=GivenSecret,
        body=GiveSecret,
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
