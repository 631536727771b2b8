"""Finds the session of a request: where the token is, and whether another site made the browser send it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from ..errors import Forbidden, Unauthenticated
from .sessions import Session, Sessions

COOKIE = "session_token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class PresentedToken:
    token: str
    by_cookie: bool


def token_of(request: Request) -> PresentedToken | None:
    """The token of a request: `Authorization: Bearer`, else `X-Session-Token`, else the cookie."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return PresentedToken(token.strip(), by_cookie=False)
    if token := request.headers.get("x-session-token", "").strip():
        return PresentedToken(token, by_cookie=False)
    if token := request.cookies.get(COOKIE, ""):
        return PresentedToken(token, by_cookie=True)
    return None


async def authenticate(request: Request, sessions: Sessions) -> Session:
    """Raises Unauthenticated, or Forbidden for a request that another site made the browser send."""
    presented_token = token_of(request)
    if presented_token is None:
        raise Unauthenticated("Sign in, and send the session token as 'Authorization: Bearer'")
    if presented_token.by_cookie:
        refuse_forgery(request)
    return await sessions.find(presented_token.token)


def refuse_forgery(request: Request) -> None:
    """Browsers send cookies on their own, so a request that changes something must show that it comes from our own
    pages.

    It does so by an Origin of this host, or by a header that a foreign page cannot set without permission. Raises
    Forbidden.
    """
    if request.method in _SAFE:
        return
    origin = request.headers.get("origin")
    if origin is not None:
        if urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower():
            return
    elif request.headers.get("x-requested-with"):
        return
    raise Forbidden(
        "A request signed in by cookie needs an Origin of this host or the header X-Requested-With; "
        "or send the token as 'Authorization: Bearer'"
    )
