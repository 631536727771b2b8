"""One row of the route table: the name of an operation, its roles, its request and its answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import orjson
from pg8000.exceptions import DatabaseError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import AnswerTooLarge, Forbidden, InvalidRequest
from ..limits import ANSWER_BYTES
from ..protocol import VERSION, WIRE
from ..store.refusal import refusal_of
from ..telemetry.http import faults_of
from .authenticate import JSON, authenticate
from .body import parse_body, parse_query, read_body
from .encode import encode
from .page import Page
from .services import Services
from .tokens import Caller, Role

logger = logging.getLogger(__name__)

# the end user on whose behalf the gateway calls
USER_HEADER = "x-noetl-user"
MAX_HEADER_CHARACTERS = 255

USERS: frozenset[Role] = frozenset({"gateway", "operator"})
WORKERS: frozenset[Role] = frozenset({"worker", "operator"})
BOTH: frozenset[Role] = USERS | WORKERS


@dataclass(kw_only=True, slots=True)
class Call:
    """One parsed request: `body` and `query` are instances of the operation's models."""

    services: Services
    request: Request
    caller: Caller
    body: Any
    query: Any
    user: str | None

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    def supports_protocol(self, version: int) -> bool:
        """Whether the caller knows this version of the workers' protocol."""
        named = self.request.headers.get(WIRE, "1")
        return named.isdecimal() and int(named[:9]) >= version

    def header(self, name: str) -> str | None:
        """Raises InvalidRequest if it is empty or too long."""
        value = self.request.headers.get(name)
        if value is not None and not 0 < len(value) <= MAX_HEADER_CHARACTERS:
            raise InvalidRequest(f"the header {name} must have 1 to {MAX_HEADER_CHARACTERS} characters")
        return value


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """`answer` is the model of the response. With `many` it is the model of each item of a list: {"items", "next"}, or
    with `bare` an array, as in the original NoETL."""

    name: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    _: KW_ONLY
    summary: str
    tag: str
    roles: frozenset[Role]
    handler: Handler
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    many: bool = False
    bare: bool = False
    # of a list: the parameter of the query, or the field of the body, whose value for the next page is `next`, or is in
    # the Link header
    next_parameter: str = ""
    status: int = 200
    # request headers beyond the usual: name -> what it does
    headers: dict[str, str] = field(default_factory=dict)
    # the body may also be of any type; it is then left to the handler, as is the case with a `name` in the query
    content_body: bool = False
    # whether the handler answers with a content of any type: instead of `answer`, or as well
    content_answer: Literal["never", "always", "also"] = "never"
    # false for operations that are called very often: they write no audit line
    audited: bool = True

    def route(self, services: Services) -> Route:
        async def endpoint(request: Request) -> Response:
            return await self._run(services, request)

        return Route(self.path, endpoint, methods=[self.method], name=self.name)

    async def _run(self, services: Services, request: Request) -> Response:
        caller = authenticate(services.verifier, request)
        if caller.role not in self.roles:
            raise forbidden(caller, self.name)
        call = Call(
            services=services,
            request=request,
            caller=caller,
            body=None
            if self.body is None or self._leaves_body(request)
            else parse_body(self.body, await read_body(request)),
            query=None if self.query is None else parse_query(self.query, request),
            user=_user(request, caller),
        )
        if self.audited and self.method != "GET":
            audit(self.name, call)
        try:
            answer = await self.handler(call)
        except (DatabaseError, orjson.JSONEncodeError) as error:
            raise refusal_of(error) from error
        except ValidationError as error:
            # the request has been read: it is the answer that does not fit its model, whose values are not for the log
            faults = "; ".join(f"{fault.pointer}: {fault.message}" for fault in faults_of(error))
            raise TypeError(f"{self.name} has no valid {error.title}: {faults}") from None
        if isinstance(answer, Page):
            content, headers = answer.encode(request.query_params.multi_items(), bare=self.bare)
            return Response(content, self.status, headers=headers, media_type="application/json")
        if isinstance(answer, Response):
            return answer
        response = self._bounded(respond(answer, self.status))
        if WIRE in request.headers:
            response.headers[WIRE] = str(VERSION)
        return response

    def _leaves_body(self, request: Request) -> bool:
        media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        return self.content_body and (media_type != JSON or "name" in request.query_params)

    def _bounded(self, response: Response) -> Response:
        """Raises AnswerTooLarge if a user's GET has a larger answer than a function can return. An operation that
        changed something is already done, and the answers to workers have limits of their own."""
        if self.method == "GET" and self.roles <= USERS and len(response.body) > ANSWER_BYTES:
            size = len(response.body)
            raise AnswerTooLarge(f"{self.name} would return {size} bytes; the limit is {ANSWER_BYTES}")
        return response


def forbidden(caller: Caller, what: str) -> Forbidden:
    """The refusal of `what`, in words of whoever reads it: users of a gateway do not know its own role."""
    if caller.role == "gateway":
        return Forbidden(
            f"{what} is not available through a gateway, whatever the roles of its user: an operator calls the control "
            "plane, with a service token (`noetls token` prints that of a local stack)"
        )
    return Forbidden(f"{what} is not allowed for the role {caller.role}")


def respond(answer: Any, status: int = 200) -> Response:
    """`answer`: a model, or JSON as it is to be sent."""
    content = answer if isinstance(answer, bytes) else encode(answer)
    return Response(content, status, media_type="application/json")


def _user(request: Request, caller: Caller) -> str | None:
    user = request.headers.get(USER_HEADER)
    if user is not None and caller.role != "gateway":
        raise Forbidden(f"only the gateway may send {USER_HEADER}")
    return user


def audit(name: str, call: Call, **details: str | None) -> None:
    """One log line: who did what, on whose behalf."""
    extra = {
        "operation": name,
        "role": call.caller.role,
        "subject": call.caller.subject,
        "user": call.user,
        "path": call.request.scope["path"],
        **details,
    }
    logger.info("audit", extra=extra)
