"""Results by their references: put, read, listed and deleted, with the paths of the original NoETL.

What is below /api/temp is the same, where a reference is of the kind temp_ref.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ...errors import Conflict, InvalidRequest, NotFound, Problem, ResultStoreUnavailable, TooLarge, Unavailable
from ...limits import DELAY_SECONDS, KIB, PAGE_BYTES
from ...playbook.numbers import seconds
from ...results.content import Incoming
from ...results.extract import MAX_SELECTED_BYTES
from ...results.offload import dump
from ...results.reader import ReferenceNotAvailable
from ...results.reference import preview, storage_key
from ...results.urls import signed_url
from ...store.ids import parse_id
from ...store.results import Place, StoredResult
from ...uri import ResultUri
from ..content import content_response, filename, gone, media_type_of, store_of
from ..encode import encode
from ..models.put_results import (
    DeleteResult,
    DeleteResults,
    GetStepResult,
    ListedResults,
    ListStoredResults,
    PutContent,
    PutResult,
    ResolveResult,
    ResultEntry,
    ResultPut,
    ResultsDeleted,
    ResultStats,
    ResultStatsQuery,
    ResultUrl,
    ResultUrlQuery,
)
from ..operation import USERS, Call, Operation
from .execute import IDEMPOTENCY_KEY, principal_of
from .identifiers import execution_id_of

logger = logging.getLogger(__name__)

JSON: Final = "application/json"
FOREVER: Final = "forever"
MAX_CORRELATION_BYTES: Final = 4 * KIB
# rows that one request looks at, of which a list shows some, and of which a deletion deletes some
SCAN_ROWS: Final = 2000
DELETE_ROWS: Final = 500
# concurrent calls of a store
MAX_STORE_CALLS: Final = 16
# results that are counted for the stats
MAX_COUNTED: Final = 100_000
# what may happen to a result between two looks at it is tried again
PUT_ATTEMPTS: Final = 5


# -- putting


async def put(call: Call) -> ResultPut:
    id = execution_id_of(call)
    fields: PutResult | PutContent = call.body if call.body is not None else call.query
    if fields.name is None:
        raise InvalidRequest("the query has no `name`: with one, the body is the result itself")
    await _check_open(call, id)
    body = isinstance(fields, PutResult)
    extracted = _object("extracted", fields.extracted, MAX_SELECTED_BYTES)
    correlation = _object("correlation", fields.correlation, MAX_CORRELATION_BYTES)
    expires_at = _expiry(fields.ttl, call.services.now())
    content_type = JSON if body else _content_type(call)
    incoming = Incoming(
        folder=call.services.scratch, compress="gzip" if fields.compress is True else fields.compress or None
    )
    with contextlib.closing(incoming):
        if isinstance(fields, PutResult):
            await _receive_json(call, incoming, fields.data)
        else:
            await _receive(call, incoming)
        await incoming.end()
        meta = {
            "stored_bytes": incoming.stored_bytes,
            "compression": incoming.compression,
            "extracted": extracted,
            "correlation": correlation,
            "preview": _preview(incoming, content_type),
        }
        row = {
            "name": fields.name,
            "step": fields.source_step or fields.name,
            "bytes": incoming.size,
            "sha256": incoming.sha256,
            "content_type": content_type,
            "scope": fields.scope,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
            "put_by": principal_of(call),
            "meta": {name: value for name, value in meta.items() if value not in (None, {})},
        }
        kind = "tmp" if call.request.url.path.startswith("/api/temp/") else "result"
        is_new, result = await _store(call, id, row, incoming, fields.store, kind)
    entry = ResultEntry.of(result)
    return ResultPut(**entry.__dict__, status="stored" if is_new else "same")


async def _check_open(call: Call, id: int) -> None:
    """Raises NotFound for an unknown execution, and Conflict for one in the archive."""
    if (await call.services.executions.get(id)).archived:
        raise Conflict(f"execution {id} is archived: its results are only read any more")


def _object(name: str, given: dict[str, Any] | str, limit: int) -> dict[str, Any]:
    if isinstance(given, str):
        try:
            found = orjson.loads(given)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"{name} is not JSON: {error}") from None
    else:
        found = given
    if not isinstance(found, dict):
        raise InvalidRequest(f"{name} must be a JSON object")
    if (size := len(orjson.dumps(found))) > limit:
        raise InvalidRequest(f"{name} has {size} bytes; the limit is {limit}")
    return found


def _expiry(ttl: float | str | None, now: datetime) -> datetime | None:
    if ttl is None or ttl == FOREVER:
        return None
    try:
        found = seconds(ttl)
    except ValueError as error:
        raise InvalidRequest(f"ttl: {error}, or {FOREVER}") from None
    if not 0 < found <= DELAY_SECONDS:
        raise InvalidRequest(f"ttl must be more than 0 and at most {DELAY_SECONDS} seconds, or {FOREVER}")
    return now + timedelta(seconds=found)


def _content_type(call: Call) -> str:
    named = call.request.headers.get("content-type", "").strip()
    found = media_type_of(named or "application/octet-stream")
    if found is None:
        raise InvalidRequest(f"Content-Type {named[:100]!r} is not a media type such as text/csv")
    return found


async def _receive_json(call: Call, incoming: Incoming, data: Any) -> None:
    content = await asyncio.to_thread(dump, data)
    _check_size(call, len(content))
    await incoming.add(content)


async def _receive(call: Call, incoming: Incoming) -> None:
    announced = call.request.headers.get("content-length", "")
    if announced.isdecimal():
        _check_size(call, int(announced[:20]))
    try:
        async for piece in call.request.stream():
            _check_size(call, incoming.size + len(piece))
            await incoming.add(piece)
    except ClientDisconnect:
        raise InvalidRequest("the connection ended before the body; nothing was stored") from None
    if announced.isdecimal() and incoming.size != int(announced[:20]):
        raise InvalidRequest(f"the body has {incoming.size} bytes of {announced}; nothing was stored")


def _check_size(call: Call, size: int) -> None:
    limit = call.services.max_result_bytes
    if size > limit:
        raise TooLarge(f"the result has more than {limit} bytes, the limit of this deployment (NOETL_MAX_RESULT_BYTES)")


def _preview(incoming: Incoming, content_type: str) -> str | None:
    if incoming.compression is not None or not (content_type == JSON or content_type.startswith("text/")):
        return None
    beginning = incoming.beginning(2 * KIB)
    try:
        # a character that the cut has split is none of a text that is no UTF-8
        beginning.decode(errors="strict" if len(beginning) < 2 * KIB else "ignore")
        return preview(beginning).replace("\0", "\ufffd")
    except UnicodeDecodeError:
        return None


async def _store(
    call: Call, id: int, row: Mapping[str, Any], incoming: Incoming, kind: str, uri_kind: str
) -> tuple[bool, StoredResult]:
    """Write the object, and then its row; whether it is new, and its row."""
    results, stores = call.services.stored_results, call.services.results()
    given = call.header(IDEMPOTENCY_KEY)
    request = None if given is None else _request_key(given, principal_of(call))
    name, sha256 = row["name"], row["sha256"]
    for _ in range(PUT_ATTEMPTS):
        known = await results.same(id, name, sha256, row["content_type"])
        is_there = known is not None and await _exists(call, known)
        digest = secrets.token_hex(16)
        try:
            ref = str(ResultUri(str(id), "tmp" if uri_kind == "tmp" else "result", name, digest[:8]))
        except ValueError as error:
            raise InvalidRequest(f"name: {error}") from None
        key = storage_key(str(id), name, digest, "json" if row["content_type"] == JSON else "bin")
        full = {**row, "ref": ref, "key": key}
        if known is not None and is_there:
            done = await results.put(id, {**full, "store": known.store}, request, known=known.key)
            if done.outcome == "same" and done.result is not None:
                return False, done.result
            continue
        store = stores.choose(kind, incoming.stored_bytes)
        full["store"] = await _written(incoming, store, key)
        try:
            done = await results.put(id, full, request, gone=None if known is None else known.key)
        except Unavailable:
            # the row may have been written all the same: an object without one is collected later
            raise
        except Problem:
            await _discard(call, full["store"], key)
            raise
        if done.outcome in ("stored", "replaced") and done.result is not None:
            if done.former is not None:
                await _discard(call, done.former["store"], done.former["key"])
            return True, done.result
        # another request has put the same meanwhile, or its URI has the same digits
        await _discard(call, full["store"], key)
        if done.outcome == "same" and done.result is not None:
            return False, done.result
    raise Conflict(f"others put and delete the result {name!r:.100} all the time; try again")


async def _written(incoming: Incoming, store: Any, key: str) -> str:
    try:
        return await incoming.put(store, key)
    except OSError as error:
        raise ResultStoreUnavailable(f"the result store does not answer: {error}") from error


async def _exists(call: Call, result: StoredResult) -> bool:
    try:
        await store_of(call.services.results(), result).get_range(result.key, 0, 1)
    except (KeyError, ReferenceNotAvailable):
        return False
    except OSError as error:
        raise ResultStoreUnavailable(f"the result store does not answer: {error}") from error
    return True


async def _discard(call: Call, store: str, key: str) -> None:
    """Delete an object that no row names; if that fails, it is collected later."""
    try:
        await call.services.results().named(store).delete(key)
    except (KeyError, OSError, Problem):
        logger.info("an object that no result needs could not be deleted yet")


def _request_key(key: str, principal: Mapping[str, Any]) -> str:
    """Each principal has its own keys, even if two choose the same text."""
    return hashlib.sha256(orjson.dumps([principal, key], option=orjson.OPT_SORT_KEYS)).hexdigest()


# -- reading


async def resolve(call: Call) -> Response:
    query: ResolveResult = call.query
    return await _content(call, await _named(call, query.ref, query.sha256))


async def get_of_step(call: Call) -> Response | ResultEntry:
    query: GetStepResult = call.query
    id, step = execution_id_of(call), call.path("step")
    found = await call.services.stored_results.newest(id, step)
    if found is None:
        await call.services.executions.get(id)
        raise NotFound(f"execution {id} has no result of a step {step!r:.200} that can be read")
    return await _content(call, found) if query.resolve else ResultEntry.of(found)


async def url(call: Call) -> ResultUrl:
    query: ResultUrlQuery = call.query
    found = await _named(call, query.ref, query.sha256)
    store = store_of(call.services.results(), found)
    media_type = media_type_of(found.content_type) or "application/octet-stream"
    signed = await signed_url(store, found.key, query.seconds, media_type, filename(found))
    entry = ResultEntry.of(found)
    return ResultUrl(
        url=signed,
        expires_at=call.services.now() + timedelta(seconds=query.seconds),
        content_type=found.content_type,
        bytes=found.bytes,
        sha256=found.sha256,
        compression=entry.compression,
    )


async def _content(call: Call, result: StoredResult) -> Response:
    services = call.services
    return await content_response(call.request, services.results(), result, streams=services.streams_answers)


async def _named(call: Call, ref: str, sha256: str | None) -> StoredResult:
    """Raises InvalidRequest, NotFound, ReferenceNotAvailable, and Conflict for a URI that several results have."""
    id = _execution_of(ref)
    found = await call.services.stored_results.by_ref(id, ref)
    if not found:
        await call.services.executions.get(id)
        raise ReferenceNotAvailable(f"{ref} is not a result of execution {id}, or was deleted")
    now = call.services.now()
    readable = [result for result in found if result.is_readable(now) and sha256 in (None, result.sha256)]
    if not readable:
        raise gone(ref)
    _check_one(ref, readable)
    return readable[0]


def _check_one(ref: str, found: list[StoredResult]) -> None:
    if len({result.sha256 for result in found}) > 1:
        raise Conflict(f"{ref} is the URI of {len(found)} results: give the sha256 of the one that is meant")


def _execution_of(ref: str) -> int:
    try:
        uri = ResultUri.parse(ref)
    except ValueError as error:
        raise InvalidRequest(f"ref: {error}") from None
    if uri.kind == "manifest":
        raise InvalidRequest(f"ref: {ref} names the results of a loop: read GET /api/results/manifest/...")
    id = parse_id(uri.execution_id)
    if id is None or str(id) != uri.execution_id:
        raise NotFound(f"there is no execution {uri.execution_id!r}")
    return id


async def entries(call: Call) -> ListedResults:
    query: ListStoredResults = call.query
    id = execution_id_of(call)
    listed: list[ResultEntry] = []
    size, now = 0, call.services.now()
    found = await call.services.stored_results.page(id, _place(query.after), SCAN_ROWS, step=query.step)
    if not found and not query.after:
        await call.services.executions.get(id)
    place: Place | None = Place.of(found[-1]) if len(found) == SCAN_ROWS else None
    before = Place()
    for result in found:
        if not result.is_readable(now) or query.name not in (None, result.title):
            continue
        if query.scope not in (None, result.scope):
            continue
        entry = ResultEntry.of(result)
        size += len(encode(entry))
        if len(listed) == query.limit or (listed and size > PAGE_BYTES):
            place = before
            break
        listed.append(entry)
        before = Place.of(result)
    return ListedResults(execution_id=str(id), results=listed, next=None if place is None else _token(place))


def _token(place: Place) -> str:
    content = orjson.dumps([place.step, place.at, place.key])
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _place(token: str) -> Place:
    if not token:
        return Place()
    try:
        step, at, key = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True))
        if not all(isinstance(part, str) and "\0" not in part for part in (step, key)):
            raise ValueError
        # as the database reads it
        return Place(step, datetime.fromisoformat(at).isoformat(), key)
    except (ValueError, TypeError, binascii.Error):
        raise InvalidRequest("`after` is not the `next` of a page") from None


async def stats(call: Call) -> ResultStats:
    query: ResultStatsQuery = call.query
    id = None if query.execution_id is None else parse_id(query.execution_id)
    if query.execution_id is not None and id is None:
        raise NotFound(f"there is no execution {query.execution_id!r}")
    found = await call.services.stored_results.stats(id, MAX_COUNTED)
    return ResultStats.of(found, MAX_COUNTED)


# -- deleting


async def delete_one(call: Call) -> ResultsDeleted:
    query: DeleteResult = call.query
    id = _execution_of(query.ref)
    await _check_open(call, id)
    found = await call.services.stored_results.by_ref(id, query.ref)
    chosen = [result for result in found if query.sha256 in (None, result.sha256)]
    current = [result for result in chosen if result.deleted_at is None]
    _check_one(query.ref, current)
    # also what a deletion before has not deleted to its end
    await _delete(call, id, chosen)
    return ResultsDeleted(execution_id=str(id), deleted_count=len(current), next=None)


async def delete_all(call: Call) -> ResultsDeleted:
    return await _delete_many(call, None)


async def delete_of_step(call: Call) -> ResultsDeleted:
    return await _delete_many(call, call.path("step"))


async def _delete_many(call: Call, step: str | None) -> ResultsDeleted:
    query: DeleteResults = call.query
    id = execution_id_of(call)
    await _check_open(call, id)
    found = await call.services.stored_results.page(id, _place(query.after), DELETE_ROWS, step=step)
    chosen = [
        result
        for result in found
        if (result.scope == query.scope if query.scope is not None else result.scope != "permanent")
        and (result.deleted_at is None or result.put_by is not None)
    ]
    await _delete(call, id, chosen)
    following = _token(Place.of(found[-1])) if len(found) == DELETE_ROWS else None
    return ResultsDeleted(execution_id=str(id), deleted_count=len(chosen), next=following)


async def _delete(call: Call, id: int, chosen: list[StoredResult]) -> None:
    """Take the results from their readers, and then their objects from the stores; if these cannot be deleted, the
    results are given back. Raises ReferenceNotAvailable, AccessDenied and ResultStoreUnavailable."""
    results, stores = call.services.stored_results, call.services.results()
    in_stores = [(result, store_of(stores, result)) for result in chosen]
    if not in_stores:
        return
    await results.mark_deleted(id, [result.key for result in chosen])
    permits = asyncio.Semaphore(MAX_STORE_CALLS)

    async def delete(result: StoredResult, store: Any) -> Exception | None:
        async with permits:
            try:
                await store.delete(result.key)
            except (OSError, Problem) as error:
                return error
        return None

    failures = await asyncio.gather(*(delete(result, store) for result, store in in_stores))
    failed = [result.key for result, failure in zip(chosen, failures, strict=True) if failure is not None]
    if failed:
        # a deletion before this one may have deleted the object of one that it has marked
        await results.unmark_deleted(id, [it.key for it in chosen if it.key in failed and it.deleted_at is None])
    await results.remove(id, [result.key for result in chosen if result.key not in failed])
    failure = next((failure for failure in failures if failure is not None), None)
    if isinstance(failure, OSError):
        raise ResultStoreUnavailable(f"the result store does not answer: {failure}") from failure
    if failure is not None:
        raise failure


def _operations(folder: str, name: str, what: str) -> tuple[Operation, ...]:
    base = f"/api/{folder}"
    common: dict[str, Any] = {"tag": "results", "roles": USERS}
    return (
        Operation(
            f"resolve{name}",
            "GET",
            f"{base}/resolve",
            summary=f"Read {what} by its URI, in its own type, whole or in parts (Range)",
            handler=resolve,
            answer=ResultEntry,
            query=ResolveResult,
            content_answer="always",
            **common,
        ),
        Operation(
            f"get{name}Url",
            "GET",
            f"{base}/url",
            summary=f"Create a URL by which {what} can be read without a token, where its store gives such URLs",
            handler=url,
            answer=ResultUrl,
            query=ResultUrlQuery,
            **common,
        ),
        Operation(
            f"get{name}Stats",
            "GET",
            f"{base}/stats",
            summary="Count stored results, by store and by scope",
            handler=stats,
            answer=ResultStats,
            query=ResultStatsQuery,
            **common,
        ),
        Operation(
            f"list{name}s" if folder == "temp" else "listStoredResults",
            "GET",
            f"{base}/{{execution_id}}/list",
            summary="List the references of an execution's results, of its steps and of those that were put",
            handler=entries,
            answer=ListedResults,
            query=ListStoredResults,
            next_parameter="after",
            **common,
        ),
        Operation(
            f"get{name}OfStep",
            "GET",
            f"{base}/{{execution_id}}/{{step:path}}",
            summary="Read the reference of a step's newest result, or the result itself",
            handler=get_of_step,
            answer=ResultEntry,
            query=GetStepResult,
            content_answer="also",
            **common,
        ),
        Operation(
            f"put{name}",
            "PUT",
            f"{base}/{{execution_id}}",
            summary="Put a result into an execution: as JSON, or as a body of any type with its name in the query",
            handler=put,
            answer=ResultPut,
            body=PutResult,
            query=PutContent,
            content_body=True,
            headers={"Idempotency-Key": "A second request with the same key changes nothing and returns the same."},
            **common,
        ),
        Operation(
            f"delete{name}s",
            "DELETE",
            f"{base}/{{execution_id}}",
            summary="Delete results of an execution, up to 500 at once",
            handler=delete_all,
            answer=ResultsDeleted,
            query=DeleteResults,
            **common,
        ),
        Operation(
            f"delete{name}sOfStep",
            "DELETE",
            f"{base}/{{execution_id}}/step/{{step:path}}",
            summary="Delete results of a step, up to 500 at once",
            handler=delete_of_step,
            answer=ResultsDeleted,
            query=DeleteResults,
            **common,
        ),
        Operation(
            f"delete{name}",
            "DELETE",
            base,
            summary=f"Delete {what} by its URI",
            handler=delete_one,
            answer=ResultsDeleted,
            query=DeleteResult,
            **common,
        ),
    )


OPERATIONS = (*_operations("result", "Result", "a result"), *_operations("temp", "Temp", "a temporary result"))
