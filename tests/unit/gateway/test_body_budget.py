"""However large rows are, an answer to GraphQL stays below what a function may answer."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.gateway.body_budget import ListBudget
from noetl_serverless.limits import ANSWER_BYTES, PAGE_BYTES

from .conftest import Client, Upstream
from .test_graphql import entry, event

MIB = 1024 * 1024


def large(seq: int) -> dict[str, Any]:
    return {**event(seq), "payload": {"data": "x" * MIB}}


async def ask(call: Client, token: str, query: str, **variables: Any) -> Any:
    answer = await call("POST", "/graphql", {"query": query, "variables": variables}, token=token)
    assert answer.status == 200
    assert len(answer.body) < ANSWER_BYTES
    return answer.json


async def test_a_page_that_the_control_plane_ended_early_has_a_next(
    call: Client, viewer: str, upstream: Upstream
) -> None:
    upstream.answers["GET /api/executions/7/events"] = [event(1)]
    upstream.headers["link"] = '<?after=1>; rel="next"'
    query = '{ events(executionId: "7", first: 5) { nodes { seq } pageInfo { hasNextPage } } }'
    found = (await ask(call, viewer, query))["data"]["events"]
    assert found == {"nodes": [{"seq": 1}], "pageInfo": {"hasNextPage": True}}


async def test_a_list_ends_where_there_is_no_more_room(call: Client, viewer: str, upstream: Upstream) -> None:
    query = """query ($after: String) { events(executionId: "7", first: 9, after: $after) {
        nodes { seq payload } pageInfo { hasNextPage endCursor } } }"""
    seen: list[int] = []
    after = None
    while True:
        upstream.answers["GET /api/executions/7/events"] = [large(seq) for seq in range(len(seen) + 1, 9)]
        page = (await ask(call, viewer, query, after=after))["data"]["events"]
        seen += [node["seq"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == list(range(1, 9))


async def test_lists_beside_each_other_share_the_room(call: Client, viewer: str, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions/7/events"] = [large(1), large(2)]
    upstream.answers["GET /api/executions"] = [entry(7)] * 20
    query = """{ executions(first: 20) { nodes { id
        events(first: 2) { nodes { seq payload } pageInfo { hasNextPage endCursor } } } } }"""
    found = await ask(call, viewer, query)
    assert "errors" not in found
    nodes = found["data"]["executions"]["nodes"]
    assert len(nodes) == 20
    lists = [node["events"] for node in nodes]
    assert sum(len(page["nodes"]) for page in lists) == 3
    for page in lists:
        if len(page["nodes"]) < 2:
            assert page["pageInfo"]["hasNextPage"]
        if not page["nodes"]:
            assert page["pageInfo"]["endCursor"] is None, "it goes on from its beginning"
    assert len(upstream.seen) < 20, "what has no room is not asked for"


async def test_what_is_asked_for_twice_is_refused_if_it_is_too_large(
    call: Client, viewer: str, upstream: Upstream
) -> None:
    upstream.answers["GET /api/executions/7/events"] = [large(seq) for seq in range(1, 4)]
    query = '{ events(executionId: "7") { nodes { payload } edges { node { payload } } } }'
    found = await ask(call, viewer, query)
    [error] = found["errors"]
    assert (found["data"], error["extensions"]["code"]) == (None, "answer.too_large")


@pytest.mark.parametrize(("sizes", "kept"), [((PAGE_BYTES + 1, 1), 1), ((10, PAGE_BYTES), 1), ((10, 10), 2)])
def test_what_comes_first_has_one_row_at_least(sizes: tuple[int, ...], kept: int) -> None:
    room = ListBudget()
    assert len(room.take([{"x": "y" * size} for size in sizes])) == kept
