"""Results by their references: put, read, listed and deleted, with the paths of the original NoETL.

What is below /api/temp is the same, where a reference is of the kind temp_ref.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..models.put_results import (
    DeleteResult,
    DeleteResults,
    GetStepResult,
    InlineResult,
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

# what handles them is imported with the first request: it costs a cold start 20 ms


async def put(call: Call) -> ResultPut:
    from ..result_puts import put

    return await put(call)


async def resolve(call: Call) -> Response:
    from ..result_reads import resolve

    return await resolve(call)


async def get_of_step(call: Call) -> Response | ResultEntry | InlineResult:
    from ..result_reads import get_of_step

    return await get_of_step(call)


async def url(call: Call) -> ResultUrl:
    from ..result_reads import url

    return await url(call)


async def entries(call: Call) -> ListedResults:
    from ..result_reads import entries

    return await entries(call)


async def stats(call: Call) -> ResultStats:
    from ..result_reads import stats

    return await stats(call)


async def delete_one(call: Call) -> ResultsDeleted:
    from ..result_deletions import delete_one

    return await delete_one(call)


async def delete_all(call: Call) -> ResultsDeleted:
    from ..result_deletions import delete_all

    return await delete_all(call)


async def delete_of_step(call: Call) -> ResultsDeleted:
    from ..result_deletions import delete_of_step

    return await delete_of_step(call)


def _operations(folder: str, name: str, what: str) -> tuple[Operation, ...]:
    base = f"/api/{folder}"
    common: dict[str, Any] = {"tag": "results", "roles": USERS}
    return (
        Operation(
            f"resolve{name}",
            "GET",
            f"{base}/resolve",
            summary=f"Read {what} by its URI: as it is stored, whole or in parts (Range); tables as Accept says",
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
            summary="Read the reference of a step's newest result, or the result itself; a small one is in its answer",
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
