"""What a task of kind postgres reports for an exception."""

from __future__ import annotations

import ssl

import pytest

from noetl_serverless.tools.postgres_work import failure_of


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ssl.SSLError(1, "[SSL] wrong version number"), "postgres.tls", False),
        (OSError("reset"), "postgres.connection", True),
        (TimeoutError(), "postgres.timeout", True),
        (ValueError("no value for $x"), "postgres.sql", False),
        (KeyError("x"), "postgres.internal", False),
    ],
)
def test_each_exception_has_its_code(error: Exception, code: str, retryable: bool) -> None:
    failure = failure_of(error)
    assert (failure.error["code"], failure.error["retryable"]) == (code, retryable), failure


def test_what_is_wrong_with_a_certificate_is_said() -> None:
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context(cadata="-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    assert "cadata does not contain a certificate" in failure_of(caught.value).error["message"]
