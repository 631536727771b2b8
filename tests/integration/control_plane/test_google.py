"""Access tokens of Google's service accounts: a real signed assertion, and a token endpoint that checks it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from tests.integration.control_plane.conftest import SETTINGS, Client
from tests.integration.control_plane.test_keychain import PEM, TokenServer, account, server

from noetl_serverless.settings import Settings

__all__ = ["server"]

READ_ONLY = "https://www.googleapis.com/auth/devstorage.read_only"


@pytest.fixture
def settings(results_url: str, request: pytest.FixtureRequest) -> Settings:
    return replace(SETTINGS, result_url=results_url, http_allow_private=getattr(request, "param", True))


@pytest.fixture
def operator(user: Client) -> Client:
    return user.of("operator")


async def test_a_stored_account_and_one_in_the_request_get_a_token(operator: Client, server: TokenServer) -> None:
    await operator.post("/api/credentials", {"name": "google", "type": "service_account", "data": account(server.url)})
    stored = await operator.post("/api/gcp/token", {"credential": "google"})
    assert stored.status == 200, stored.body
    assert stored.json["access_token"] == "google-cloud-platform"
    assert (stored.json["token_type"], stored.json["expires_in"]) == ("Bearer", 3600)
    assert stored.json["service_account"] == "me@p.example"
    scoped = await operator.post("/api/gcp/token", {"service_account": account(server.url), "scopes": [READ_ONLY]})
    assert (scoped.json["access_token"], scoped.json["scopes"]) == ("google-devstorage.read_only", [READ_ONLY])
    assert (await operator.get("/api/credentials/google")).status == 200
    assert len((await operator.get("/api/credentials")).json["items"]) == 1, "the account of a request is kept"


async def test_only_an_operator_gets_one_and_each_time_is_audited(
    operator: Client, server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"service_account": account(server.url)}
    for role in ("gateway", "worker", "reconciler"):
        assert (await operator.of(role).post("/api/gcp/token", body)).status == 403, role
    assert server.requests == []
    await operator.post("/api/gcp/token", body)
    logged = [vars(record) for record in caplog.records]
    assert [entry["role"] for entry in logged if entry.get("operation") == "readGoogleToken"] == ["operator"]
    assert "google-cloud-platform" not in str(logged) and PEM not in str(logged)


@pytest.mark.parametrize("settings", [False], indirect=True)
async def test_a_token_endpoint_at_a_private_address_is_not_called(operator: Client, server: TokenServer) -> None:
    refused = await operator.post("/api/gcp/token", {"service_account": account(server.url)})
    assert (refused.status, server.requests) == (400, []), refused.body


@pytest.mark.parametrize(("failures", "text", "status", "code"), [
    ([401], None, 400, "request.invalid"),
    ([500], None, 503, "server.unavailable"),
    ([302], None, 400, "request.invalid"),
    ([], '{"id_token": "hidden"}', 400, "request.invalid"),
    ([], "no JSON: hidden", 400, "request.invalid"),
])  # fmt: skip
async def test_an_endpoint_that_gives_no_token_is_reported_without_what_it_said(
    operator: Client, server: TokenServer, failures: list[int], text: str | None, status: int, code: str
) -> None:
    server.failures, server.text = failures, text
    answer = await operator.post("/api/gcp/token", {"service_account": account(server.url)})
    assert (answer.status, answer.json["code"]) == (status, code), answer.body
    assert b"hidden" not in answer.body and b"assertion" not in answer.body


@pytest.mark.parametrize(("body", "status"), [
    ({}, 400),
    ({"credential": "a", "service_account": {}}, 400),
    ({"credential": "nobody"}, 404),
    ({"service_account": {"client_email": "me"}}, 400),
    ({"service_account": {"client_email": "me", "private_key": "hidden-key"}}, 400),
    ({"service_account": {}, "scopes": []}, 400),
    ({"service_account": {}, "scopes": ["two words"]}, 400),
])  # fmt: skip
async def test_what_is_no_account_is_refused(operator: Client, body: dict[str, Any], status: int) -> None:
    answer = await operator.post("/api/gcp/token", body)
    assert answer.status == status, answer.body
    assert b"hidden-key" not in answer.body
