"""Finds results by their URIs and steps, and gives their contents, URLs and lists."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import orjson
from starlette.responses import Response

from ..engine.state import State
from ..errors import Conflict, InvalidPlaybook, InvalidRequest, NotFound, ResultOfLoop
from ..limits import PAGE_BYTES
from ..results.offload import dump
from ..results.reader import Reason, ReferenceNotAvailable
from ..results.urls import signed_url
from ..store.executions import Execution
from ..store.ids import parse_id
from ..store.results import Place, StoredResult
from ..tables.media_types import form_named
from ..uri import ResultUri
from .accumulated import is_manifest, json_size_of
from .accumulated_response import accumulated_document, accumulated_response, fields_of
from .content import content_response, filename, gone, media_type_of, store_of
from .encode import encode
from .inline import JSON, Inline, inline_response
from .models.put_results import (
    GetStepResult,
    InlineResult,
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
from .services import Services

if TYPE_CHECKING:
    from .converted import Given

# rows that a list looks at, of which it shows some
SCAN_ROWS: Final = 2000
# steps of a playbook in a message
MAX_NAMED: Final = 20
# results that are counted for the stats
MAX_COUNTED: Final = 100_000


async def resolve(call: Call) -> Response:
    query: ResolveResult = call.query
    return await _content(call, await _named(call, query.ref, query.sha256), query.table)


async def get_of_step(call: Call) -> Response | ResultEntry | InlineResult:
    query: GetStepResult = call.query
    id, step = execution_id_of(call), call.path("step")
    newest = await call.services.stored_results.newest(id, step)
    found = newest if newest is not None and newest.put_by is not None else await _of_step(call, id, step, newest)
    if isinstance(found, Inline):
        if not query.resolve:
            return found.entry()
        fields = await accumulated_fields(call.services, id, step) if _may_be_converted(call, query.table) else ()
        return await inline_response(call, found, query.table, fields)
    if query.resolve:
        return await _content(call, found, query.table)
    return ResultEntry.of((await call.services.stored_results.described(_owner_of(found), [found]))[0])


async def _of_step(call: Call, id: int, step: str, newest: StoredResult | None) -> StoredResult | Inline:
    """What the step has given last, whether it is stored or in the log. `newest`: what it has stored last, which may be
    older, or a variable. Raises NotFound, Conflict and ReferenceNotAvailable."""
    state = await state_of(call, id)
    outcome = state.outcomes.get(step)
    is_loop = await call.services.executions.latest_generation(id, step) is not None
    if is_loop and (outcome is None or "data" not in outcome):
        raise _is_loop(id, step)
    if outcome is None:
        if newest is None:
            why = await _why_none(call, state, step)
            raise NotFound(f"execution {id} has no result of a step {step!r:.200}: {why}")
        return newest
    if (ref := outcome.get("ref")) is not None:
        if ref.get("kind") == "manifest":
            # of a loop whose results a restart has taken over
            raise _is_loop(id, step)
        if newest is not None and newest.key == ref.get("key"):
            return newest
        # that of a step of kind playbook may be what its sub-playbook has stored
        found = await call.services.stored_results.by_ref(execution_of(ref["ref"]), ref["ref"])
        stored = [it for it in found if it.key == ref.get("key")]
        readable = [it for it in stored if it.is_readable(call.services.now())]
        if not readable:
            raise gone(ref["ref"], _reason_of(stored))
        return readable[0]
    if outcome["status"] != "ok":
        why = f"it was {outcome['status']}" if outcome["status"] != "error" else "it failed"
        if "data" not in outcome:
            raise NotFound(f"step {step!r:.200} of execution {id} has no result: {why}")
    return Inline(step, dump(outcome.get("data")))


def _owner_of(result: StoredResult) -> int:
    return int(result.key.partition("/")[0])


def _reason_of(unreadable: Sequence[StoredResult]) -> Reason:
    expired = any(result.deleted_at is None and result.expires_at is not None for result in unreadable)
    return "expired" if expired else "missing"


def _is_loop(id: int, step: str) -> ResultOfLoop:
    query = f"aggregate/loop/results?{urlencode({'execution_id': id, 'step_name': step})}"
    return ResultOfLoop(
        f"the results of the loop {step!r:.200} are read page by page: with noetls result get {id} {step:.200}, with "
        f"GET /api/{query}, or through a gateway with GET /noetl/{query}",
        loop_results=f"/api/{query}",
    )


async def _why_none(call: Call, state: State, step: str) -> str:
    plan = await call.services.orchestrator.plan_of(state.execution_id)
    if plan is None:
        return "it has not ended, or there is none"
    if step in plan.steps and state.ended:
        return f"it did not run, or not to its end, before the execution ended ({state.status})"
    if step in plan.steps:
        return "it has not ended, or did not run"
    return f"its playbook has no such step. There are {', '.join(list(plan.steps)[:MAX_NAMED])}" + (
        ", ..." if len(plan.steps) > MAX_NAMED else ""
    )


async def state_of(call: Call, id: int) -> State:
    try:
        return await call.services.orchestrator.state(str(id))
    except NotFound:
        return await call.services.executions.state(id)


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


def _may_be_converted(call: Call, table: str | None) -> bool:
    return table is not None or "accept" in call.request.headers


async def _content(call: Call, result: StoredResult, table: str | None) -> Response:
    services = call.services
    stores = services.results()
    fields: Sequence[str] = ()
    is_accumulated = is_manifest(result)
    document: Mapping[str, Any] | None = None
    if _may_be_converted(call, table):
        from .converted import converted, is_wanted_as_stored

        if is_accumulated or (result.put_by is None and form_named(result.content_type) in ("json", "arrow")):
            fields = await accumulated_fields(services, _owner_of(result), result.of_step)
        # else it is read where it is known to have changed since it was given
        if is_accumulated and (table is not None or not is_wanted_as_stored(call.request, JSON)):
            document = await accumulated_document(stores, result, services.scratch)
        if document is not None or not is_accumulated:
            given = await _given(services, result, document, fields)
            found = await converted(call.request, given, table, streams=services.streams_answers)
            if found is not None:
                return found
    if is_accumulated:
        return await accumulated_response(
            call.request, stores, result, services.scratch, document, streams=services.streams_answers, fields=fields
        )
    return await content_response(call.request, stores, result, streams=services.streams_answers, accumulated=fields)


async def _given(
    services: Services, result: StoredResult, document: Mapping[str, Any] | None, fields: Sequence[str]
) -> Given:
    """What may be converted. `document`: what names its parts, if it has any; `fields`: see `fields_of`."""
    from .converted import MAX_JSON_BYTES, Given
    from .stored_value import accumulated_value, value_of

    stores = services.results()
    content_type, size = result.content_type, result.bytes
    load = partial(value_of, stores, result, services.scratch)
    if document is not None:
        content_type, size = JSON, await json_size_of(document, result, stores, MAX_JSON_BYTES)
        load = partial(accumulated_value, stores, document, services.scratch)
        fields = fields_of(document, fields)
    return Given(
        ref=result.ref,
        title=result.title,
        content_type=content_type,
        bytes=size,
        sha256=result.sha256,
        load=load,
        accumulated=fields,
    )


async def accumulated_fields(services: Services, execution_id: int, step: str | None) -> Sequence[str]:
    """The fields of a step's result that its tasks accumulate, by the playbook, in their order: whether they are stored
    in parts, or are a small part of the result, makes no difference to what is meant by its table. The result lacks
    those of tasks that have not run. None of a playbook that is gone, or that this release does not read."""
    hash = None if step is None else await services.executions.plan_hash(execution_id)
    if hash is None:
        return ()
    try:
        plan = await services.orchestrator.plan(hash)
    except (NotFound, InvalidPlaybook):
        return ()
    found = plan.steps.get(step or "")
    tasks = () if found is None or found.loop is not None else found.tasks
    return list(dict.fromkeys(task.accumulate.name for task in tasks if task.accumulate is not None))


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
        raise gone(ref, _reason_of([result for result in found if sha256 in (None, result.sha256)]))
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
    found = await rows_of(call, id, place_of(query.after), SCAN_ROWS, query.step)
    if not found and not query.after:
        await call.services.executions.get(id)
    place: Place | None = Place.of(found[-1]) if len(found) == SCAN_ROWS else None
    before = Place()
    chosen = [
        result
        for result in found
        if result.is_readable(now)
        and query.step in (None, result.of_step)
        and query.name in (None, result.title)
        and query.scope in (None, result.scope)
    ]
    # one more, to know whether there is a next page
    for result in await call.services.stored_results.described(id, chosen[: query.limit + 1]):
        entry = ResultEntry.of(result)
        size += len(encode(entry))
        if len(listed) == query.limit or (listed and size > PAGE_BYTES):
            place = before
            break
        listed.append(entry)
        before = Place.of(result)
    return ListedResults(execution_id=str(id), results=listed, next=None if place is None else token_of(place))


async def rows_of(call: Call, id: int, after: Place, limit: int, step: str | None) -> list[StoredResult]:
    """The next results after a place, of a step with the parts of what it has accumulated: these have no step's name,
    and come first."""
    results = call.services.stored_results
    if not step:
        return await results.page(id, after, limit, step=step)
    found: list[StoredResult] = []
    if not after.step:
        found = await results.page(id, after, limit, step="")
        after = Place(step)
    if len(found) < limit:
        found += await results.page(id, after, limit - len(found), step=step)
    return found


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
        found = datetime.fromisoformat(at)
        # the database knows no offset of more than 16 hours, nor one with parts of a second
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        return Place(step, found.isoformat(), key)
    except (ValueError, TypeError, OverflowError, binascii.Error):
        message = "`after` is not the `next` of a page: leave it out, or give that of the answer before"
        raise InvalidRequest(message) from None


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
