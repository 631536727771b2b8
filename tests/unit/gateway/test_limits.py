from __future__ import annotations

from typing import Any

import pytest
from graphql import parse, validate

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.gateway.limits import check_limits
from noetl_serverless.gateway.schema import schema

from .conftest import Client


def check(query: str, operation: str | None = None, **variables: Any) -> None:
    document = parse(query)
    assert validate(schema(), document) == []
    check_limits(document, variables, operation)


@pytest.mark.parametrize(
    "query",
    [
        "{ health }",
        "{ executions(first: 100) { edges { cursor node { id path status } } pageInfo { endCursor } } }",
        "{ executions(first: 10) { nodes { id events(first: 10) { nodes { seq payload } } } } }",
        '{ a: execution(id: "1") { status } b: execution(id: "2") { status } }',
    ],
)
def test_what_people_ask_for_passes(query: str) -> None:
    check(query)


def test_pages_inside_of_pages_multiply() -> None:
    query = "{ executions(first: %d) { nodes { events(first: %d) { nodes { seq } } } } }"
    check(query % (5, 100))
    with pytest.raises(InvalidRequest, match="costs"):
        check(query % (100, 100))


def test_a_page_in_a_variable_counts_as_what_it_is() -> None:
    query = "query ($n: Int) { executions(first: $n) { nodes { events(first: $n) { nodes { seq } } } } }"
    check(query, n=10)
    with pytest.raises(InvalidRequest):
        check(query, n=100)
    with pytest.raises(InvalidRequest):
        check(query)


def test_many_aliases_cost_as_many_calls() -> None:
    def aliases(count: int) -> str:
        return "{ " + " ".join(f'a{n}: execution(id: "{n}") {{ id }}' for n in range(count)) + " }"

    check(aliases(50))
    with pytest.raises(InvalidRequest):
        check(aliases(500))


def test_fragments_that_multiply_are_counted_in_full_but_weighed_once() -> None:
    fragments = " ".join(
        f"fragment f{n} on Query {{ a{n}: health ...f{n + 1} b{n}: version ...f{n + 1} }}" for n in range(60)
    )
    query = "{ ...f0 } " + fragments + " fragment f60 on Query { health }"
    with pytest.raises(InvalidRequest):
        check_limits(parse(query), {})


def test_nesting_is_bounded_through_fragments_too() -> None:
    deep = "{ a: health }"
    document = parse("query { " + "x { " * 11 + "y" + " }" * 11 + " }")
    check_limits(parse(deep), {})
    with pytest.raises(InvalidRequest, match="nested"):
        check_limits(document, {})
    spread = parse("query { " + "x { " * 6 + "...f" + " }" * 6 + " } fragment f on X { " + "x { " * 6 + "y" + " }" * 7)
    with pytest.raises(InvalidRequest, match="nested"):
        check_limits(spread, {})


def test_only_the_operation_that_runs_counts() -> None:
    query = """query Small { health }
        query Large { executions(first: 100) { nodes { events(first: 100) { nodes { seq } } } } }"""
    check(query, "Small")
    with pytest.raises(InvalidRequest):
        check(query, "Large")
    with pytest.raises(InvalidRequest):
        check(query)


@pytest.mark.parametrize(
    "query",
    [
        "{ " + "health " * 3000 + "}",
        "{ health } #" + "x" * 40_000,
        "{ " + "a { " * 900 + "b" + " }" * 900 + " }",
        "{ __schema { types " + "{ fields { type " * 20 + "{ name }" + " } }" * 20 + " } }",
        "{ executions(first: 100) { nodes { events(first: 100) { nodes { seq } } } } }",
    ],
)
async def test_too_much_is_400(call: Client, viewer: str, query: str) -> None:
    answer = await call("POST", "/graphql", {"query": query}, token=viewer)
    assert answer.status == 400, answer.body[:300]
    assert answer.json["errors"][0]["extensions"]["code"] == "query.invalid"
