"""Puts results of users into executions: first the object, then its row."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect

from ..errors import (
    Conflict,
    Fault,
    InvalidRequest,
    Problem,
    ResultStoreUnavailable,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from ..limits import DELAY_SECONDS, KIB, MIB
from ..playbook.numbers import seconds
from ..ports import ResultStore
from ..results.accumulated import MANIFEST_TYPES
from ..results.content import Incoming
from ..results.extract import MAX_SELECTED_BYTES
from ..results.offload import dump
from ..results.reader import ReferenceNotAvailable
from ..results.reference import preview, storage_key
from ..store.results import StoredResult
from ..uri import ResultUri
from .content import media_type_of, store_of
from .models.put_results import (
    PutContent,
    PutResult,
    ResultEntry,
    ResultPut,
)
from .operation import Call
from .result_reads import check_open
from .routes.execute import IDEMPOTENCY_KEY, principal_of
from .routes.identifiers import execution_id_of

logger = logging.getLogger(__name__)

JSON: Final = "application/json"
FOREVER: Final = "forever"
MAX_CORRELATION_BYTES: Final = 4 * KIB
# of JSON that is put as a body, which is checked
LOOKED_AT_BYTES: Final = 16 * MIB
# what may happen to a result between two looks at it is tried again
PUT_ATTEMPTS: Final = 5


async def put(call: Call) -> ResultPut:
    id = execution_id_of(call)
    fields: PutResult | PutContent = call.body if call.body is not None else call.query
    if fields.name is None:
        raise InvalidRequest("the query has no `name`: with one, the body is the result itself")
    await _check_kept(call, id, fields.scope)
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
            await _receive(call, incoming, is_json=content_type.partition(";")[0].strip().lower() == JSON)
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
    await _check_collected(call, id, result)
    entry = ResultEntry.of(result)
    return ResultPut(**entry.__dict__, status="stored" if is_new else "same")


async def _check_kept(call: Call, id: int, scope: str) -> bool:
    """Whether the execution has ended. Raises Conflict if results of the scope are deleted then: the collection does
    not come back to what was collected already."""
    has_ended = (await check_open(call, id)).ended_at is not None
    if has_ended and scope == "step":
        raise Conflict(
            f"execution {id} has ended, and results of scope step are deleted then: put it with the scope execution, "
            "workflow or permanent"
        )
    if has_ended and scope != "permanent" and await _is_over(call, id):
        raise _over(call, id, scope)
    return has_ended


def _over(call: Call, id: int, scope: str) -> Conflict:
    return Conflict(
        f"execution {id} ended more than {call.services.result_ttl_days:g} days ago, and its results of scope {scope} "
        "have been deleted (NOETL_RESULT_TTL_DAYS): put it with the scope permanent, with a `ttl`"
    )


async def _is_over(call: Call, id: int) -> bool:
    """Whether the time is over for which results of the execution are kept."""
    days = call.services.result_ttl_days
    return days > 0 and await call.services.stored_results.settled(id, call.services.now() - timedelta(days=days))


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
    try:
        size = len(orjson.dumps(found))
    except TypeError as error:
        # what JSON could be read from can be nested deeper than it is written
        raise InvalidRequest(f"{name}: {error}") from None
    if size > limit:
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
    if (plain := found.partition(";")[0].strip().lower()) in MANIFEST_TYPES:
        raise UnsupportedMediaType(
            f"Content-Type {plain} is for what a step has accumulated, which only workers store: put the value "
            f"itself, as {JSON}"
        )
    return found


async def _receive_json(call: Call, incoming: Incoming, data: Any) -> None:
    content = await asyncio.to_thread(dump, data)
    _check_size(call, len(content))
    await incoming.add(content)


async def _receive(call: Call, incoming: Incoming, *, is_json: bool) -> None:
    """The body as it comes; if it should be JSON and is not large, it is looked at, too."""
    looked_at: list[bytes] | None = [] if is_json else None
    announced = call.request.headers.get("content-length", "")
    if announced.isdecimal():
        _check_size(call, int(announced[:20]))
    try:
        async for piece in call.request.stream():
            _check_size(call, incoming.size + len(piece))
            await incoming.add(piece)
            if looked_at is not None and incoming.size <= LOOKED_AT_BYTES:
                looked_at.append(piece)
            else:
                looked_at = None
    except ClientDisconnect:
        raise InvalidRequest("the connection ended before the body; nothing was stored") from None
    if announced.isdecimal() and incoming.size != int(announced[:20]):
        raise InvalidRequest(f"the body has {incoming.size} bytes of {announced}; nothing was stored")
    if looked_at is not None:
        await asyncio.to_thread(_check_json, b"".join(looked_at))


def _check_json(content: bytes) -> None:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError as error:
        fault = Fault(error.msg, line=error.lineno, column=error.colno)
        raise InvalidRequest(
            f"the body is not JSON, as its Content-Type says: {fault}; nothing was stored. Put it with another type, "
            "such as text/plain, if it is to be kept as it is",
            faults=[fault],
        ) from None


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
    # all of the body has come, and the execution may have ended meanwhile
    has_ended = await _check_kept(call, id, row["scope"])
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
        full["store"] = store.name
        if has_ended:
            # of an execution that runs, nothing is collected that has no row
            await results.reserve(id, full)
        try:
            await _write(incoming, store, key)
        except Problem:
            await results.remove(id, [key])
            raise
        try:
            done = await results.put(id, full, request, gone=None if known is None else known.key)
        except Unavailable:
            # the row may have been written all the same: an object without one is collected later
            raise
        except Problem:
            await _discard(call, full["store"], key)
            await results.remove(id, [key])
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


async def _check_collected(call: Call, id: int, result: StoredResult) -> None:
    """While the object was written, the collection may have passed the execution, for good: it has seen no row. If the
    time is not over yet, it is still to come, and sees this one. Raises Conflict."""
    if result.scope == "permanent" or not await _is_over(call, id):
        return
    results = call.services.stored_results
    # if it cannot be deleted, the mark is found
    await results.mark_deleted(id, [result.key])
    if await _discard(call, result.store, result.key):
        await results.remove(id, [result.key])
    raise _over(call, id, result.scope)


async def _write(incoming: Incoming, store: ResultStore, key: str) -> None:
    try:
        await incoming.put(store, key)
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


async def _discard(call: Call, store: str, key: str) -> bool:
    """Delete an object that nobody reads; if that fails, it is collected later. Whether it is deleted."""
    try:
        await call.services.results().named(store).delete(key)
    except (KeyError, OSError, Problem):
        logger.info("an object that no result needs could not be deleted yet")
        return False
    return True


def _request_key(key: str, principal: Mapping[str, Any]) -> str:
    """Each principal has its own keys, even if two choose the same text."""
    return hashlib.sha256(orjson.dumps([principal, key], option=orjson.OPT_SORT_KEYS)).hexdigest()
