"""The two ways to send a service token, and that a browser has only the first."""

from __future__ import annotations

import base64

import pytest
from starlette.requests import Request

from noetl_serverless.control_plane.authenticate import authenticate
from noetl_serverless.control_plane.tokens import Caller, Verifier, mint
from noetl_serverless.errors import Unauthenticated

KEY = "k" * 32
# valid at whatever date the tests run
TOKEN = mint(KEY, "operator", "ops", 1e9)
VERIFIER = Verifier(KEY)


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def caller(authorization: str, **headers: str) -> Caller:
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"authorization": authorization}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return authenticate(VERIFIER, Request({"type": "http", "method": "POST", "path": "/", "headers": raw}))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_is_a_bearer_token(scheme: str) -> None:
    assert caller(f"{scheme} {TOKEN}") == Caller("operator", "ops")


@pytest.mark.parametrize("user", ["noetl", "", "ann@example.org", "ä"])
def test_a_token_is_the_password_of_any_user(user: str) -> None:
    assert caller(basic(f"{user}:{TOKEN}"), content_type="application/json; charset=utf-8").subject == "ops"
    assert caller(basic(f"{user}:{TOKEN}")).role == "operator", "a request without a body has no content type"


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", "Bearer ", "Basic", "Basic ", f"Digest {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Basic ****"),
        *(basic(TOKEN), basic(f"{TOKEN}:"), basic(f"noetl:{TOKEN}:"), basic("noetl:guess"), f"Basic noetl:{TOKEN}"),
        "Basic " + base64.b64encode(b"noetl:\xff").decode(),
    ],
)
def test_nothing_else_is_accepted(authorization: str) -> None:
    with pytest.raises(Unauthenticated):
        caller(authorization)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
        {"sec_fetch_dest": "image"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_type": "text/plain"},
        {"content_type": "text/plain; application/json"},
    ],
)
def test_a_browser_that_remembers_a_password_cannot_be_made_to_use_it(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated, match="password"):
        caller(basic(f"noetl:{TOKEN}"), **headers)
    assert caller(f"Bearer {TOKEN}", **headers).role == "operator", "what no browser sends by itself is as before"
