from __future__ import annotations

import jwt
import pytest

from noetl_serverless.control_plane.tokens import LEEWAY_SECONDS, BadKey, Caller, Verifier, mint
from noetl_serverless.errors import Unauthenticated

KEY = "k" * 32
NOW = 1_750_000_000.0


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(KEY)


def claims(**changes: object) -> dict[str, object]:
    return {"iss": "noetl", "sub": "w-1", "role": "worker", "exp": NOW + 60, **changes}


def test_a_minted_token_says_who_calls(verifier: Verifier) -> None:
    assert verifier.caller(mint(KEY, "worker", "w-1", 60, now=NOW), NOW) == Caller("worker", "w-1")


@pytest.mark.parametrize("seen_before", [False, True])
def test_an_expired_token_is_refused_even_if_it_was_good(verifier: Verifier, seen_before: bool) -> None:
    token = mint(KEY, "worker", "w-1", 60, now=NOW)
    if seen_before:
        verifier.caller(token, NOW)
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.caller(token, NOW + 60 + LEEWAY_SECONDS + 1)


def test_clocks_may_be_a_little_apart(verifier: Verifier) -> None:
    token = mint(KEY, "worker", "w-1", 60, now=NOW)
    assert verifier.caller(token, NOW + 60 + LEEWAY_SECONDS - 1).subject == "w-1"
    assert verifier.caller(token, NOW - 3600).subject == "w-1"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        jwt.encode(claims(), "x" * 32, algorithm="HS256"),
        jwt.encode(claims(), KEY * 2, algorithm="HS512"),
        jwt.encode(claims(), "", algorithm="none"),
        jwt.encode(claims(iss="someone"), KEY, algorithm="HS256"),
        jwt.encode(claims(role="admin"), KEY, algorithm="HS256"),
        jwt.encode(claims(role=["worker"]), KEY, algorithm="HS256"),
        *(
            jwt.encode({k: v for k, v in claims().items() if k != missing}, KEY, algorithm="HS256")
            for missing in ("iss", "sub", "role", "exp")
        ),
    ],
)
def test_a_token_that_is_not_ours_is_refused(verifier: Verifier, token: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier.caller(token, NOW)


def test_a_key_too_short_is_refused() -> None:
    for attempt in (lambda: Verifier("short"), lambda: mint("short", "worker", "w", 1)):
        with pytest.raises(BadKey, match="NOETL_TOKEN_KEY"):
            attempt()


def test_a_role_that_does_not_exist_is_not_minted() -> None:
    with pytest.raises(ValueError, match="unknown role"):
        mint(KEY, "admin", "x", 60)
