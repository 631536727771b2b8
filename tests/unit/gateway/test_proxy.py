from __future__ import annotations

import asyncio
import gzip

import pytest
from aiohttp import web

from noetl_serverless.gateway.app import create_app
from noetl_serverless.gateway.control_plane import ControlPlane
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryKeyValue

from .conftest import SERVICE_TOKEN, Client, SignedIn, Upstream


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_method_passes_with_path_query_and_body(
    call: Client, admin: str, upstream: Upstream, method: str
) -> None:
    upstream.answers[f"{method} /api/credentials/my db"] = {"ok": True}
    body = None if method == "GET" else {"a": 1}
    answer = await call(method, "/noetl/credentials/my db?type=pg&q=a%20b%26c", body, token=admin)
    assert (answer.status, answer.json) == (200, {"ok": True})
    seen = upstream.last
    assert (seen.method, seen.path, seen.query) == (method, "/api/credentials/my%20db", {"type": "pg", "q": "a b&c"})
    assert seen.body == (b"" if body is None else b'{"a": 1}')


async def test_head_and_options_pass_too(call: Client, viewer: str, upstream: Upstream) -> None:
    upstream.answers["HEAD /api/executions"] = {}
    upstream.answers["OPTIONS /api/executions"] = {}
    for method in ("HEAD", "OPTIONS"):
        assert (await call(method, "/noetl/executions", token=viewer)).status == 200
        assert upstream.last.method == method


async def test_the_gateway_authenticates_itself_and_names_the_user(
    call: Client, viewer: str, upstream: Upstream
) -> None:
    upstream.answers["GET /api/executions"] = []
    headers = {
        "x-noetl-user": "root",
        "X-NoETL-Role": "operator",
        "x-forwarded-for": "10.0.0.1",
        "idempotency-key": "k1",
        "cookie": "a=b",
    }
    await call("GET", "/noetl/executions", token=viewer, headers=headers)
    seen = upstream.last.headers
    assert seen["authorization"] == f"Bearer {SERVICE_TOKEN}"
    assert seen["x-noetl-user"] == "viewer@example.org"
    assert seen["idempotency-key"] == "k1"
    assert not {"cookie", "x-noetl-role", "x-forwarded-for", "x-session-token"} & set(seen)
    assert viewer not in str(seen)


async def test_hop_by_hop_headers_stay_behind_on_both_ways(call: Client, viewer: str, upstream: Upstream) -> None:
    async def handler(request: web.Request, body: bytes) -> web.Response:
        headers = {"connection": "x-mine", "x-mine": "1", "keep-alive": "timeout=5", "set-cookie": "a=b", "x-kept": "1"}
        return web.Response(text="{}", headers=headers)

    upstream.handler = handler
    headers = {"connection": "keep-alive, x-secret", "x-secret": "1", "te": "trailers", "proxy-authorization": "x"}
    answer = await call("GET", "/noetl/executions", token=viewer, headers=headers)
    assert not {"x-secret", "te", "proxy-authorization"} & set(upstream.last.headers)
    names = {name for name, _ in answer.headers}
    assert "x-kept" in names
    assert not {"connection", "x-mine", "keep-alive", "set-cookie", "transfer-encoding", "server"} & names


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../metrics",
        "executions/../../metrics",
        "executions/./1",
        "executions//1",
        "/executions",
        "executions/%2e%2e/metrics",
        "executions/..%2fmetrics",
        "executions\\..\\metrics",
        "executions/1\tx",
        "executions?x/1#y",
        "",
    ],
)
async def test_a_path_that_leads_elsewhere_is_refused(call: Client, admin: str, upstream: Upstream, path: str) -> None:
    # as the server hands it on: decoded once; the "?" was encoded, too
    scope_path = f"/noetl/{path}".replace("?", "%3f")
    answer = await call("GET", scope_path, token=admin)
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert upstream.seen == []


async def test_a_path_of_two_lines_is_no_path(call: Client, admin: str, upstream: Upstream) -> None:
    assert (await call("GET", "/noetl/executions/1\r\nx: y", token=admin)).status == 404
    assert upstream.seen == []


