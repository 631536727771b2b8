"""/noetl/{path}: the control plane's REST API for users; the gateway replaces the session by its service token."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote

import aiohttp
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..errors import Forbidden, InvalidRequest, NotFound
from .at_once import AtOnce
from .authenticate import authenticate
from .control_plane import BadGateway, ControlPlane, refuse_own_failure
from .roles import Role, allows, role_for_request
from .sessions import Session, Sessions

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# RFC 9110 7.6.1, and headers of proxies: they apply to one connection, not to the request
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# headers that are for the gateway itself, or that would forge an identity
_DROPPED_REQUEST_HEADERS = frozenset(
    {"host", "authorization", "cookie", "x-session-token", "expect", "forwarded", "origin", "referer"}
)
_DROPPED_RESPONSE_HEADERS = frozenset({"set-cookie", "server", "date", "www-authenticate"})
# the page to try the API on and what it is made of, which the control plane shows to everybody; calls need a session
_PAGE = re.compile(r"docs|docs/[a-z-]+\.[a-z]+|openapi\.json")
# the calls of workers and the reconciler are not for users, whatever their role
_INTERNAL = frozenset({"commands", "internal", "auth", "hooks", "callbacks"})


class Proxy:
    def __init__(self, sessions: Sessions, control_plane: ControlPlane) -> None:
        self._sessions = sessions
        self._control_plane = control_plane
        self._pages = AtOnce("requests for the page of the API")

    def routes(self) -> list[Route]:
        return [Route("/noetl/{path:path}", self.handle, methods=METHODS)]

    async def handle(self, request: Request) -> Response:
        path = request.path_params["path"]
        if request.method in ("GET", "HEAD") and _PAGE.fullmatch(path):
            # nothing else of what a stranger sends is passed on
            headers = [("accept-encoding", request.headers.get("accept-encoding", "identity"))]
            with self._pages.one():
                return await self._forward(request.method, f"/api/{path}", headers=headers)
        session = await authenticate(request, self._sessions)
        target = await permitted(session, self._control_plane, request.method, path)
        if query := request.scope["query_string"]:
            target += "?" + quote(query.decode("latin-1"), safe="/?:@!$&'()*+,;=-._~%[]")
        body = request.stream() if _has_body(request) else None
        headers, user = request_headers(request), session.user.user_id
        return await self._forward(request.method, target, headers=headers, body=body, user=user)

    async def _forward(
        self,
        method: str,
        target: str,
        *,
        headers: list[tuple[str, str]],
        body: AsyncIterator[bytes] | None = None,
        user: str = "",
    ) -> Response:
        answer = await self._control_plane.forward(method, target, headers=headers, body=body, user=user)
        try:
            refuse_own_failure(answer)
        except BadGateway:
            answer.close()
            raise
        response = StreamingResponse(_chunks(answer), answer.status, background=BackgroundTask(_close, answer))
        response.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in _forwarded(answer.headers.items(), _DROPPED_RESPONSE_HEADERS)
        ]
        return response


async def permitted(session: Session, control_plane: ControlPlane, method: str, path: str) -> str:
    """The control plane's path, encoded. Raises InvalidRequest, Forbidden if this user may not request it, and NotFound
    for a path that the control plane does not have."""
    target, role = target_and_role(method, path)
    # what is not there is not to be had with any role; only a refusal costs this question
    if not allows(session.user.roles, role) and not await control_plane.has(target):
        raise NotFound(f"There is no operation at {path[:200]!r}")
    session.require(role)
    return target


def target_and_role(method: str, path: str) -> tuple[str, Role]:
    """The control plane's path, encoded, and the role that the request needs; raises InvalidRequest, and Forbidden for
    what is not for users."""
    segments = path.removesuffix("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments) or not _plain(path):
        raise InvalidRequest("The path must not contain empty segments, '.', '..', '%' or '\\'")
    if segments[0] in _INTERNAL or segments[:2] == ["worker", "pool"]:
        raise Forbidden("This path is for workers and operators, who call the control plane with a service token")
    return "/api/" + quote(path, safe="/:@!$&'()*+,;=-._~"), role_for_request(method, "/".join(segments))


def _plain(path: str) -> bool:
    # the server has decoded the path once; what is still encoded is meant to evade these checks
    return not any(char in "%\\?#" or ord(char) < 32 or ord(char) == 127 for char in path)


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def request_headers(request: Request) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in _forwarded(request.headers.items(), _DROPPED_REQUEST_HEADERS)
        if not name.startswith(("x-noetl-", "x-forwarded-"))
    ]


def _forwarded(headers: Iterable[tuple[str, str]], excluded: frozenset[str]) -> list[tuple[str, str]]:
    headers = list(headers)
    connection_headers = {
        token.strip().lower() for name, value in headers if name.lower() == "connection" for token in value.split(",")
    }
    dropped = _HOP_BY_HOP | excluded | connection_headers
    return [(name, value) for name, value in headers if name.lower() not in dropped]


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except aiohttp.ClientError as error:
        raise BadGateway(f"the control plane has broken off its answer: {error}") from error
    finally:
        answer.close() if not answer.content.at_eof() else answer.release()


async def _close(answer: aiohttp.ClientResponse) -> None:
    answer.release()
