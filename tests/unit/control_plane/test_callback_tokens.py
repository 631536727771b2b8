from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from noetl_serverless.control_plane.callback_tokens import (
    AUDIENCE,
    Callback,
    CallbackExpired,
    CallbackInvalid,
    CallbackTokens,
)
from noetl_serverless.control_plane.tokens import BadKey, Verifier, mint
from noetl_serverless.errors import Unauthenticated

KEY = "k" * 32
NOW = datetime(2027, 1, 30, 8, tzinfo=UTC)
CALLBACK = Callback("7", "manager", "boss", 2, 41, NOW + timedelta(days=2))
TOKENS = CallbackTokens(KEY)


def test_a_token_stands_for_what_was_signed() -> None:
    assert TOKENS.callback(TOKENS.sign(CALLBACK), NOW) == CALLBACK


def test_it_is_valid_until_it_expires() -> None:
    token = TOKENS.sign(CALLBACK)
    assert TOKENS.callback(token, CALLBACK.expires_at - timedelta(seconds=1)) == CALLBACK
    with pytest.raises(CallbackExpired, match="2027-02-01 08:00 UTC"):
        TOKENS.callback(token, CALLBACK.expires_at)


@pytest.mark.parametrize("changed", [{"execution_id": "8"}, {"signal": "x"}, {"entry": "x"}, {"round": 3}])
def test_another_wait_is_another_callback(changed: dict[str, Any]) -> None:
    assert replace(CALLBACK, **changed).id != CALLBACK.id


def test_made_later_it_is_the_same_callback() -> None:
    assert replace(CALLBACK, seq=50, expires_at=NOW + timedelta(days=9)).id == CALLBACK.id


def test_parts_of_its_id_do_not_run_together() -> None:
    assert replace(CALLBACK, entry="a", signal="bc").id != replace(CALLBACK, entry="ab", signal="c").id


def test_its_key_is_for_it_alone() -> None:
    token = TOKENS.sign(CALLBACK)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, KEY, algorithms=["HS256"], audience=AUDIENCE)
    with pytest.raises(Unauthenticated):
        Verifier(KEY).caller(token)
    with pytest.raises(CallbackInvalid):
        TOKENS.callback(mint(KEY, "operator", "me", 3600), NOW)
    with pytest.raises(CallbackInvalid):
        CallbackTokens("l" * 32).callback(token, NOW)


def test_without_a_key_there_are_none() -> None:
    with pytest.raises(BadKey):
        CallbackTokens("short")


def changed(token: str, **claims: Any) -> str:
    """The token with other claims and the same signature."""
    head, body, signature = token.split(".")
    known = json.loads(base64.urlsafe_b64decode(body + "=="))
    text = base64.urlsafe_b64encode(json.dumps({**known, **claims}).encode()).rstrip(b"=").decode()
    return f"{head}.{text}.{signature}"


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "a.b.c",
        "ä.b.c",
        "x" * 5000,
        changed(TOKENS.sign(CALLBACK), exp=2**40),
        changed(TOKENS.sign(CALLBACK), sub="8"),
        jwt.encode({"sub": "7"}, KEY, "HS256"),
        jwt.encode(jwt.decode(TOKENS.sign(CALLBACK), options={"verify_signature": False}), "", "none"),
    ],
)
def test_what_was_not_signed_here_is_refused(forged: str) -> None:
    with pytest.raises(CallbackInvalid):
        TOKENS.callback(forged, NOW)
