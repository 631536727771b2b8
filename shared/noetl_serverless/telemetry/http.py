"""What every HTTP service does around a request: measure it, log it, answer errors as problem+json."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from ..errors import MEDIA_TYPE, Fault, InvalidRequest, Problem, json_pointer
from . import logs, metrics
from .probes import PATHS

logger = logging.getLogger(__name__)

# in the scope of a request whose path holds a secret: the path without it
SHOWN_PATH = "noetl.shown_path"


class HttpMiddleware:
    """The outermost middleware of a service. It turns a Problem, a pydantic ValidationError or any other exception into
    an answer.

    Requests are counted and timed by route, and logged at `level`; probes are neither. What follows `secret_below` in a
    path is a secret: neither logs nor problems have it.
    """

    def __init__(self, app: ASGIApp, level: int = logging.DEBUG, secret_below: str | None = None) -> None:
        self._app = app
        self._level = level
        self._secret_below = secret_below
        self._warm = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        if self._secret_below is not None and scope["path"].startswith(self._secret_below):
            scope[SHOWN_PATH] = f"{self._secret_below}***"

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if status:
                # the answer has begun: it can only be broken off, which a server does with one that has no end
                status = 500
                if isinstance(error, Problem):
                    logger.error("%s %s broke off: %s: %s", scope["method"], _path(scope), error.code, error.detail)
                    return
                logger.exception("%s %s broke off", scope["method"], _path(scope))
                raise
            response = problem_response(error, scope)
            status = response.status_code
            await response(scope, receive, send)
        finally:
            self._done(scope, status or 500, time.perf_counter() - started)

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        path = _path(scope)
        if path in PATHS:
            return
        metrics.http_seconds.labels(_route(scope), scope["method"], status).observe(seconds)
        if logger.isEnabledFor(self._level):
            extra = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 5)}
            logger.log(self._level, "%s %s %d", scope["method"], path, status, extra=extra)
        if not self._warm:
            self._warm = True
            logs.end_cold_start()


def problem_response(error: Exception, scope: Scope) -> Response:
    """The answer to an error: its own message if that is meant for the caller, else a bare 500 and a log line."""
    problem = as_problem(error)
    if type(problem) is Problem and problem is not error:
        logger.error("%s %s failed", scope["method"], _path(scope), exc_info=error)
    headers = {"retry-after": "1"} if problem.status == 503 else {}
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return problem_body(problem.to_dict(_path(scope)), headers)


def problem_body(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    content = orjson.dumps(body, default=str)
    return Response(content, body["status"], headers=headers, media_type=MEDIA_TYPE)


def as_problem(error: Exception) -> Problem:
    """Any error as a Problem; an error that is not meant for the caller becomes a bare Problem (500)."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        return InvalidRequest("The body does not have the expected shape", faults=faults_of(error))
    if isinstance(error, HTTPException):
        return _http_problem(error)
    return Problem("Internal error; see the log for details")


def faults_of(
    error: ValidationError, prefix: Sequence[str | int] = (), patterns: Mapping[str, str] | None = None
) -> list[Fault]:
    """Each error of pydantic with the JSON pointer to its place; without the input, which may be a secret.
    `patterns`: what a pattern asks for, in words."""
    # a cold start without an error needs no words for it
    from .fault_text import text_of

    return [
        Fault(
            text_of(item, patterns),
            pointer=json_pointer([*prefix, *item["loc"]]),
            code=f"request.{item['type']}",
        )
        for item in error.errors(include_url=False, include_input=False)
    ]


class _HttpProblem(Problem):
    """Starlette's own errors: no such route, method not allowed."""

    def __init__(self, error: HTTPException) -> None:
        super().__init__(error.detail)
        self._body = {"status": error.status_code, "title": error.detail}
        self._code = {404: "resource.not_found", 405: "request.method_not_allowed"}.get(
            error.status_code, "request.refused"
        )

    def to_dict(self, instance: str | None = None) -> dict[str, Any]:
        body = super().to_dict(instance)
        return {**body, **self._body, "code": self._code, "type": f"urn:noetl:problem:{self._code}"}


def _http_problem(error: HTTPException) -> Problem:
    return _HttpProblem(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = problem_body(as_problem(error).to_dict(_path(request.scope)), dict(error.headers or {}))
    return response


def _path(scope: Scope) -> str:
    """As it may be shown."""
    return str(scope.get(SHOWN_PATH, scope["path"]))


def _route(scope: Scope) -> str:
    """The route's template, not the path: the number of labels must not grow with the executions."""
    route = scope.get("route")
    return str(getattr(route, "path", None) or "other")


def middleware(level: int = logging.DEBUG, *, secret_below: str | None = None) -> list[Middleware]:
    """For `Starlette(middleware=...)`."""
    return [Middleware(HttpMiddleware, level=level, secret_below=secret_below)]


EXCEPTION_HANDLERS: dict[Any, ExceptionHandler] = {HTTPException: _on_http_exception}
"""For `Starlette(exception_handlers=...)`: makes 404 and 405 of the router problems too."""
