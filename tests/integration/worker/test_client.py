from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from tests.eventually import eventually
from tests.serving import serving_app

from noetl_serverless.errors import Forbidden, NotFound, Unavailable
from noetl_serverless.protocol import (
    WIRE,
    ClaimRequest,
    HeartbeatRequest,
    HeartbeatResponse,
    Outcome,
    ReportRequest,
)
from noetl_serverless.worker.client import ControlPlane

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Server:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None]] = []
        self.answers: list[Any] = []
        self.bodies: list[Any] = []

    async def handle(self, request: web.Request) -> web.Response:
        if body := await request.read():
            self.bodies.append(json.loads(body))
        self.seen.append((request.method, request.raw_path, request.headers.get("Authorization")))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "break":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        status, body, *headers = answer
        if isinstance(body, str):
            return web.Response(text=body, status=status)
        return web.json_response(body, status=status, headers=headers[0] if headers else None)


@asynccontextmanager
async def client_of(handle: Handler, **options: Any) -> AsyncIterator[ControlPlane]:
    """A client of a control plane that answers every request by `handle`."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    async with serving_app(app) as url:
        client = ControlPlane(url, "t0ken", **options)
        yield client
        await client.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, ControlPlane]]:
    server = Server()
    async with client_of(server.handle) as client:
        yield server, client


HEARTBEAT = HeartbeatRequest(worker_id="w", commands=[])


async def test_a_credential_is_asked_for_once(server: Any) -> None:
    plane, client = server
    plane.answers = [(200, {"name": "a/b", "type": "postgres", "data": {"password": "x"}, "tags": []})]
    credential = await client.credential("a/b")
    assert (credential.name, credential.type, credential.data) == ("a/b", "postgres", {"password": "x"})
    await client.credential("a/b")
    assert plane.seen == [("GET", "/api/credentials/a%2Fb?include_data=true", "Bearer t0ken")]


async def test_a_credential_that_is_not_there_is_asked_for_again(server: Any) -> None:
    plane, client = server
    plane.answers = [(404, {"detail": "no credential 'x'"})]
    for _ in range(2):
        with pytest.raises(NotFound, match="no credential 'x'"):
            await client.credential("x")
    assert len(plane.seen) == 2


async def test_a_manifest_is_asked_for_by_its_loop(server: Any) -> None:
    plane, client = server
    plane.answers = [(200, {"parts": [], "next": 7}), (200, {"parts": []})]
    assert await client.manifest("42", "each row", 2, 0) == {"parts": [], "next": 7}
    assert await client.manifest("42", "each row", 2, 7) == {"parts": []}
    paths = ["/api/results/manifest/42/each%20row/2", "/api/results/manifest/42/each%20row/2?after=7"]
    assert [path for _, path, _ in plane.seen] == paths


async def test_refusals_are_not_tried_again(server: Any) -> None:
    plane, client = server
    plane.answers = [(403, {"detail": "a worker may not"})]
    with pytest.raises(Forbidden, match="a worker may not"):
        await client.heartbeat(HEARTBEAT, timeout=5)
    assert len(plane.seen) == 1


@pytest.mark.parametrize("body", ["<h1>Not here</h1>", "[]"])
async def test_a_refusal_that_is_no_problem_document_is_reported_by_its_status(server: Any, body: str) -> None:
    plane, client = server
    plane.answers = [(404, body)]
    with pytest.raises(NotFound, match=r"^the control plane answered 404$"):
        await client.heartbeat(HEARTBEAT, timeout=5)


async def test_a_broken_connection_is_tried_again(server: Any) -> None:
    plane, client = server
    plane.answers = ["break", (503, {}), (200, {"lost": []})]
    assert (await client.heartbeat(HEARTBEAT, timeout=5)).lost == []
    assert len(plane.seen) == 3


async def test_after_the_deadline_it_gives_up_and_says_that_it_may_have_been_done(server: Any) -> None:
    plane, client = server
    plane.answers = ["break"]
    with pytest.raises(Unavailable) as caught:
        await client.heartbeat(HEARTBEAT, timeout=0.3)
    assert caught.value.extra["doubtful"] is True
    assert len(plane.seen) >= 2


async def test_what_never_got_there_is_not_doubtful() -> None:
    client = ControlPlane("http://127.0.0.1:9", "t")
    with pytest.raises(Unavailable) as caught:
        await client.heartbeat(HEARTBEAT, timeout=0.2)
    assert caught.value.extra["doubtful"] is False
    await client.close()


async def test_the_protocol_version_of_the_control_plane_is_that_of_its_last_answer(server: Any) -> None:
    plane, client = server
    assert not client.supports(2)
    answers: list[tuple[tuple[Any, ...], bool]] = [
        ((200, {"lost": []}, {WIRE: "2"}), True),
        ((200, {"lost": []}), False),
        ((200, {"lost": []}, {WIRE: "3"}), True),
        ((200, {"lost": []}, {WIRE: "odd"}), False),
    ]
    for answer, speaks in answers:
        plane.answers = [answer]
        await client.heartbeat(HEARTBEAT, timeout=5.0)
        assert client.supports(2) is speaks


async def test_any_other_operation_sends_what_it_is_given(server: Any) -> None:
    plane, client = server
    plane.answers = [(200, {"lost": []})]
    answer = await client.call("POST", "/api/any", HeartbeatResponse, HEARTBEAT)
    assert answer.lost == []
    assert plane.bodies == [HEARTBEAT.model_dump(mode="json")]
    await client.call("GET", "/api/any", HeartbeatResponse)
    assert [method for method, *_ in plane.seen] == ["POST", "GET"]


CLAIM = ClaimRequest(worker_id="w", pool="shared", limit=1)
REPORT = ReportRequest(
    worker_id="w",
    pool="shared",
    outcomes=[Outcome(execution_id="7", command_id="a", fence=1, status="done")],
)


@pytest.mark.parametrize(("lost", "doubtful"), [([], False), (["break"], True), ([(503, {})], True)])
async def test_an_answer_tells_whether_an_earlier_try_may_have_been_done(
    server: Any, lost: list[Any], doubtful: bool
) -> None:
    plane, client = server
    plane.answers = [*lost, (200, {"commands": []})]
    assert (await client.claim(CLAIM, timeout=5)).doubtful is doubtful


@pytest.mark.parametrize("answer", ["break", (503, {})])
async def test_a_report_reaches_the_control_plane_three_times_and_no_more(server: Any, answer: Any) -> None:
    plane, client = server
    plane.answers = [answer]
    with pytest.raises(Unavailable):
        await client.report(REPORT, timeout=5)
    assert len(plane.seen) == 3, "it may itself be what the control plane fails at"


async def test_the_pauses_between_tries_grow(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plane, client = server
    plane.answers = [*[(503, {})] * 8, (200, {"lost": []})]
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    await client.heartbeat(HEARTBEAT, timeout=60)
    assert [pause for pause in pauses if pause] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_no_more_connections_are_open_than_it_may_have() -> None:
    arrived = 0
    gate = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        await gate.wait()
        return web.json_response({"lost": []})

    async with client_of(handle, connections=2) as client:
        calls = [asyncio.create_task(client.heartbeat(HEARTBEAT, timeout=30)) for _ in range(6)]
        await eventually(lambda: arrived >= 2)
        await asyncio.sleep(0.1)
        assert arrived == 2
        gate.set()
        await asyncio.gather(*calls)
        assert arrived == 6


async def test_it_is_ready_while_the_control_plane_is_alive(server: Any) -> None:
    plane, client = server
    plane.answers = [(200, {})]
    await client.check()
    assert [path for _, path, _ in plane.seen] == ["/livez"]
    plane.answers = [(503, {})]
    with pytest.raises(Unavailable):
        await client.check()


async def test_no_credential_outlives_its_connections(server: Any) -> None:
    plane, client = server
    plane.answers = [(200, {"name": "a", "type": "postgres", "data": {"password": "x"}, "tags": []})]
    for _ in range(2):
        await client.credential("a")
        await client.close()
    assert len(plane.seen) == 2


async def test_a_call_without_time_left_ends_all_the_same() -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with client_of(hang) as client:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(client.heartbeat(HEARTBEAT, timeout=0.0), 10)
