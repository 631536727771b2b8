from __future__ import annotations

import pytest

from .conftest import Client, Upstream

QUERY = {"query": "{ health }"}


async def test_without_a_token_the_answer_is_401_as_a_problem(call: Client) -> None:
    answer = await call("POST", "/graphql", QUERY)
    assert answer.status == 401
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("www-authenticate") == "Bearer"
    assert answer.json["code"] == "auth.unauthenticated"
    assert answer.json["instance"] == "/graphql"


@pytest.mark.parametrize("path", ["/graphql", "/noetl/executions"])
async def test_a_forged_token_is_401_everywhere(call: Client, path: str, upstream: Upstream) -> None:
    answer = await call("POST", path, QUERY, token="forged")
    assert answer.status == 401
    assert upstream.seen == []


async def test_each_place_of_the_token_is_looked_at(call: Client, viewer: str) -> None:
    for headers in (
        {"authorization": f"Bearer {viewer}"},
        {"authorization": f"bearer {viewer}"},
        {"x-session-token": viewer},
        {"cookie": f"other=1; session_token={viewer}", "x-requested-with": "fetch"},
    ):
        answer = await call("POST", "/graphql", QUERY, headers=headers)
        assert (answer.status, answer.json) == (200, {"data": {"health": "ok"}})


async def test_the_bearer_token_counts_before_the_others(call: Client, viewer: str) -> None:
    headers = {"authorization": "Bearer forged", "x-session-token": viewer}
    assert (await call("POST", "/graphql", QUERY, headers=headers)).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://gateway.test.evil.example"},
        {"origin": "https://evil.example", "x-requested-with": "fetch"},
        {"referer": "http://gateway.test/"},
    ],
)
async def test_a_cookie_sent_by_a_foreign_page_is_refused(call: Client, viewer: str, headers: dict[str, str]) -> None:
    answer = await call("POST", "/graphql", QUERY, cookie=viewer, headers=headers)
    assert (answer.status, answer.json["code"]) == (403, "auth.forbidden")


@pytest.mark.parametrize("headers", [{"origin": "http://gateway.test"}, {"x-requested-with": "fetch"}])
async def test_a_cookie_sent_by_our_own_page_is_accepted(call: Client, viewer: str, headers: dict[str, str]) -> None:
    assert (await call("POST", "/graphql", QUERY, cookie=viewer, headers=headers)).status == 200


async def test_a_cookie_may_read_from_anywhere(call: Client, viewer: str, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions"] = []
    assert (await call("GET", "/noetl/executions", cookie=viewer)).status == 200


async def test_a_foreign_page_cannot_change_anything_through_the_proxy(
    call: Client, admin: str, upstream: Upstream
) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        headers = {"origin": "https://evil.example"}
        answer = await call(method, "/noetl/credentials/x", cookie=admin, headers=headers)
        assert answer.status == 403
    assert upstream.seen == []
