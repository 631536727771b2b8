"""Objects are read with the keys of a credential: of S3 by a signature, of Google by a token that the account signs
for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.serving import serving_app

from noetl_serverless.control_plane import object_get as module
from noetl_serverless.control_plane.http_get import NotFetched
from noetl_serverless.control_plane.object_get import READ_ONLY, object_get
from noetl_serverless.playbook.scripts import Source
from noetl_serverless.tools.google_account import GRANT_TYPE

KEYS = {"access_key_id": "AKIA1", "secret_access_key": "s3cret/key", "region": "eu-test-1"}
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class Stores:
    """Both stores and the token endpoint. `asked`: the paths of requests for objects."""

    url: str = ""
    token: dict[str, Any] = field(default_factory=lambda: {"access_token": "ya29.token"})
    asked: list[str] = field(default_factory=list)
    # before each answer, in seconds
    pause: float = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.pause)
        if request.path == "/token":
            form = await request.post()
            claims = jwt.decode(str(form["assertion"]), KEY.public_key(), ["RS256"], audience=f"{self.url}/token")
            assert (form["grant_type"], claims["scope"], claims["iss"]) == (GRANT_TYPE, READ_ONLY, "me@x.example")
            return web.json_response(self.token)
        self.asked.append(request.raw_path)
        if request.path.startswith("/moved"):
            raise web.HTTPFound("/bucket/dir/a b.py")
        given = request.headers.get("Authorization", "")
        if given != "Bearer ya29.token" and not _is_signed(self.url, request, given):
            raise web.HTTPForbidden
        return web.Response(body=b"result = 1\n")


def _is_signed(url: str, request: web.Request, given: str) -> bool:
    """Whether the SDK of AWS would sign it so."""
    match = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=AKIA1/\S+, SignedHeaders=(\S+), Signature=(\w{64})", given)
    if match is None:
        return False
    sent = {name: request.headers[name] for name in match[1].split(";") if name != "host"}
    again = AWSRequest("GET", f"{url}{request.raw_path}", headers=sent)
    again.context["timestamp"] = sent["x-amz-date"]
    signer = S3SigV4Auth(Credentials("AKIA1", "s3cret/key"), "s3", "eu-test-1")
    return bool(match[2] == signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again))


@pytest.fixture
async def stores(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    made = Stores()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    async with serving_app(app) as url:
        made.url = url
        monkeypatch.setattr(module, "GOOGLE_STORAGE", url)
        yield made


async def read(
    url: str, data: dict[str, Any], allow_private: bool = True, seconds: float = 10.0, **source: Any
) -> bytes:
    given = Source(auth="x", **source)
    return await asyncio.to_thread(
        object_get, url, given, data, allow_private=allow_private, seconds=seconds, max_bytes=100
    )


@pytest.mark.parametrize("more", [{}, {"session_token": "temporary"}])
async def test_an_object_of_s3_is_asked_for_with_a_signature(stores: Stores, more: dict[str, str]) -> None:
    assert await read("s3://bucket/dir/a b.py", {**KEYS, **more}, endpoint=stores.url) == b"result = 1\n"
    assert stores.asked == ["/bucket/dir/a%20b.py"]


async def test_the_region_may_be_that_of_the_script(stores: Stores) -> None:
    keys = {**KEYS, "region": "elsewhere"}
    assert await read("s3://bucket/x.py", keys, endpoint=stores.url, region="eu-test-1") == b"result = 1\n"


async def test_an_object_of_google_is_asked_for_with_a_token(stores: Stores) -> None:
    account = {"client_email": "me@x.example", "private_key": PEM, "token_uri": f"{stores.url}/token"}
    assert await read("gs://bucket/dir/a b.py", account) == b"result = 1\n"
    assert stores.asked == ["/bucket/dir/a%20b.py"]


@pytest.mark.parametrize(
    ("url", "data", "reason"),
    [
        ("s3://bucket/x.py", {**KEYS, "secret_access_key": "other"}, "the answer is 403 Forbidden"),
        ("s3://moved/x.py", KEYS, "the answer is 302 Found"),
        ("s3://bucket/x.py", {"user": "me"}, "the credential has no keys of AWS"),
        ("s3://bucket/x.py", {**KEYS, "region": ""}, "the credential has no keys of AWS"),
        ("s3://bucket/x.py", {**KEYS, "access_key_id": "AKIA1\n"}, "the keys of AWS in the credential cannot be sent"),
        ("s3://bucket/x.py", {**KEYS, "session_token": "a b"}, "the keys of AWS in the credential cannot be sent"),
        ("s3://bucket/x.py", {**KEYS, "region": "["}, "the keys of AWS in the credential cannot be sent"),
        ("s3://bucket/x.py", {**KEYS, "region": ["r"]}, "the keys of AWS in the credential cannot be sent"),
        ("gs://bucket/x.py", {"access_token": "of-another-service"}, "the credential is no service account"),
        ("gs://bucket/x.py", {"user": "me"}, "the credential is no service account"),
        ("gs://bucket/x.py", {"client_email": "me", "private_key": "none"}, "the credential has a private_key that"),
        ("gs://bucket/x.py", {"k": '{"a":' * 100_000}, "the credential is no service account"),
        (
            "gs://bucket/x.py",
            {"client_email": "me", "private_key": PEM, "token_uri": "http://user:PASSWD@127.0.0.1:1/t?key=QSECRET"},
            "^the token endpoint of the credential gave no token$",
        ),
    ],
)
async def test_what_is_refused_has_its_reason_and_no_secret(
    stores: Stores, url: str, data: dict[str, Any], reason: str
) -> None:
    source: dict[str, Any] = {"endpoint": stores.url} if url.startswith("s3") else {}
    with pytest.raises(NotFetched, match=reason) as caught:
        await read(url, data, **source)
    assert not any(str(value) in str(caught.value) for value in data.values() if value and value != "me")


async def test_both_requests_have_one_time_limit(stores: Stores) -> None:
    stores.pause = 0.6
    account = {"client_email": "me@x.example", "private_key": PEM, "token_uri": f"{stores.url}/token"}
    with pytest.raises((TimeoutError, NotFetched)):
        await read("gs://bucket/x.py", account, seconds=1.0)
    began = len(stores.asked)
    stores.pause = 0.0
    assert await read("gs://bucket/x.py", account, seconds=5.0) == b"result = 1\n"
    assert len(stores.asked) == began + 1


async def test_keys_are_sent_by_https_only_where_private_addresses_are_not_allowed() -> None:
    with pytest.raises(NotFetched, match="by https only"):
        await read("s3://bucket/x.py", KEYS, allow_private=False, endpoint="http://store.example")


@pytest.mark.parametrize(
    "answer",
    [{}, {"access_token": None}, {"access_token": "a\nb"}, {"access_token": ["x"]}, {"error": "invalid_grant"}],
)
async def test_an_answer_without_a_token_is_refused(stores: Stores, answer: dict[str, Any]) -> None:
    stores.token = answer
    account = {"client_email": "me@x.example", "private_key": PEM, "token_uri": f"{stores.url}/token"}
    with pytest.raises(NotFetched, match="Google answered without an access_token"):
        await read("gs://bucket/x.py", account)


async def test_addresses_are_those_that_http_tasks_may_reach(stores: Stores) -> None:
    https = stores.url.replace("http://", "https://")
    with pytest.raises(NotFetched, match="AddressRefused"):
        await read("s3://bucket/x.py", KEYS, allow_private=False, endpoint=https)
    assert not stores.asked
