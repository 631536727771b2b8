"""The stores of secrets give what is theirs to whoever may have it, and to nobody else."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import jwt
import pytest
from tests.mock_api.secret_stores import AWS_KEYS, CLIENT_EMAIL, SecretStores

from noetl_serverless.hosts.aws.account import Credentials
from noetl_serverless.tools.aws_signature import signed_headers

ORIGIN = "http://127.0.0.1:8080"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
VERSION = "projects/shop/secrets/phrase/versions"


@pytest.fixture(scope="module")
def stores() -> SecretStores:
    return SecretStores(lambda key: 1)


def assertion(stores: SecretStores, **claims: object) -> str:
    account = stores.key_file(ORIGIN)
    fields = {"iss": account["client_email"], "aud": account["token_uri"], "exp": time.time() + 60, **claims}
    return jwt.encode(fields, account["private_key"], "RS256")


def access_token(stores: SecretStores) -> str:
    status, found = stores.google_token(ORIGIN, {"grant_type": GRANT, "assertion": assertion(stores, scope="all")})
    assert status == 200, found
    return str(found["access_token"])


def test_an_assertion_for_an_audience_gives_an_identity_token(stores: SecretStores) -> None:
    claims = assertion(stores, target_audience="https://a.example")
    status, found = stores.google_token(ORIGIN, {"grant_type": GRANT, "assertion": claims})
    assert (status, stores.identity(found["id_token"])) == (
        200,
        (200, {"audience": "https://a.example", "email": CLIENT_EMAIL}),
    )


@pytest.mark.parametrize("claims", [{"iss": "another@shop.example"}, {"aud": "https://x.example"}, {"exp": 1}])
def test_an_assertion_of_another_or_for_another_gives_no_token(stores: SecretStores, claims: Mapping[str, str]) -> None:
    status, found = stores.google_token(ORIGIN, {"grant_type": GRANT, "assertion": assertion(stores, **claims)})
    assert (status, found["error"]) == (400, "invalid_grant")


def test_what_is_no_identity_token_is_of_nobody(stores: SecretStores) -> None:
    assert stores.identity(access_token(stores))[0] == 401


@pytest.mark.parametrize(
    ("version", "secret"), [("1", "f1rst-phrase"), ("2", "last-phrase"), ("latest", "last-phrase")]
)
def test_a_version_of_a_secret(stores: SecretStores, version: str, secret: str) -> None:
    status, found = stores.google_secret(f"{VERSION}/{version}:access", access_token(stores))
    assert (status, base64.b64decode(found["payload"]["data"]).decode()) == (200, secret)


@pytest.mark.parametrize(
    "path",
    [f"{VERSION}/3:access", f"{VERSION}/0:access", f"{VERSION}/1", "projects/x/secrets/phrase/versions/1:access"],
)
def test_a_version_that_does_not_exist_is_404(stores: SecretStores, path: str) -> None:
    assert stores.google_secret(path, access_token(stores))[0] == 404


def test_without_a_token_there_is_no_secret(stores: SecretStores) -> None:
    assert stores.google_secret(f"{VERSION}/1:access", "")[0] == 401


def signed(secret_key: str, body: bytes) -> dict[str, str]:
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.GetSecretValue"}
    keys = Credentials(AWS_KEYS["access_key_id"], secret_key)
    now = datetime.now(UTC)
    return signed_headers(keys, AWS_KEYS["region"], "secretsmanager", "POST", f"{ORIGIN}/", headers, body, now)


def test_a_signed_request_gives_the_secret(stores: SecretStores) -> None:
    body = json.dumps({"SecretId": "shop/phrase"}).encode()
    status, found = stores.aws_secret(f"{ORIGIN}/", signed(AWS_KEYS["secret_access_key"], body), body)
    assert (status, found.get("SecretString")) == (200, "aws-phrase")


def test_another_key_or_another_body_has_no_valid_signature(stores: SecretStores) -> None:
    body = json.dumps({"SecretId": "shop/phrase"}).encode()
    for headers, sent in ((signed("wrong", body), body), (signed(AWS_KEYS["secret_access_key"], body), b"{}")):
        status, found = stores.aws_secret(f"{ORIGIN}/", headers, sent)
        assert (status, found["__type"]) == (400, "InvalidSignatureException")


def test_a_secret_of_aws_that_does_not_exist(stores: SecretStores) -> None:
    body = json.dumps({"SecretId": "none"}).encode()
    _, found = stores.aws_secret(f"{ORIGIN}/", signed(AWS_KEYS["secret_access_key"], body), body)
    assert found["__type"] == "ResourceNotFoundException"
