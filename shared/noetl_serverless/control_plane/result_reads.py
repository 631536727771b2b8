"""Finds results by their URIs and steps, and gives their contents, URLs and lists."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

import orjson
from starlette.responses import Response

from ..errors import Conflict, InvalidRequest, NotFound
from ..limits import PAGE_BYTES
from ..results.reader import ReferenceNotAvailable
from ..results.urls import signed_url
from ..store.executions import Execution
from ..store.ids import parse_id
from ..store.results import Place, StoredResult
from ..uri import ResultUri
from .content import content_response, filename, gone, media_type_of, store_of
from .encode import encode
from .models.put_results import (
    GetStepResult,
    ListedResults,
    ListStoredResults,
    ResolveResult,
    ResultEntry,
    ResultStats,
    ResultStatsQuery,
    ResultUrl,
    ResultUrlQuery,
)
from .operation import Call
from .routes.identifiers import execution_id_of

# rows that a list looks at, of which it shows some
SCAN_ROWS: Final = 2000
# results that are counted for the stats
MAX_COUNTED: Final = 100_000


async def resolve(call: Call) -> Response:
    query: ResolveResult = call.query
    return await _content(call, await _named(call, query.ref, query.sha256))


async def get_of_step(call: Call) -> Response | ResultEntry:
    query: GetStepResult = call.query
    id, step = execution_id_of(call), call.path("step")
    found = await call.services.stored_results.newest(id, step)
    if found is None:
        await call.services.executions.get(id)
        raise NotFound(
            f"execution {id} has no result of a step {step!r:.200} that can be read here: small ones are in its events "
            "alone, others may have been deleted or have expired"
        )
    if await call.services.executions.latest_generation(id, step) is not None:
        path = f"/api/aggregate/loop/results?execution_id={id}&step_name={quote(step, safe='')}"
        raise Conflict(f"step {step!r:.200} is a loop, and this is a part of its results: read all with GET {path}")
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
    id = execution_of(ref)
    found = await call.services.stored_results.by_ref(id, ref)
    if not found:
        await call.services.executions.get(id)
        raise ReferenceNotAvailable(f"{ref} is not a result of execution {id}, or was deleted", "missing")
    now = call.services.now()
    readable = [result for result in found if result.is_readable(now) and sha256 in (None, result.sha256)]
    if not readable:
        is_expired = any(result.deleted_at is None and result.expires_at is not None for result in found)
        raise gone(ref, "expired" if is_expired and sha256 is None else "missing")
    check_one(ref, readable)
    return readable[0]


def check_one(ref: str, found: list[StoredResult]) -> None:
    if len({result.sha256 for result in found}) > 1:
        raise Conflict(f"{ref} is the URI of {len(found)} results: give the sha256 of the one that is meant")


def execution_of(ref: str) -> int:
    try:
        uri = ResultUri.parse(ref)
    except ValueError as error:
        raise InvalidRequest(f"ref: {error}") from None
    if uri.kind == "manifest":
        path = f"/api/results/manifest/{uri.execution_id}/{quote(uri.step, safe='')}/{uri.suffix}"
        raise InvalidRequest(f"ref: {ref} names the results of a loop: read GET {path}")
    id = parse_id(uri.execution_id)
    if id is None or str(id) != uri.execution_id:
        raise NotFound(f"there is no execution {uri.execution_id!r}")
    return id


async def entries(call: Call) -> ListedResults:
    query: ListStoredResults = call.query
    id = execution_id_of(call)
    listed: list[ResultEntry] = []
    size, now = 0, call.services.now()
    found = await call.services.stored_results.page(id, place_of(query.after), SCAN_ROWS, step=query.step)
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
    return ListedResults(execution_id=str(id), results=listed, next=None if place is None else token_of(place))


def token_of(place: Place) -> str:
    content = orjson.dumps([place.step, place.at, place.key])
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def place_of(token: str) -> Place:
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


async def check_open(call: Call, id: int) -> Execution:
    """Raises NotFound for an unknown execution, and Conflict for one in the archive."""
    found = await call.services.executions.get(id)
    if found.archived:
        raise Conflict(f"execution {id} is archived: its results are only read any more")
    return found
