"""Deletes results: first for their readers, then their objects, then the rows of those that users have put."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ..errors import Problem, ResultStoreUnavailable
from ..store.results import Place, StoredResult
from .content import store_of
from .models.put_results import (
    DeleteResult,
    DeleteResults,
    ResultsDeleted,
)
from .operation import Call
from .result_reads import check_one, check_open, execution_of, place_of, rows_of, token_of
from .routes.identifiers import execution_id_of

# rows that one request looks at, of which it deletes some
DELETE_ROWS: Final = 500
# concurrent calls of a store
MAX_STORE_CALLS: Final = 16


async def delete_one(call: Call) -> ResultsDeleted:
    query: DeleteResult = call.query
    id = execution_of(query.ref)
    await check_open(call, id)
    found = await call.services.stored_results.by_ref(id, query.ref)
    chosen = [result for result in found if query.sha256 in (None, result.sha256)]
    current = [result for result in chosen if result.deleted_at is None]
    check_one(query.ref, current)
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
    await check_open(call, id)
    found = await rows_of(call, id, place_of(query.after), DELETE_ROWS, step)
    chosen = [
        result
        for result in found
        if step in (None, result.of_step)
        and (result.scope == query.scope if query.scope is not None else result.scope != "permanent")
        and (result.deleted_at is None or result.put_by is not None)
    ]
    await _delete(call, id, chosen)
    following = token_of(Place.of(found[-1])) if len(found) == DELETE_ROWS else None
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
