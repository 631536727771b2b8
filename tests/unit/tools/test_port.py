from __future__ import annotations

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
