"""SQL of operators, over views of what REST shows: the body and the answer are those of the original NoETL."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from ..models import RequestModel
from ..operation import Call, Operation


class QueryViews(RequestModel):
    query: str = Field(min_length=1, max_length=20_000, description="One SELECT.")
    schema_: Literal["noetl"] = Field(
        default="noetl", alias="schema", description="Schema of the views, which a query may also name by itself."
    )


class ViewRows(BaseModel):
    status: Literal["ok"] = "ok"
    columns: list[str]
    result: list[list[Any]] = Field(
        description="Rows, each with a value for each of `columns`. Integers that JSON readers may round are strings."
    )
    row_count: int
    truncated: bool = Field(description="Whether there are more rows than the 1000 of an answer.")


async def query_views(call: Call) -> ViewRows:
    body: QueryViews = call.body
    table = await call.services.view_queries.table(body.query)
    return ViewRows(columns=table.columns, result=table.rows, row_count=len(table.rows), truncated=table.truncated)


OPERATIONS = (
    Operation(
        "queryViews",
        "POST",
        "/api/postgres/execute",
        summary="Run one SELECT over the views execution, event, command, catalog and transient",
        tag="query",
        # the views show everything, whoever started it
        roles=frozenset({"operator"}),
        handler=query_views,
        answer=ViewRows,
        body=QueryViews,
    ),
)
