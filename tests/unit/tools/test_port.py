from __future__ import annotations

from noetl_serverless.tools.port import Credential, ToolFailure


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