@pytest.mark.parametrize("path", ["commands/claim", "commands/report", "internal/x", "auth/x", "commands"])
async def test_what_workers_say_is_not_for_users(call: Client, admin: str, upstream: Upstream, path: str) -> None:
    answer = await call("POST", f"/noetl/{path}", {}, token=admin)
    assert answer.status == 403
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "executions", "viewer"),
        ("GET", "credentials", "viewer"),
        ("POST", "catalog/list", "viewer"),
        ("POST", "catalog/resource", "viewer"),
        ("POST", "catalog/register", "editor"),
        ("POST", "execute", "editor"),
        ("POST", "execute/batch", "editor"),
        ("POST", "executions/1/analyze", "viewer"),
        ("POST", "executions/1/finalize", "editor"),
        ("POST", "executions/cleanup", "editor"),
        ("GET", "docs/swagger-ui.css", "viewer"),
        ("POST", "keychain/1/api", "admin"),
        ("POST", "executions/1/cancel", "editor"),
        ("POST", "schedules", "editor"),
        ("DELETE", "schedules/1", "editor"),
        ("POST", "vars/1", "editor"),
        ("DELETE", "vars/1", "editor"),
        ("DELETE", "vars/1/limit", "editor"),
        ("POST", "credentials", "admin"),
        ("DELETE", "credentials/x", "admin"),
        ("POST", "executed", "admin"),
        ("PUT", "catalog/list", "editor"),
    ],
)
async def test_each_request_needs_its_role(
    call: Client, signed_in: SignedIn, upstream: Upstream, method: str, path: str, role: str
) -> None:
    upstream.answers[f"{method} /api/{path}"] = {}
    upstream.answers[f"OPTIONS /api/{path}"] = [405, {}]
    roles = ["viewer", "editor", "admin"]
    for held in roles:
        answer = await call(method, f"/noetl/{path}", None if method == "GET" else {}, token=await signed_in(held))
        assert answer.status == (200 if roles.index(held) >= roles.index(role) else 403)


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "results/1"), ("POST", "temps/1"), ("DELETE", "executions/1/none")]
)
async def test_what_is_not_there_is_404_whoever_asks(
    call: Client, signed_in: SignedIn, upstream: Upstream, method: str, path: str
) -> None:
    for role in ("viewer", "editor", "admin"):
        answer = await call(method, f"/noetl/{path}", {}, token=await signed_in(role))
        assert (answer.status, answer.json["code"]) == (404, "resource.not_found")
    # it is only asked whether there is such a path: nothing of the request is passed on for who may not send it
    assert [seen.method for seen in upstream.seen if not seen.body] == ["OPTIONS"] * (1 if path[0] == "e" else 2)


@pytest.mark.parametrize("path", ["docs", "docs/swagger-ui.css", "openapi.json"])
async def test_the_page_of_the_api_needs_no_session(call: Client, upstream: Upstream, path: str) -> None:
    upstream.answers[f"GET /api/{path}"] = {}
    sent = {"x-mine": "1", "content-length": "5", "accept-encoding": "gzip"}
    assert (await call("GET", f"/noetl/{path}?a=b", headers=sent)).status == 200
    assert not {"x-noetl-user", "x-mine", "content-length"} & set(upstream.last.headers)
    assert (upstream.last.headers["accept-encoding"], upstream.last.query) == ("gzip", {})
    assert upstream.last.path == f"/api/{path}"
    for method, other in (("POST", path), ("GET", "executions"), ("GET", f"{path}/x"), ("GET", "docs/../executions")):
        assert (await call(method, f"/noetl/{other}")).status == 401
    assert len(upstream.seen) == 1


async def test_a_path_that_there_is_stays_forbidden(call: Client, editor: str, upstream: Upstream) -> None:
    upstream.answers["OPTIONS /api/credentials"] = [405, {}]
    answer = await call("POST", "/noetl/credentials", {}, token=editor)
    assert (answer.status, answer.json["detail"]) == (403, "This requires the role admin")


