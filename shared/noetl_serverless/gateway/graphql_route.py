"""POST /graphql."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any, cast

import orjson
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    execute,
    parse,
    validate,
)
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ..errors import AnswerTooLarge, InvalidRequest, Problem
from ..limits import ANSWER_BYTES
from ..telemetry.http import as_problem
from . import playground
from .authenticate import authenticate
from .body import read_json
from .context import Context
from .control_plane import ControlPlane
from .limits import MAX_TOKENS, check_limits
from .schema import resolve_member, schema
from .sessions import Sessions

logger = logging.getLogger(__name__)

MAX_QUERY_BODY_BYTES = 4 * 1024 * 1024
MAX_QUERY_BYTES = 32 * 1024
_RESPONSE = "application/graphql-response+json"


class InvalidQuery(Problem):
    status, code, title = 400, "query.invalid", "The query is not valid"


class Operation(BaseModel):
    model_config = ConfigDict(extra="ignore")

    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None


class GraphQL:
    def __init__(self, sessions: Sessions, control_plane: ControlPlane) -> None:
        self._sessions = sessions
        self._control_plane = control_plane

    def routes(self) -> list[Route]:
        return [
            Route("/graphql", self.show, methods=["GET"]),
            Route("/graphql", self.run, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        return HTMLResponse(playground.HTML, headers={"content-security-policy": playground.POLICY})

    async def run(self, request: Request) -> Response:
        session = await authenticate(request, self._sessions)
        operation = Operation.model_validate(await read_json(request, MAX_QUERY_BODY_BYTES))
        result, status = await self._answer(operation, Context(session, self._control_plane))
        body: dict[str, Any] = {}
        if result.errors:
            body["errors"] = [_error(error) for error in result.errors]
        if status == 200:
            body["data"] = result.data
        accepts_new = _RESPONSE in request.headers.get("accept", "")
        media_type = _RESPONSE if accepts_new else "application/json"
        return Response(_encoded(body), status, media_type=media_type)

    async def _answer(self, operation: Operation, context: Context) -> tuple[ExecutionResult, int]:
        try:
            document = _read(operation)
        except GraphQLError as error:
            return ExecutionResult(None, [error]), 400
        except _Invalid as invalid:
            return ExecutionResult(None, invalid.errors), 400
        running = execute(
            schema(),
            document,
            context_value=context,
            variable_values=operation.variables,
            operation_name=operation.operationName,
            field_resolver=resolve_member,
        )
        result = running if isinstance(running, ExecutionResult) else await cast(Awaitable[Any], running)
        return result, 200


class _Invalid(Exception):
    def __init__(self, errors: list[GraphQLError]) -> None:
        self.errors = errors


def _read(operation: Operation) -> DocumentNode:
    """The document, valid and within the limits; else GraphQLError or _Invalid."""
    try:
        if len(operation.query) > MAX_QUERY_BYTES:
            raise InvalidRequest(f"The query has more than {MAX_QUERY_BYTES} characters; pass data as variables")
        document = _parse(operation.query)
        check_limits(document, operation.variables or {}, operation.operationName)
    except RecursionError:
        raise GraphQLError("The query is nested too deeply") from None
    except InvalidRequest as error:
        raise GraphQLError(error.detail, original_error=InvalidQuery(error.detail)) from None
    return document


@lru_cache(maxsize=256)
def _parse(query: str) -> DocumentNode:
    """The parsed query. Cached, since the same few queries recur; an invalid one raises and is not cached."""
    document = parse(query, max_tokens=MAX_TOKENS)
    if errors := validate(schema(), document, max_errors=20):
        raise _Invalid(errors)
    return document


def _encoded(body: dict[str, Any]) -> bytes:
    """The answer as JSON, or an error if it is too large: lists are limited, but a query may request one twice, as
    `nodes` and as `edges`."""
    content = orjson.dumps(body, default=str)
    if len(content) <= ANSWER_BYTES:
        return content
    problem = AnswerTooLarge(
        f"The response would have {len(content)} bytes; the limit is {ANSWER_BYTES}: request fewer fields, smaller "
        "pages, or one list at a time"
    )
    error = _error(GraphQLError(problem.detail, original_error=problem))
    return orjson.dumps({"errors": [error], "data": None})


def _error(error: GraphQLError) -> dict[str, Any]:
    """In the form of the GraphQL specification, with the problem in `extensions`."""
    cause = error.original_error
    # without a path, the query itself is at fault and not a field, whatever graphql-core raised for it
    at_fault = error.path is None and not isinstance(cause, Problem)
    if cause is None or at_fault:
        problem: Problem = InvalidQuery(error.message)
    else:
        problem = as_problem(cause)
        if type(problem) is Problem:
            logger.error("GraphQL field %s failed", error.path, exc_info=cause)
    formatted = error.formatted
    return {**formatted, "message": problem.detail, "extensions": problem.to_dict("/graphql")}
