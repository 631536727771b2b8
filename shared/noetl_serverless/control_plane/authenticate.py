"""Who calls: the holder of a service token, sent as `Authorization: Bearer <token>`, or as the password of Basic by
clients that know nothing but a URL, `http://user:<token>@host`."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request

from ..errors import Unauthenticated
from .tokens import Caller, Verifier

JSON = "application/json"
# what browsers add to the requests of pages; no page can leave them out
OF_BROWSERS = ("origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")


def authenticate(verifier: Verifier, request: Request) -> Caller:
    """Raises Unauthenticated."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            token = credentials.strip()
        case "basic":
            token = _password(credentials)
            _refuse_browser(request)
        case _:
            token = ""
    if not token:
        raise Unauthenticated(
            "send a service token: Authorization: Bearer <token>, or a URL such as http://noetl:<token>@127.0.0.1:8082"
        )
    return verifier.caller(token)


def _password(credentials: str) -> str:
    """What follows the first colon (RFC 7617); the name before it means nothing. Empty if there is none."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _refuse_browser(request: Request) -> None:
    """A browser that has been given a password once sends it along with the requests of other sites, too, which it
    never does with a bearer token."""
    if any(name in request.headers for name in OF_BROWSERS):
        raise Unauthenticated("a password is not accepted from a browser; send Authorization: Bearer <token>")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # a form has another type; a request without any has an Origin
    if media_type not in ("", JSON):
        raise Unauthenticated(f"with a password, a body must be sent as Content-Type: {JSON}, not {media_type[:100]}")
