"""The clients of the control plane over a direct invocation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.infra.lambda_service import Function, InvokeApi, Throttled
from tests.infra.runtime_api import Invoked

from noetl_serverless.errors import NotFound, Unavailable
from noetl_serverless.gateway.control_plane import BadGateway, RelayedProblem
from noetl_serverless.gateway.control_plane import ControlPlane as GatewaysControlPlane
from noetl_serverless.hosts.aws.account import Account
from noetl_serverless.hosts.aws.api import Api
from noetl_serverless.hosts.aws.session import LambdaSession
from noetl_serverless.worker.client import ControlPlane

from .conftest import ENVIRON

URL = "lambda://noetl-control-plane:live"
PROBLEM = {
    "type": "urn:noetl:problem:resource.not_found",
    "title": "Not found",
    "status": 404,
    "detail": "no",
    "code": "resource.not_found",
}


class Stub(Function):
    """A function of which one says what it answers; it keeps the events."""

    def __init__(self) -> None:
        super().__init__("noetl-control-plane", lambda: None)  # type: ignore[arg-type,return-value]
        self.events: list[Any] = []
        self.answers: list[Any] = []

    def invoke(self, event: Any, *, timeout: float | None = None) -> Invoked:
        self.events.append(event)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Invoked) else Invoked(answer, False, 0.0)


def answer(status: int, body: Any, content_type: str = "application/json") -> dict[str, Any]:
    headers = {"content-type": content_type}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body), "isBase64Encoded": False}


@pytest.fixture
def function() -> Iterator[Stub]:
    return Stub()  # type: ignore[return-value]


@pytest.fixture
def session(function: Stub) -> Iterator[LambdaSession]:
    service = InvokeApi({function.name: function})
    yield LambdaSession(Api(Account.of({**ENVIRON, "AWS_ENDPOINT_URL": service.url})), URL)
    service.stop()


def worker_client(session: LambdaSession) -> ControlPlane:
    return ControlPlane("http://control-plane", "token", connect=lambda: session)  # type: ignore[arg-type,return-value]


def gateway_client(session: LambdaSession) -> GatewaysControlPlane:
    return GatewaysControlPlane("http://control-plane", "token", connect=lambda: session)  # type: ignore[arg-type,return-value]


async def test_a_request_arrives_as_from_an_http_api(function: Stub, session: LambdaSession) -> None:
    function.answers = [answer(200, {"name": "a/b", "type": "t", "data": {"k": 1}})]
    credential = await worker_client(session).credential("a/b")
    assert credential.data == {"k": 1}
    (event,) = function.events
    assert event["version"] == "2.0"
    assert event["requestContext"]["http"]["path"] == "/api/credentials/a/b"
    assert event["rawQueryString"] == "include_data=true"
    assert event["headers"]["authorization"] == "Bearer token"


@pytest.mark.parametrize(
    "lost",
    [
        Throttled("busy"),
        Invoked({"errorType": "Sandbox.Timedout"}, True, 0.0),
        answer(503, {}),
    ],
)
async def test_a_worker_asks_again_when_no_answer_came(function: Stub, session: LambdaSession, lost: Any) -> None:
    function.answers = [lost, answer(200, {"status": "ok"})]
    await worker_client(session)._send("GET", "/livez", None, 5.0)
    assert len(function.events) == 2


async def test_a_workers_mistake_is_the_control_planes_problem(function: Stub, session: LambdaSession) -> None:
    function.answers = [answer(404, PROBLEM, "application/problem+json")]
    with pytest.raises(NotFound, match="no"):
        await worker_client(session).credential("x")


async def test_without_the_function_it_is_unavailable(session: LambdaSession, function: Stub) -> None:
    function.answers = [Invoked({}, True, 0.0)]
    with pytest.raises(Unavailable):
        await worker_client(session)._send("GET", "/livez", None, 0.2)


async def test_the_gateway_relays_problems(function: Stub, session: LambdaSession) -> None:
    function.answers = [answer(404, PROBLEM, "application/problem+json")]
    with pytest.raises(RelayedProblem) as caught:
        await gateway_client(session).get("/api/executions/1", {"a": "1 2"})
    assert caught.value.code == "resource.not_found"
    assert function.events[0]["rawQueryString"] == "a=1+2"


async def test_a_gateway_whose_control_plane_fails_says_so(function: Stub, session: LambdaSession) -> None:
    function.answers = [Invoked({"errorType": "MissingSecret"}, True, 0.0)]
    with pytest.raises(BadGateway):
        await gateway_client(session).get("/api/executions")


async def test_a_body_passes_through_in_both_directions(function: Stub, session: LambdaSession) -> None:
    function.answers = [
        {"statusCode": 200, "headers": {"content-type": "x/y"}, "body": "/w==", "isBase64Encoded": True}
    ]

    async def stream() -> Any:
        yield b"\xfe"
        yield b"\xff"

    response = await gateway_client(session).forward("POST", "/api/x", headers=[("X-A", "1")], body=stream(), user="")
    assert (response.status, [chunk async for chunk in response.content.iter_any()]) == (200, [b"\xff"])
    assert (function.events[0]["body"], function.events[0]["isBase64Encoded"]) == ("/v8=", True)


async def test_the_alias_is_a_part_of_the_name_as_it_is_of_the_resource_in_a_policy(
    session: LambdaSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    async def request(*words: Any, **options: Any) -> Any:
        calls.append((*words, options.get("query")))
        raise Unavailable("that is all")

    monkeypatch.setattr(session._api, "request", request)
    with pytest.raises(Unavailable):
        await worker_client(session)._send("GET", "/livez", None, 0.0)
    assert {(words[3], words[4]) for words in calls} == {
        ("/2015-03-31/functions/noetl-control-plane:live/invocations", None)
    }
