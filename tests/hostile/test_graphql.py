"""GraphQL documents and proxied paths of a signed-in user who means harm: an answer, and nothing asked beyond /api/."""

from __future__ import annotations

from importlib.resources import files
from typing import Any
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st
from hypothesis_graphql import from_schema, nodes
from tests.unit.gateway.conftest import Client, Upstream

from .conftest import FUZZ
from .test_injection import ODD

SCHEMA = files("noetl_serverless.gateway").joinpath("schema.graphql").read_text()
ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=8), st.sampled_from(ODD)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)
DOCUMENTS = from_schema(SCHEMA, custom_scalars={"JSON": st.one_of(st.text(max_size=5).map(nodes.String))})
PIECES = st.sampled_from(
    [
        *(
            "{",
            "}",
            "(",
            ")",
            ":",
            "...",
            "on Query",
            "fragment f on Query",
            "query",
            "mutation",
            "$x: Int",
            "@skip(if: true)",
        ),
        *(
            "health",
            "executions",
            "nodes",
            "execution",
            "__schema",
            "__typename",
            "first: 99999999999",
            'id: "1"',
            "null",
        ),
    ]
)


def pages(mutation: bool) -> Any:
    """What the control plane would say."""
    found = {"execution_id": "1", "status": "started", "path": "x", "entries": []}
    return found if mutation else []


def harmless(upstream: Upstream) -> None:
    for seen in upstream.seen:
        path = unquote(seen.path)
        assert path.startswith("/api/") and "/../" not in path and "//" not in path, path
        assert not path.startswith(("/api/commands", "/api/internal", "/api/auth")), path
    upstream.seen.clear()


async def ask(call: Client, token: str, upstream: Upstream, body: dict[str, Any]) -> None:
    upstream.answers |= {
        "GET /api/executions": [],
        "POST /api/execute": pages(True),
        "POST /api/catalog/list": pages(True),
    }
    answer = await call("POST", "/graphql", body, token=token)
    assert answer.status in (200, 400), answer.body
    for error in answer.json.get("errors", ()) if isinstance(answer.json.get("errors"), list) else ():
        assert error.get("extensions", {}).get("code") != "server.internal", (body, error)
    harmless(upstream)


@FUZZ
@given(document=DOCUMENTS)
async def test_any_valid_document_is_answered(call: Client, editor: str, upstream: Upstream, document: str) -> None:
    await ask(call, editor, upstream, {"query": document})


@FUZZ
@given(
    query=st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map(" ".join)),
    variables=st.one_of(st.none(), st.dictionaries(st.text(max_size=4), ANY_JSON, max_size=3)),
    name=st.one_of(st.none(), st.text(max_size=5)),
)
async def test_any_text_is_answered(
    call: Client, editor: str, upstream: Upstream, query: str, variables: Any, name: str | None
) -> None:
    await ask(call, editor, upstream, {"query": query, "variables": variables, "operationName": name})


async def test_numbers_and_texts_without_end_are_refused_not_fatal(
    call: Client, editor: str, upstream: Upstream
) -> None:
    digits = "9" * 6000
    cycle = "".join(f" fragment f{n} on Query {{ ...f{(n + 1) % 5} }}" for n in range(5))
    start = 'mutation { executePlaybook(name: "x", variables: '
    for query in (
        f"{{ executions(first: {digits}) {{ nodes {{ id }} }} }}",
        f"{{ executions(first: {digits}, path: {digits}) {{ nodes {{ id }} }} }}",
        start + f"{{n: {digits}}}) {{ id }} }}",
        start + f"{{n: {digits}.0e{digits[:9]}}}) {{ id }} }}",
        start + "[" * 500 + "]" * 500 + ") { id } }",
        "{ ...f0 }" + cycle,
        "query ($x: [[[[[[[[Int]]]]]]]]) { health }",
    ):
        await ask(call, editor, upstream, {"query": query})


async def test_no_argument_leads_elsewhere(call: Client, editor: str, upstream: Upstream) -> None:
    query = "query ($odd: String!) { executions(path: $odd) { nodes { id } } catalog(path: $odd) { nodes { path } } }"
    for odd in ODD:
        await ask(call, editor, upstream, {"query": query, "variables": {"odd": odd}})
        for field in (
            "execution(id: $odd) { id }",
            "executions(after: $odd) { nodes { id } }",
            "events(executionId: $odd) { nodes { seq } }",
        ):
            for kind in ("ID!", "String!"):
                query = f"query ($odd: {kind}) {{ {field} }}"
                await ask(call, editor, upstream, {"query": query, "variables": {"odd": odd}})
        for method in ("GET", "POST", odd):
            body = {"query": PROXY, "variables": {"input": {"endpoint": odd, "method": method}}}
            await ask(call, editor, upstream, body)


PROXY = "mutation ($input: ProxyRequestInput!) { proxyRequest(input: $input) { success error } }"


@FUZZ
@given(
    path=st.one_of(
        st.text(max_size=20),
        st.lists(
            st.sampled_from(["..", ".", "", "executions", "commands", "%2e%2e", "%2f", "\\", "//", "1", "?", "#", ";"]),
            max_size=5,
        ).map("/".join),
    )
)
async def test_no_path_through_the_proxy_leads_elsewhere(
    call: Client, editor: str, upstream: Upstream, path: str
) -> None:
    if "\n" in path or "?" in path:
        path = path.replace("\n", "%0a").replace("?", "%3f")
    answer = await call("GET", f"/noetl/{path}", token=editor)
    assert answer.status in (200, 400, 403, 404, 405), (path, answer.body)
    harmless(upstream)
