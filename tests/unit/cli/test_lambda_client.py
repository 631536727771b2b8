"""The command line over direct invocations: boto3 against a stand-in for Lambda's API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.infra.lambda_service import Function, InvokeApi, Throttled
from tests.infra.runtime_api import Invoked

from noetl_serverless.cli import client as module
from noetl_serverless.cli.failure import Failure, Refused
from noetl_serverless.cli.lambda_client import LambdaClient


class Stub(Function):
    def __init__(self, *answers: Any) -> None:
        super().__init__("noetl-control-plane", lambda: None)  # type: ignore[arg-type,return-value]
        self.events: list[Any] = []
        self.answers = list(answers)

    def invoke(self, event: Any, *, timeout: float | None = None) -> Invoked:
        self.events.append(event)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Invoked) else Invoked(answer, False, 0.0)


def answer(status: int, body: Any) -> dict[str, Any]:
    return {"statusCode": status, "headers": {}, "body": json.dumps(body), "isBase64Encoded": False}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(module, "RETRY_FOR_SECONDS", 1.0)
    made: list[InvokeApi] = []

    def make(function: Stub) -> LambdaClient:
        made.append(InvokeApi({function.name: function}))
        return LambdaClient("lambda://noetl-control-plane:live", "token", "eu-west-1", made[-1].url)

    yield make
    for service in made:
        service.stop()


def test_a_request_is_an_event_with_the_token(connect: Any) -> None:
    stub = Stub(answer(200, {"items": [1]}))
    assert connect(stub).get("/api/executions", limit=5) == {"items": [1]}
    (event,) = stub.events
    assert (event["rawPath"], event["rawQueryString"]) == ("/api/executions", "limit=5")
    assert event["requestContext"]["http"]["method"] == "GET"
    assert event["headers"]["authorization"] == "Bearer token"


def test_a_problem_is_a_refusal(connect: Any) -> None:
    with pytest.raises(Refused, match="no such"):
        connect(Stub(answer(404, {"status": 404, "detail": "no such"}))).get("/api/executions/1")


def test_a_reached_cap_is_waited_out(connect: Any) -> None:
    stub = Stub(Throttled("x"), answer(200, {}))
    assert connect(stub).post("/api/catalog/register", {}) == {}
    assert len(stub.events) == 2


def test_a_failed_function_is_a_failure(connect: Any) -> None:
    failed = Invoked({"errorType": "MissingSecret", "errorMessage": "migrate first"}, True, 0.0)
    with pytest.raises(Failure, match="MissingSecret: migrate first"):
        connect(Stub(failed)).get("/livez")


def test_a_function_that_is_not_there_is_a_failure(connect: Any) -> None:
    client = connect(Stub(answer(200, {})))
    client._function = "another"
    with pytest.raises(Failure, match="cannot be invoked"):
        client.get("/livez")
