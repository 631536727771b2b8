from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from noetl_serverless.gateway.at_once import MAX_AT_ONCE
from noetl_serverless.limits import EVENT_BYTES

from .conftest import SERVICE_TOKEN, Client, Upstream

SIGNED = {"webhook-id": "m1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
RECEIVED = {"event_id": "m1", "status": "started", "execution_id": "7", "duplicate": False}


async def test_a_webhook_passes_as_it_came_without_a_session(call: Client, upstream: Upstream) -> None:
    upstream.answers["POST /api/hooks/shop/on_order/paid"] = RECEIVED
    body = b'{"total":  20}\n'
    headers = {
        **SIGNED,
        "content-type": "text/plain",
        "authorization": "Bearer x",
        "x-noetl-user": "root",
        "cookie": "a=b",
    }
    answer = await call("POST", "/hooks/shop/on_order/paid", body, headers=headers)
    assert (answer.status, answer.json) == (200, RECEIVED)
    seen = upstream.last
    assert (seen.path, seen.body) == ("/api/hooks/shop/on_order/paid", body)
    assert seen.headers["authorization"] == f"Bearer {SERVICE_TOKEN}"
    assert seen.headers["content-type"] == "text/plain"
    assert {name: seen.headers[name] for name in SIGNED} == SIGNED
    assert not {"x-noetl-user", "cookie"} & seen.headers.keys()


async def test_without_a_signature_the_control_plane_is_not_called(call: Client, upstream: Upstream) -> None:
    answer = await call("POST", "/hooks/a/b", {"total": 20})
    assert (answer.status, answer.json["code"]) == (401, "webhook.refused")
    assert answer.json["title"] == "The webhook is refused"
    assert "webhook-signature, x-hub-signature-256, stripe-signature" in answer.json["detail"]
    assert upstream.seen == []


@pytest.mark.parametrize("path", ["/hooks/", "/hooks/a//b", "/hooks/a/../b", "/hooks/" + "a" * 800])
async def test_a_path_that_is_none_is_not_found(call: Client, upstream: Upstream, path: str) -> None:
    assert (await call("POST", path, {}, headers=SIGNED)).status == 404
    assert upstream.seen == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_body_is_refused_while_it_comes(call: Client, upstream: Upstream, announced: bool) -> None:
    large = b"x" * (EVENT_BYTES + 1)
    sent: dict[str, Any] = {"body": large} if announced else {"chunks": [large, b"never read"]}
    answer = await call("POST", "/hooks/a/b", headers=SIGNED, **sent)
    assert (answer.status, answer.json["code"]) == (413, "request.too_large")
    assert upstream.seen == []


async def test_large_headers_are_refused(call: Client, upstream: Upstream) -> None:
    assert (await call("POST", "/hooks/a/b", {}, headers={**SIGNED, "x": "y" * 40_000})).status == 400
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("refused", "code", "status"),
    [(401, "webhook.refused", 401), (401, "auth.unauthenticated", 502), (409, "resource.conflict", 409)],
)
async def test_a_refusal_is_the_webhooks_or_this_gateways(
    call: Client, upstream: Upstream, refused: int, code: str, status: int
) -> None:
    upstream.answers["POST /api/hooks/a/b"] = [refused, {"code": code}]
    assert (await call("POST", "/hooks/a/b", {}, headers=SIGNED)).status == status


async def test_a_problem_is_about_the_path_that_the_sender_knows(call: Client, upstream: Upstream) -> None:
    problem = {"status": 401, "code": "webhook.refused", "detail": "no", "instance": "/api/hooks/a/b"}
    upstream.answers["POST /api/hooks/a/b"] = [401, problem]
    answer = await call("POST", "/hooks/a/b", {}, headers=SIGNED)
    assert (answer.status, answer.json) == (401, {**problem, "instance": "/hooks/a/b"})


async def test_a_flood_is_turned_away(call: Client, upstream: Upstream) -> None:
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def handler(request: web.Request, body: bytes) -> web.Response:
        arrived.release()
        await go_on.wait()
        return web.json_response(RECEIVED, status=202)

    upstream.handler = handler
    held = [asyncio.create_task(call("POST", "/hooks/a/b", {}, headers=SIGNED)) for _ in range(MAX_AT_ONCE)]
    for _ in held:
        await arrived.acquire()
    refused = await call("POST", "/hooks/a/b", {}, headers=SIGNED)
    assert (refused.status, refused.header("retry-after")) == (503, "1")
    go_on.set()
    assert {answer.status for answer in await asyncio.gather(*held)} == {202}
    assert (await call("POST", "/hooks/a/b", {}, headers=SIGNED)).status == 202


async def test_who_never_sends_the_body_takes_no_place_and_is_refused_in_time(
    call: Client, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.answers["POST /api/hooks/a/b"] = RECEIVED
    slow = [asyncio.create_task(call("POST", "/hooks/a/b", b"", headers=SIGNED, is_whole=False)) for _ in range(40)]
    await asyncio.sleep(0)
    assert (await call("POST", "/hooks/a/b", {}, headers=SIGNED)).status == 200
    for task in slow:
        task.cancel()
    monkeypatch.setattr("noetl_serverless.gateway.body.BODY_SECONDS", 0.01)
    refused = await call("POST", "/hooks/a/b", b"", headers=SIGNED, is_whole=False)
    assert (refused.status, refused.json["code"]) == (408, "request.too_slow")


async def test_users_cannot_send_webhooks_around_it(call: Client, admin: str) -> None:
    assert (await call("POST", "/noetl/hooks/a/b", {}, token=admin)).status == 403
