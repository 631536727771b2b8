"""Compared with botocore's, which AWS itself maintains."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials

from noetl_serverless.hosts.aws.account import Credentials
from noetl_serverless.tools.aws_signature import encode_path, encode_query, signed_headers, signed_query

NOW = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
CASES: list[Any] = [
    (
        "sqs",
        "POST",
        "https://sqs.eu-west-1.amazonaws.com/",
        b'{"QueueUrl":"q"}',
        {"x-amz-target": "AmazonSQS.SendMessage"},
    ),
    ("s3", "GET", "https://b.s3.eu-west-1.amazonaws.com/a%20b%252E/%C3%A9.json", b"", {}),
    ("s3", "PUT", "https://b.s3.eu-west-1.amazonaws.com/k", b"x" * 1000, {"if-none-match": "*"}),
    ("s3", "GET", "http://127.0.0.1:4566/b/?list-type=2&prefix=a%2Fb%20c", b"", {}),
    (
        "lambda",
        "POST",
        "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/a%3Ab/invocations?Qualifier=live",
        b"{}",
        {},
    ),
    ("secretsmanager", "POST", "https://secretsmanager.eu-west-1.amazonaws.com/", b"{}", {"a": "  two   words "}),
]


def theirs(service: str, method: str, url: str, body: bytes, headers: dict[str, str], token: str) -> dict[str, str]:
    signer = auth.S3SigV4Auth if service == "s3" else auth.SigV4Auth
    request = AWSRequest(method, url, headers=headers, data=body)
    request.context["payload_signing_enabled"] = True
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        signer(TheirCredentials("AKID", "secret", token or None), service, "eu-west-1").add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("token", ["", "session/token=="])
@pytest.mark.parametrize(("service", "method", "url", "body", "headers"), CASES)
def test_the_header_is_that_of_botocore(
    service: str, method: str, url: str, body: bytes, headers: dict[str, str], token: str
) -> None:
    credentials = Credentials("AKID", "secret", token)
    ours = signed_headers(credentials, "eu-west-1", service, method, url, headers, body, NOW)
    expected = theirs(service, method, url, body, headers, token)
    # botocore leaves the host to its HTTP client and signs it all the same
    assert ours["authorization"] == expected["Authorization"]


@pytest.mark.parametrize("token", ["", "session/token=="])
def test_a_database_token_is_that_of_botocore(token: str) -> None:
    from botocore.session import Session
    from botocore.signers import generate_db_auth_token

    session = Session()
    session.set_credentials("AKID", "secret", token or None)
    client = session.create_client("rds", region_name="eu-west-1")
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        expected = generate_db_auth_token(client, "db.example", 5432, "noetl", "eu-west-1")
    credentials = Credentials("AKID", "secret", token)
    query = [("Action", "connect"), ("DBUser", "noetl")]
    ours = signed_query(credentials, "eu-west-1", "rds-db", "db.example:5432", query, NOW, 900)
    assert sorted(f"db.example:5432/?{ours}".split("&")) == sorted(expected.split("&"))


def test_paths_and_queries_are_encoded_as_aws_wants_them() -> None:
    assert encode_path("/a b/é~.json") == "/a%20b/%C3%A9~.json"
    assert encode_query([("b", "1 2"), ("a", "x/y")]) == "a=x%2Fy&b=1%202"
