"""Results of loops that are too large for one answer of a step, and results as they are stored."""

from __future__ import annotations

import base64

import orjson

from ...errors import NotFound
from ...limits import PAGE_BYTES
from ...store.executions import Part
from ..models.executions import LoopResults, LoopResultsQuery, Manifest, ManifestPart
from ..models.results import ResultData, ResultDataQuery
from ..operation import BOTH, USERS, Call, Operation
from .identifiers import execution_id_of


async def manifest(call: Call) -> Manifest:
    generation = call.path("generation")
    if not generation.isdigit() or len(generation) > 9:
        raise NotFound(f"there is no generation {generation!r}")
    parts = await call.services.executions.parts(execution_id_of(call), call.path("step"), int(generation))
    return Manifest(parts=[ManifestPart.of(part) for part in parts])


async def loop_results(call: Call) -> LoopResults:
    query: LoopResultsQuery = call.query
    executions = call.services.executions
    execution_id = int(query.execution_id)
    generation = await executions.generation(execution_id, query.step_name)
    if generation is None:
        raise NotFound(f"execution {execution_id} has run no loop in a step {query.step_name!r}")
    found = await executions.results(execution_id, query.step_name, generation, query.after)
    kept, following = _page_of(found.parts, query.after)
    if following is None and kept and kept[-1].end < found.end:
        following = kept[-1].end
    return LoopResults(
        results=[item for part in kept for item in part.data or []],
        count=found.count,
        refs=[ManifestPart.of(part) for part in kept if part.ref is not None],
        next=following,
    )


def _page_of(parts: list[Part], after: int) -> tuple[list[Part], int | None]:
    """Of the items from `after` on those for which an answer has room, and the index of the first for which it has not.
    A reference is not split."""
    kept: list[Part] = []
    left = PAGE_BYTES
    for part in parts:
        if part.end <= after:
            continue
        rows = [part.ref] if part.data is None else part.data[max(0, after - part.start) :]
        begin = part.start if part.data is None else max(part.start, after)
        fits = 0
        for row in rows:
            left -= len(orjson.dumps(row)) + 1
            if left < 0 and (kept or fits):
                break
            fits += 1
        if part.data is not None and fits:
            kept.append(Part(begin, begin + fits, rows[:fits], None))
        elif fits:
            kept.append(part)
        if fits < len(rows):
            return kept, begin + fits
    return kept, None


async def data(call: Call) -> ResultData:
    query: ResultDataQuery = call.query
    execution_id = execution_id_of(call)
    size = await call.services.replays.result_bytes(execution_id, query.key)
    if size is None:
        raise NotFound(f"execution {execution_id} has no result under the key {query.key!r}")
    try:
        part = await call.services.results().get_range(query.key, query.offset, query.limit)
    except KeyError:
        raise NotFound(f"{query.key} is not in the result store any more") from None
    return ResultData(key=query.key, bytes=size, offset=query.offset, data=base64.b64encode(part).decode())


OPERATIONS = (
    Operation(
        "getResultData",
        "GET",
        "/api/results/data/{execution_id}",
        "Read a part of a result as it is stored",
        "results",
        USERS,
        data,
        ResultData,
        query=ResultDataQuery,
    ),
    Operation(
        "getManifest",
        "GET",
        "/api/results/manifest/{execution_id}/{step}/{generation}",
        "Read the results of one run of a loop, in parts that are inline or by reference",
        "results",
        BOTH,
        manifest,
        Manifest,
    ),
    Operation(
        "getLoopResults",
        "GET",
        "/api/aggregate/loop/results",
        "Read the results of the latest run of a loop",
        "results",
        USERS,
        loop_results,
        LoopResults,
        query=LoopResultsQuery,
    ),
)
