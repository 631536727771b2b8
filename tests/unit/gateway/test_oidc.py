"""Signing in with a provider that the test is itself: its keys, its discovery document, its tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.serving import end, serve

from noetl_serverless.errors import InvalidRequest, Unauthenticated, Unavailable
from noetl_serverless.gateway.oidc import OidcSignIn

AUDIENCE = "noetl"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
# whenever the tests run
FAR_FUTURE = 32_503_680_000
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def published(key: Any, kid: str) -> dict[str, Any]:
    algorithm: Any = jwt.algorithms.RSAAlgorithm if hasattr(key, "decrypt") else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


class Provider:
    def __init__(self) -> None:
        self.keys = [published(KEY, "one"), published(CURVE, "curve")]
        self.requests: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.requests.append(self.path)
                if self.path == "/.well-known/openid-configuration":
                    body: Any = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}keys"}
                else:
                    body = {"keys": provider.keys}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.server = serve(Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}/"

    def token(self, *, key: Any = KEY, kid: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        body = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "auth0|ann",
            "iat": now,
            "exp": now + 600,
            "email": "ann@example.org",
            "name": "Ann",
            **claims,
        }
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(body, key, algorithm, headers={"kid": kid})


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    end(provider.server)


@pytest.fixture
def sign_in(provider: Provider) -> OidcSignIn:
    return OidcSignIn(provider.issuer, AUDIENCE)


@pytest.mark.parametrize("field", ["id_token", "auth0_token"])
async def test_a_valid_token_identifies_its_user(provider: Provider, sign_in: OidcSignIn, field: str) -> None:
    user = await sign_in.sign_in({field: provider.token(roles=["editor", "unknown"])})
    assert user.to_dict() == {
        "user_id": "auth0|ann",
        "email": "ann@example.org",
        "display_name": "Ann",
        "roles": ["editor"],
    }


async def test_roles_may_stand_under_a_namespace_and_default_to_viewer(provider: Provider, sign_in: OidcSignIn) -> None:
    claims: dict[str, Any] = {"https://noetl.example/roles": ["admin"]}
    user = await sign_in.sign_in({"id_token": provider.token(**claims)})
    assert user.roles == ("admin",)
    assert (await sign_in.sign_in({"id_token": provider.token()})).roles == ("viewer",)
    assert (await sign_in.sign_in({"id_token": provider.token(roles="admin")})).roles == ("viewer",)


async def test_elliptic_curves_are_accepted(provider: Provider, sign_in: OidcSignIn) -> None:
    token = provider.token(key=CURVE, kid="curve", algorithm="ES256")
    assert (await sign_in.sign_in({"id_token": token})).user_id == "auth0|ann"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"},
        {"aud": None},
        {"iss": "https://evil.example/"},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"nbf": FAR_FUTURE},
        {"key": OTHER},
        {"kid": "unknown"},
        {"key": "a-shared-secret-of-at-least-32-bytes", "algorithm": "HS256"},
    ],
)
async def test_a_token_that_proves_nothing_is_refused(
    provider: Provider, sign_in: OidcSignIn, claims: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated):
        await sign_in.sign_in({"id_token": provider.token(**claims)})


async def test_an_unsigned_token_is_refused(provider: Provider, sign_in: OidcSignIn) -> None:
    now = int(time.time())
    body = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 60}
    token = jwt.encode(body, "", "none", headers={"kid": "one"})
    with pytest.raises(Unauthenticated):
        await sign_in.sign_in({"id_token": token})


@pytest.mark.parametrize("body", [{}, {"id_token": 7}, {"id_token": "x" * 20_000}, {"user": "ann"}])
async def test_a_login_without_a_token_is_refused(sign_in: OidcSignIn, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await sign_in.sign_in(body)


async def test_a_token_that_is_no_jwt_is_refused(sign_in: OidcSignIn) -> None:
    with pytest.raises(Unauthenticated):
        await sign_in.sign_in({"id_token": "not.a.token"})


async def test_a_new_key_of_the_provider_is_found(provider: Provider, sign_in: OidcSignIn) -> None:
    await sign_in.sign_in({"id_token": provider.token()})
    provider.keys.append(published(OTHER, "two"))
    assert (await sign_in.sign_in({"id_token": provider.token(key=OTHER, kid="two")})).user_id == "auth0|ann"


async def test_unknown_keys_do_not_make_us_ask_the_provider_each_time(provider: Provider, sign_in: OidcSignIn) -> None:
    for number in range(10):
        with pytest.raises(Unauthenticated):
            await sign_in.sign_in({"id_token": provider.token(kid=f"unknown-{number}")})
    assert provider.requests.count("/keys") <= 2


async def test_a_provider_that_is_down_is_not_the_users_fault(provider: Provider) -> None:
    token = provider.token()
    for sign_in in (
        OidcSignIn("http://127.0.0.1:1/", AUDIENCE),
        OidcSignIn(provider.issuer, AUDIENCE, jwks_url="http://127.0.0.1:1/keys"),
    ):
        with pytest.raises(Unavailable):
            await sign_in.sign_in({"id_token": token})


def test_an_issuer_without_an_audience_is_refused() -> None:
    with pytest.raises(ValueError, match="audience"):
        OidcSignIn("https://issuer.example/", "")
