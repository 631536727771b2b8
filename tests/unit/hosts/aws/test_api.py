from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from tests import serving

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.aws.account import Account, NoCredentials
from noetl_serverless.hosts.aws.api import Api, AwsError
from noetl_serverless.hosts.local.ports import free_port

from .conftest import ENVIRON

THROTTLED = (400, json.dumps({"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow"}).encode())
DENIED = (403, b"<Error><Code>AccessDenied</Code><Message>no &amp; no</Message></Error>")


class Service:
    """Answers with what it was given, in order, the last again and again; None breaks off."""

    def __init__(self, *answers: tuple[int, bytes] | None) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ports: set[int] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
                service.ports.add(self.client_address[1])
                answer = service.answers.pop(0) if len(service.answers) > 1 else service.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            def log_message(self, *args: Any) -> None:
                return None

        self.server = serving.serve(Handler)
        self.api = Api(Account.of({**ENVIRON, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.server_port}"}))


@pytest.fixture
def serve() -> Iterator[Any]:
    made: list[Service] = []

    def make(*answers: tuple[int, bytes] | None) -> Service:
        made.append(Service(*answers))
        return made[-1]

    yield make
    for service in made:
        serving.end(service.server)


async def call(service: Service) -> dict[str, Any]:
    return await service.api.json("sqs", "AmazonSQS.SendMessage", {"QueueUrl": "q"}, "1.0")


async def test_a_call_says_what_it_wants_and_is_signed(serve: Any) -> None:
    service = serve((200, b'{"MessageId": "1"}'))
    assert await call(service) == {"MessageId": "1"}
    (_, headers) = service.requests[0]
    assert headers["x-amz-target"] == "AmazonSQS.SendMessage"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")


@pytest.mark.parametrize("failure", [THROTTLED, (429, b"{}"), (500, b""), (503, b"{}"), None])
async def test_what_may_pass_is_tried_again(serve: Any, failure: Any) -> None:
    service = serve(failure, (200, b"{}"))
    assert await call(service) == {}
    assert len(service.requests) == 2


async def test_after_some_tries_the_error_is_raised(serve: Any) -> None:
    service = serve(THROTTLED)
    with pytest.raises(AwsError) as caught:
        await call(service)
    assert (caught.value.code, caught.value.status) == ("RequestThrottled", 400)
    assert len(service.requests) == 3


async def test_a_refusal_is_raised_at_once(serve: Any) -> None:
    service = serve(DENIED)
    with pytest.raises(AwsError, match="AccessDenied: no"):
        await call(service)
    assert len(service.requests) == 1


async def test_where_nobody_answers_it_is_unavailable() -> None:
    api = Api(Account.of({**ENVIRON, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}), tries=1)
    with pytest.raises(Unavailable, match="sqs does not answer"):
        await api.json("sqs", "AmazonSQS.SendMessage", {})


async def test_connections_are_kept(serve: Any) -> None:
    service = serve((200, b"{}"))
    for _ in range(5):
        await call(service)
    assert len(service.ports) == 1


async def test_a_connection_that_was_closed_while_idle_is_replaced_without_a_pause(serve: Any) -> None:
    service = serve((200, b"{}"), None, (200, b"{}"))
    await call(service)
    assert await call(service) == {}
    assert len(service.ports) == 2


def test_missing_credentials_are_reported_plainly() -> None:
    with pytest.raises(NoCredentials, match="AWS_ACCESS_KEY_ID"):
        Account.of({})


def test_endpoints() -> None:
    plain = Account.of(ENVIRON)
    assert plain.endpoint("sqs") == "https://sqs.eu-west-1.amazonaws.com"
    china = Account.of({**ENVIRON, "AWS_REGION": "cn-north-1"})
    assert china.endpoint("sqs") == "https://sqs.cn-north-1.amazonaws.com.cn"
    given = Account.of({**ENVIRON, "AWS_ENDPOINT_URL": "http://a:1/", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://b:2"})
    assert given.endpoint("sqs") == "http://a:1"
    assert given.endpoint("secretsmanager") == "http://b:2"


def test_credentials_do_not_show() -> None:
    assert "secret" not in repr(Account.of(ENVIRON).credentials)