async def test_a_problem_comes_through_as_it_is(call: Client, editor: str, upstream: Upstream) -> None:
    upstream.answers["POST /api/catalog/register"] = [
        422,
        {"code": "playbook.invalid", "title": "x", "errors": [{"line": 3, "message": "no"}]},
    ]
    answer = await call("POST", "/noetl/catalog/register", {"content": "x"}, token=editor)
    assert answer.status == 422
    assert answer.header(
        "content-type",
    ).startswith("application/problem+json")  # type: ignore[union-attr]
    assert answer.json["errors"] == [{"line": 3, "message": "no"}]


async def test_a_refused_service_token_is_not_the_users_fault(call: Client, viewer: str, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions"] = [401, {"code": "auth.unauthenticated"}]
    answer = await call("GET", "/noetl/executions", token=viewer)
    assert (answer.status, answer.json["code"]) == (502, "control_plane.unavailable")


async def test_a_control_plane_that_is_down_is_502(values: MemoryKeyValue, viewer: str) -> None:
    control_plane = ControlPlane("http://127.0.0.1:1", SERVICE_TOKEN)
    call = Client(create_app(Settings(), keyvalue=values, control_plane=control_plane))
    answer = await call("GET", "/noetl/executions", token=viewer)
    assert (answer.status, answer.json["code"]) == (502, "control_plane.unavailable")
    assert "127.0.0.1" not in answer.body.decode()
    await control_plane.close()


async def test_an_answer_streams_through_piece_by_piece(call: Client, viewer: str, upstream: Upstream) -> None:
    async def handler(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(5):
            await response.write(b"%d" % number * 10)
            await asyncio.sleep(0.02)
        await response.write_eof()
        return response

    upstream.handler = handler
    answer = await call("GET", "/noetl/executions", token=viewer)
    assert answer.body == b"".join(b"%d" % number * 10 for number in range(5))
    assert len([chunk for chunk in answer.chunks if chunk]) > 1


async def test_an_upload_streams_through(call: Client, editor: str, upstream: Upstream) -> None:
    upstream.answers["POST /api/catalog/register"] = {}
    chunks = [b"a" * 70_000, b"b" * 70_000, b"c"]
    answer = await call("POST", "/noetl/catalog/register", chunks=chunks, token=editor)
    assert answer.status == 200
    assert upstream.last.body == b"a" * 70_000 + b"b" * 70_000 + b"c"


async def test_a_packed_answer_stays_packed(call: Client, viewer: str, upstream: Upstream) -> None:
    async def handler(request: web.Request, body: bytes) -> web.Response:
        return web.Response(body=gzip.compress(b'{"a": 1}'), headers={"content-encoding": "gzip"})

    upstream.handler = handler
    answer = await call("GET", "/noetl/executions", token=viewer, headers={"accept-encoding": "gzip"})
    assert answer.header("content-encoding") == "gzip"
    assert gzip.decompress(answer.body) == b'{"a": 1}'


async def test_redirects_are_not_followed(call: Client, viewer: str, upstream: Upstream) -> None:
    async def handler(request: web.Request, body: bytes) -> web.Response:
        return web.Response(status=302, headers={"location": "http://169.254.169.254/"})

    upstream.handler = handler
    answer = await call("GET", "/noetl/executions", token=viewer)
    assert answer.status == 302
    assert len(upstream.seen) == 1


async def test_a_user_id_that_is_no_header_is_encoded(call: Client, values: MemoryKeyValue, upstream: Upstream) -> None:
    from noetl_serverless.gateway.sessions import Sessions, User

    token, _ = await Sessions(values, 60).open(User("auth0|Ünal\r\nx: y", roles=("viewer",)))
    upstream.answers["GET /api/executions"] = []
    await call("GET", "/noetl/executions", token=token)
    assert upstream.last.headers["x-noetl-user"] == "auth0|%C3%9Cnal%0D%0Ax:%20y"
