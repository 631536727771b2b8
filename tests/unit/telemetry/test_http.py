from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from noetl_serverless.errors import Conflict, Fault, InvalidPlaybook, Unauthenticated, Unavailable
from noetl_serverless.telemetry import http
from noetl_serverless.telemetry.probes import probe_routes


class Item(BaseModel):
    name: str
    tags: dict[str, list[int]] = {}


ERRORS: dict[str, Exception] = {
    "conflict": Conflict("changed", head=7),
    "playbook": InvalidPlaybook(
        "two faults", faults=[Fault("no such step", pointer="/workflow/0/next", line=3, column=5)]
    ),
    "token": Unauthenticated("no"),
    "busy": Unavailable("later"),
    "bug": RuntimeError("the secret thing is 42"),
}


async def fail(request: Request) -> Response:
    raise ERRORS[request.path_params["name"]]


async def validate(request: Request) -> Response:
    Item.model_validate_json(await request.body())
    return PlainTextResponse("ok")


async def break_off(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("gone")

    return StreamingResponse(chunks())


async def damaged(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        raise Conflict("7/a.json is damaged")

    return StreamingResponse(chunks())


async def broken() -> None:
    raise RuntimeError("password=pa55")


async def fine() -> None:
    return None


def app(**checks: Any) -> Starlette:
    return Starlette(
        routes=[
            Route("/fail/{name}", fail),
            Route("/validate", validate, methods=["POST"]),
            Route("/break-off", break_off),
            Route("/damaged", damaged),
            *probe_routes(checks or {"fine": fine}),
        ],
        middleware=http.middleware(),
        exception_handlers=http.EXCEPTION_HANDLERS,
    )


class Answer:
    def __init__(self, messages: list[Message]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(app: Starlette, path: str, method: str = "GET", body: bytes = b"") -> Answer:
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        # from 2.4 on nobody listens for a client that goes away
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": method,
        "path": path,
        "headers": [],
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("test", 80),
    }
    await app(scope, receive, send)
    return Answer(messages)


async def test_a_problem_is_answered_as_one() -> None:
    answer = await call(app(), "/fail/conflict")
    assert answer.status == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json == {
        "type": "urn:noetl:problem:resource.conflict",
        "title": "It conflicts with the current state",
        "status": 409,
        "detail": "changed",
        "code": "resource.conflict",
        "head": 7,
        "instance": "/fail/conflict",
    }


async def test_faults_keep_their_places() -> None:
    answer = await call(app(), "/fail/playbook")
    assert answer.json["errors"] == [
        {"code": "request.invalid", "message": "no such step", "pointer": "/workflow/0/next", "line": 3, "column": 5}
    ]


async def test_401_and_503_say_what_to_do() -> None:
    assert (await call(app(), "/fail/token")).headers["www-authenticate"] == "Bearer"
    assert (await call(app(), "/fail/busy")).headers["retry-after"] == "1"


async def test_a_model_that_does_not_fit_is_an_invalid_request_with_pointers() -> None:
    answer = await call(app(), "/validate", "POST", b'{"tags": {"a/b~c": [1, "my-password"]}}')
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["/name", "/tags/a~1b~0c/1"]
    assert b"my-password" not in answer.body


async def test_anything_else_is_a_bare_500_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await call(app(), "/fail/bug")
    assert (answer.status, answer.json["code"]) == (500, "server.internal")
    assert b"42" not in answer.body
    assert "the secret thing is 42" in caplog.text


async def test_the_routers_own_errors_are_problems_too() -> None:
    answer = await call(app(), "/nowhere")
    assert (answer.status, answer.json["code"]) == (404, "resource.not_found")
    answer = await call(app(), "/validate")
    assert (answer.status, answer.json["code"]) == (405, "request.method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_answer_under_way_breaks_off(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError), caplog.at_level(logging.ERROR):
        await call(app(), "/break-off")
    assert "broke off" in caplog.text


async def test_what_cannot_be_given_to_its_end_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await call(app(), "/damaged")
    assert answer.body == b"half"
    (line,) = caplog.records
    assert line.message == "GET /damaged broke off: resource.conflict: 7/a.json is damaged"
    assert line.exc_info is None


async def test_requests_are_counted_by_route_method_and_status() -> None:
    counted = 'noetl_http_request_seconds_count{method="GET",route="/fail/{name}",status="409"} '

    async def count() -> float:
        lines = (await call(app(), "/metrics")).body.decode().splitlines()
        return next((float(line.removeprefix(counted)) for line in lines if line.startswith(counted)), 0.0)

    before = await count()
    await call(app(), "/fail/conflict")
    assert await count() == before + 1
    text = (await call(app(), "/metrics")).body.decode()
    assert "noetl_http_request_seconds_bucket" in text
    assert 'route="/metrics"' not in text


async def test_requests_are_logged_at_the_level_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "noetl_serverless.telemetry.http"):
        await call(app(), "/fail/conflict")
        await call(app(), "/livez")
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == "GET /fail/conflict 409"


async def test_alive_is_not_ready() -> None:
    answer = await call(app(fine=fine, broken=broken), "/livez")
    assert answer.status == 200
    answer = await call(app(fine=fine, broken=broken), "/readyz")
    assert (answer.status, answer.json) == (
        503,
        {"status": "unavailable", "checks": {"fine": "ok", "broken": "RuntimeError"}},
    )
    assert (await call(app(fine=fine), "/readyz")).status == 200


async def test_a_check_that_hangs_is_not_waited_for() -> None:
    import asyncio

    async def hang() -> None:
        await asyncio.Event().wait()

    slow = Starlette(routes=probe_routes({"hang": hang}, timeout=0.01))
    answer = await call(slow, "/readyz")
    assert (answer.status, answer.json["checks"]) == (503, {"hang": "timeout"})
