from __future__ import annotations

import base64
from typing import Any

import pytest

from noetl_serverless.errors import NotFound, Unavailable
from noetl_serverless.tools.port import Credential, ToolFailure, credential_named


def test_a_credential_masks_its_secrets_and_keeps_its_names() -> None:
    credential = Credential("wh", "postgres", {"host": "db.example", "user": "ann", "password": "s3/cret x"})
    text = "ann at db.example: s3/cret x, s3%2Fcret%20x"
    assert credential.mask(text) == "ann at db.example: ***, ***"


def test_a_credentials_data_is_not_in_its_repr() -> None:
    assert "hunter2" not in repr(Credential("wh", "postgres", {"password": "hunter2"}))


def test_a_failure_is_an_envelope() -> None:
    outcome = ToolFailure("http", "http.connect", "no", retryable=True).outcome(extra={"http": {}})
    assert outcome.status == "error"
    assert outcome.error == {"kind": "http", "code": "http.connect", "retryable": True, "message": "no"}
    assert outcome.extra == {"http": {}}


def test_a_credential_masks_what_is_nested_too() -> None:
    data = {
        "type": "service_account",
        "key": {"host": "db", "private_key": "-----BEGIN"},
        "hosts": ["h-secret"],
        "pin": "12",
    }
    credential = Credential("gcp", "gcs", data)
    assert set(credential.secrets()) == {"-----BEGIN", "h-secret"}
    assert credential.mask("service_account db -----BEGIN h-secret 12") == "service_account db *** *** 12"


def test_of_the_key_file_of_a_service_account_the_keys_are_secret() -> None:
    file = {
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": "0123456789abcdef",
        "private_key": "-----BEGIN PRIVATE KEY-----",
        "client_email": "reader@demo-project.example",
        "client_id": "1234567890",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/reader",
        "universe_domain": "googleapis.com",
    }
    assert set(Credential("sa", "service_account", file).secrets()) == {file["private_key"], file["client_id"]}


def test_numbers_of_a_credential_are_secrets() -> None:
    credential = Credential("x", "custom", {"pin": 98765432, "n": 12, "on": True, "port": 5432, "expires_in": 3600})
    assert list(credential.secrets()) == [98765432]
    assert credential.mask("98765432 12 True 5432 3600") == "*** 12 True 5432 3600"


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ({"username": "ann", "password": "s3/cret"}, "ann:s3/cret"),
        ({"user": "ann", "password": 123}, "ann:123"),
        ({"client_id": "a b", "client_secret": "s3/cret"}, "a%20b:s3%2Fcret"),
    ],
)
def test_what_http_sends_of_a_user_and_a_password_is_a_secret(data: dict[str, Any], sent: str) -> None:
    encoded = base64.b64encode(sent.encode()).decode()
    assert Credential("x", "basic", data).mask(f"Basic {encoded}") == "Basic ***"


def test_the_password_in_a_url_is_a_secret_by_itself() -> None:
    credential = Credential("x", "postgres", {"url": "postgresql://ann:pw%2F1@db:5432/x"})
    assert credential.mask("no postgresql://ann:pw%2F1@db:5432/x; pw/1 is wrong") == "no ***; *** is wrong"


class Credentials:
    """A context whose store answers with an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def credential(self, name: str) -> Credential:
        raise self.error


@pytest.mark.parametrize(
    ("error", "message", "retryable"),
    [
        (
            NotFound("there is no credential 'db'"),
            "postgres: there is no credential 'db'; store one with: noetls credential set db --type TYPE",
            False,
        ),
        (
            KeyError("db"),
            "postgres: there is no credential 'db'; store one with: noetls credential set db --type TYPE",
            False,
        ),
        (Unavailable("the database is away"), "postgres: credential 'db': the database is away", True),
    ],
)
async def test_a_credential_that_is_missing_is_said_once_and_with_what_to_do(
    error: Exception, message: str, retryable: bool
) -> None:
    context: Any = Credentials(error)
    with pytest.raises(ToolFailure) as caught:
        await credential_named(context, "postgres", "db")
    assert (caught.value.error["message"], caught.value.error["retryable"]) == (message, retryable)
