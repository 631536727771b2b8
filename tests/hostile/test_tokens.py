"""Service tokens that somebody else has made, changed or kept: beside unit/control_plane/test_tokens.py."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.control_plane.tokens import Verifier, mint
from noetl_serverless.errors import Unauthenticated

from .conftest import FUZZ, TOKEN_KEY, Client, Snapshot

OTHER_KEY = "o" * 32


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": "noetl", "sub": "w-1", "role": "operator", "iat": now, "exp": now + 600, **changes}


def forged() -> dict[str, str]:
    good = mint(TOKEN_KEY, "worker", "w-1", 600)
    header, payload, signature = good.split(".")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        **{
            f"alg {alg}": f"{part({'alg': alg, 'typ': 'JWT'})}.{part(claims())}."
            for alg in ("none", "None", "NONE", "")
        },
        "alg none, with a signature": f"{part({'alg': 'none'})}.{part(claims())}.{signature}",
        "no header": f".{part(claims())}.{signature}",
        "no signature": f"{header}.{payload}.",
        "no signature part": f"{header}.{payload}",
        "another's role under our signature": f"{header}.{part(claims())}.{signature}",
        "signed with our key, another way": jwt.encode(claims(), TOKEN_KEY * 2, algorithm="HS512"),
        "signed with a private key": jwt.encode(claims(), private, algorithm="RS256"),
        "signed with a public key as if it were secret": jwt.encode(claims(), public.hex(), algorithm="HS256"),
        "its own key in the header": jwt.encode(
            claims(), OTHER_KEY, algorithm="HS256", headers={"jwk": {"kty": "oct", "k": part(OTHER_KEY)}}
        ),
        "a key by its address": jwt.encode(
            claims(), OTHER_KEY, algorithm="HS256", headers={"jku": "http://127.0.0.1/keys", "kid": "../../dev/null"}
        ),
        "of a key that is no more": mint(OTHER_KEY, "operator", "old", 600),
        "for another audience": jwt.encode(claims(aud="elsewhere"), TOKEN_KEY, algorithm="HS256"),
        "of another issuer": jwt.encode(claims(iss="noetl "), TOKEN_KEY, algorithm="HS256"),
        "not good yet": jwt.encode(claims(nbf=int(time.time()) + 3600), TOKEN_KEY, algorithm="HS256"),
        "long expired": jwt.encode(claims(exp=1), TOKEN_KEY, algorithm="HS256"),
        "an end that is no number": jwt.encode(claims(exp="never"), TOKEN_KEY, algorithm="HS256"),
        "an end that is not a number": f"{part({'alg': 'HS256'})}.{part(claims(exp=float('nan')))}.{signature}",
        "two roles": jwt.encode(claims(role=["worker", "operator"]), TOKEN_KEY, algorithm="HS256"),
        "a role that there is not": jwt.encode(claims(role="Operator"), TOKEN_KEY, algorithm="HS256"),
        "a megabyte": "a" * (1 << 20),
        "claims that are a list": f"{header}.{part([claims()])}.{signature}",
    }


async def test_a_forged_token_opens_nothing(user: Client, rows: Snapshot) -> None:
    before = await rows()
    for name, token in forged().items():
        for method, path in (("GET", "/api/executions"), ("POST", "/api/commands/claim"), ("POST", "/api/archives")):
            answer = await user.call(method, path, b"{}", headers={"authorization": f"Bearer {token}"})
            assert (answer.status, answer.json["code"]) == (401, "auth.unauthenticated"), name
            assert token not in answer.body.decode()
    assert await rows() == before


async def test_a_role_is_not_more_than_it_says(user: Client, worker: Client, registered: dict[str, Any]) -> None:
    """A worker's token, kept by somebody, starts, cancels, reads and forgets nothing; a gateway's claims nothing."""
    put = await user.post("/api/credentials", {"name": "c", "data": {"password": "hidden"}})
    assert put.status == 200
    for method, path in (
        *(("POST", "/api/execute"), ("POST", "/api/catalog/register"), ("DELETE", "/api/credentials/c")),
        *(("GET", "/api/executions"), ("POST", "/api/executions/1/cancel"), ("POST", "/api/replay/rebuild")),
    ):
        assert (await worker.call(method, path, b"{}")).status == 403
    for path in ("claim", "report", "heartbeat"):
        assert (await user.post(f"/api/commands/{path}", {})).status == 403
    answer = await user.get("/api/credentials/c", include_data=True)
    assert answer.status == 403 and b"hidden" not in answer.body
    answer = await worker.call("GET", "/api/credentials/c", headers={"x-noetl-user": "ada"})
    assert answer.status == 403


def test_a_token_outlives_neither_its_time_nor_its_key() -> None:
    """It may be shown again while it is good, which is what it is for; and once it is not, no memory of it helps."""
    now = time.time()
    token = mint(TOKEN_KEY, "worker", "w-1", 60, now=now)
    verifier = Verifier(TOKEN_KEY)
    assert verifier.caller(token, now).role == verifier.caller(token, now).role == "worker"
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.caller(token, now + 3600)
    with pytest.raises(Unauthenticated):
        Verifier(OTHER_KEY).caller(token, now)


@FUZZ
@given(cut=st.integers(0, 400), put=st.binary(max_size=4), text=st.text(max_size=60))
def test_no_change_of_a_token_is_another_token(cut: int, put: bytes, text: str) -> None:
    verifier, now = Verifier(TOKEN_KEY), 1_750_000_000.0
    good = mint(TOKEN_KEY, "worker", "w-1", 60, now=now)
    cut %= len(good)
    for changed in (good[:cut] + put.hex() + good[cut + len(put.hex()) :], good[:cut] + good[cut + 1 :], text):
        try:
            caller = verifier.caller(changed, now)
        except Unauthenticated:
            continue
        # the last character of the signature has two bits that mean nothing
        assert caller.role == "worker" and changed[:-1] == good[:-1]
