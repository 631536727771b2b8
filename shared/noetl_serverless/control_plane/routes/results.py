"""Results of loops that are too large for one answer of a step, and results as they are stored."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import orjson

from ...errors import NotFound, Unavailable
from ...limits import ANSWER_BYTES, KIB, PAGE_BYTES
from ...results.stores import ResultStores
from ...store.executions import ResultRange
from ...uri import ResultUri
from ..models.executions import Items, LoopResults, LoopResultsQuery, LoopStats, Manifest, ManifestPart, ManifestQuery
from ..models.results import ResultData, ResultDataQuery
from ..operation import BOTH, USERS, Call, Operation
from .identifiers import execution_id_of

# size of a manifest's parts if it is not paged: with the other fields they still fit into one answer
WHOLE_BYTES = ANSWER_BYTES - 64 * KIB
# of a null in a list
NULL_BYTES = 5


async def manifest(call: Call) -> Manifest:
    """Raises Unavailable if the results need more than one page and the worker is of the previous release, which does
    not know pages."""
    query: ManifestQuery = call.query
    generation = call.path("generation")
    if not generation.isdecimal() or len(generation) > 9:
        raise NotFound(f"there is no generation {generation!r}")
    pages = call.caller.role != "worker" or call.supports_protocol(2)
    max_bytes = PAGE_BYTES if pages else WHOLE_BYTES
    loop = (execution_id_of(call), call.path("step"), int(generation))
    page, next_item = await _page(call, loop, query.after, max_bytes)
    if next_item is not None and not pages:
        raise Unavailable("the results of the loop do not fit into one response; a newer worker is needed to read them")
    return Manifest(parts=[ManifestPart.of(part) for part in page], next=next_item)


async def loop_results(call: Call) -> LoopResults:
    # a cold start needs none of it
    from ..content import gone

    query: LoopResultsQuery = call.query
    executions = call.services.executions
    execution_id = int(query.execution_id)
    generation = await executions.latest_generation(execution_id, query.step_name)
    loop = (execution_id, query.step_name, generation) if generation is not None else None
    if loop is None:
        found = await _taken_over(call, execution_id, query.step_name)
        if isinstance(found, LoopResults):
            return found
        loop = found
    if loop is None:
        raise NotFound(f"execution {execution_id} has not run a loop in step {query.step_name!r}")
    stats = await executions.loop_stats(*loop)
    if stats is None:
        # a restart has taken its results over, and the execution that has given them is gone
        raise gone(str(ResultUri(str(loop[0]), "manifest", loop[1], str(loop[2]))))
    page, next_item = await _page(call, loop, query.after, PAGE_BYTES)
    # where items are claimed, some of their places are left free
    results, large, next_item = await _with_values(
        call.services.results, page, query.after, next_item, has_places=not stats.claims
    )
    return LoopResults(
        results=results,
        places=_places(page if stats.claims else [], query.after, len(results)),
        stats=LoopStats(total=stats.total, success=stats.success, failed=stats.failed),
        count=stats.success + stats.failed,
        refs=[ManifestPart.of(part) for part in large],
        next=next_item,
    )


async def _taken_over(call: Call, execution_id: int, step: str) -> tuple[int, str, int] | LoopResults | None:
    """Of a loop whose results a restart has taken over: the run that has given them, or small ones themselves."""
    from ..result_reads import state_of

    outcome = (await state_of(call, execution_id)).outcomes.get(step) or {}
    ref, data = outcome.get("ref") or {}, outcome.get("data")
    if ref.get("kind") == "manifest":
        uri = ResultUri.parse(ref["ref"])
        return int(uri.execution_id), uri.step, int(uri.suffix)
    plan = await call.services.orchestrator.plan_of(str(execution_id))
    is_loop = plan is not None and step in plan.steps and plan.steps[step].loop is not None
    if not is_loop or not isinstance(data, dict) or not {"results", "stats"} <= data.keys():
        return None
    stats = LoopStats(**{name: data["stats"][name] for name in ("total", "success", "failed")})
    after, results = call.query.after, data["results"][call.query.after :]
    return LoopResults(
        results=results,
        places=_places([], after, len(results)),
        stats=stats,
        count=stats.success + stats.failed,
        refs=[],
        next=None,
    )


def _places(claimed: list[ResultRange], after: int, count: int) -> list[Items]:
    """Of the first `count` results from the item `after` on, which follow one another but where they were claimed."""
    found: list[Items] = []
    for part in claimed or [ResultRange(after, after + count, None, None)]:
        start = max(part.start, after)
        end = min(part.end, start + count)
        count -= end - start
        if found and found[-1].end == start:
            found[-1].end = end
        elif start < end:
            found.append(Items(start=start, end=end))
    return found


async def _with_values(
    results: Callable[[], ResultStores],
    page: list[ResultRange],
    after: int,
    next_item: int | None,
    *,
    has_places: bool = True,
) -> tuple[list[Any], list[ResultRange], int | None]:
    """The results of a page from the item `after` on, also those stored by reference, as many as have room; or one
    range that is too large to be read here or is no longer stored; and where to continue. `has_places`: whether each
    result is at the place of its item, with null for those before it that have not run."""
    values: list[Any] = []
    remaining = PAGE_BYTES
    place = after
    parts = [*page, *([] if next_item is None else [ResultRange(next_item, next_item, [], None)])]
    for index, part in enumerate(parts):
        if has_places and (not_run := part.start - place) > 0:
            room = min(not_run, max(0, remaining) // NULL_BYTES)
            values += [None] * room
            remaining -= room * NULL_BYTES
            place += room
            if room < not_run:
                return values, [], place
        size = _size_of(part)
        rows = part.data
        if rows is None and size <= remaining and part.ref is not None:
            rows = await _read(results(), part.ref, size, part.end - part.start)
            rows = rows and rows[max(0, after - part.start) :]
        if values and (rows is None or size > remaining):
            return values, [], max(part.start, after)
        if rows is None:
            return [], [part], part.end if index + 1 < len(parts) else None
        values += rows
        remaining -= size
        place = max(place, part.end)
    return values, [], next_item


def _size_of(part: ResultRange) -> int:
    """In bytes of JSON."""
    if part.ref is not None:
        return int(part.ref.get("meta", {}).get("bytes", 0))
    return len(orjson.dumps(part.data))


async def _read(stores: ResultStores, ref: dict[str, Any], size: int, count: int) -> list[Any] | None:
    """A stored list of `count` items; None if it is no longer there, is not what its reference says, or has tables in
    it."""
    # a cold start needs none of them
    from ...results.compression import error_of
    from ...results.content import Truncated, read
    from ...tables.media_types import has_tables

    if has_tables(ref["meta"].get("content_type", "")):
        return None
    codec = ref["meta"].get("compression")
    bad_content = (KeyError, ValueError, Truncated, *(() if codec is None else (error_of(codec),)))
    try:
        store = stores.named(ref["store"])
        content = b"".join([piece async for piece in read(store, ref["key"], 0, size, codec)])
        if hashlib.sha256(content).hexdigest() != ref["meta"]["sha256"]:
            return None
        rows = orjson.loads(content)
    except bad_content:
        return None
    return rows if isinstance(rows, list) and len(rows) == count else None


async def _page(
    call: Call, loop: tuple[int, str, int], after: int, max_bytes: int
) -> tuple[list[ResultRange], int | None]:
    """The results of a loop from item `after` on, as far as `max_bytes` bytes allow, and where to continue."""
    found, more = await call.services.executions.loop_results(*loop, after, max_bytes)
    page, next_item = _page_of(found, after, max_bytes)
    if next_item is None and more:
        # not that of the page: claims that found nothing have no items
        next_item = found[-1].end
    return page, next_item


def _page_of(parts: list[ResultRange], after: int, max_bytes: int) -> tuple[list[ResultRange], int | None]:
    """The items from `after` on that fit into `max_bytes` bytes, at least one, and the index of the first that does not
    fit. A reference is not split."""
    page: list[ResultRange] = []
    remaining = max_bytes
    for part in parts:
        if part.end <= after:
            continue
        rows = [part.ref] if part.data is None else part.data[max(0, after - part.start) :]
        start = part.start if part.data is None else max(part.start, after)
        row_count = 0
        for row in rows:
            remaining -= len(orjson.dumps(row)) + 1
            if remaining < 0 and (page or row_count):
                break
            row_count += 1
        if part.data is not None and row_count:
            page.append(ResultRange(start, start + row_count, rows[:row_count], None))
        elif row_count:
            page.append(part)
        if row_count < len(rows):
            return page, start + row_count
    return page, None


async def data(call: Call) -> ResultData:
    query: ResultDataQuery = call.query
    execution_id = execution_id_of(call)
    found = await call.services.replays.result_place(execution_id, query.key)
    if found is None:
        raise NotFound(f"execution {execution_id} has no result under the key {query.key!r}")
    try:
        store = call.services.results().named(found.store)
    except KeyError:
        raise NotFound(f"{query.key} is in the result store {found.store!r}, which this deployment lacks") from None
    try:
        part = await store.get_range(query.key, query.offset, query.limit)
    except KeyError:
        raise NotFound(f"{query.key} is no longer in the result store") from None
    return ResultData(key=query.key, bytes=found.bytes, offset=query.offset, data=base64.b64encode(part).decode())


OPERATIONS = (
    Operation(
        "getResultData",
        "GET",
        "/api/results/data/{execution_id}",
        summary="Read a part of a result as it is stored",
        tag="results",
        roles=USERS,
        handler=data,
        answer=ResultData,
        query=ResultDataQuery,
    ),
    Operation(
        "getManifest",
        "GET",
        "/api/results/manifest/{execution_id}/{step}/{generation}",
        summary="Read the results of one run of a loop, page by page, inline or by reference",
        tag="results",
        roles=BOTH,
        handler=manifest,
        answer=Manifest,
        next_parameter="after",
        query=ManifestQuery,
    ),
    Operation(
        "getLoopResults",
        "GET",
        "/api/aggregate/loop/results",
        summary="Read the results of the latest run of a loop as a list in order, page by page, with its stats",
        tag="results",
        roles=USERS,
        handler=loop_results,
        answer=LoopResults,
        next_parameter="after",
        query=LoopResultsQuery,
    ),
)
