from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from tests import serving

from noetl_serverless.cli import client as module
from noetl_serverless.cli.client import Client
from noetl_serverless.cli.failure import Failure, Refused
from noetl_serverless.hosts.local.ports import free_port

Answer = tuple[int, Any]


class Server:
    """Answers requests with what it was given, in order; the last answer again and again. None breaks off."""

    def __init__(self, answers: list[Answer | None]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                server.requests.append((self.command, self.path, dict(self.headers), body))
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                status, content = answer
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, format: str, *args: object) -> None:
                return None

        self.http = serving.serve(Handler)

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.http.server_address[1]}", "token")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers = []

    def start(*answers: Answer | None) -> Server:
        servers.append(Server(list(answers)))
        return servers[-1]

    yield start
    for server in servers:
        serving.end(server.http)


def test_it_shows_its_token(serve: Callable[..., Server]) -> None:
    server = serve((200, {"status": "RUNNING"}))
    server.client.execution("12")
    method, path, headers, _ = server.requests[0]
    assert (method, path, headers["Authorization"]) == ("GET", "/api/executions/12", "Bearer token")


def test_a_problem_is_passed_on(serve: Callable[..., Server]) -> None:
    problem = {"title": "Not found", "detail": "there is no execution 1", "code": "resource.not_found"}
    with pytest.raises(Refused, match="there is no execution 1") as caught:
        serve((404, problem)).client.execution("1")
    assert caught.value.problem == problem
    assert caught.value.status == 2


@pytest.mark.parametrize(("answer", "status"), [(400, 2), (404, 2), (409, 2), (500, 1), (501, 1)])
def test_what_the_caller_can_mend_is_wrong_use_and_the_rest_a_failure(
    serve: Callable[..., Server], answer: int, status: int
) -> None:
    with pytest.raises(Refused, match="no") as caught:
        serve((answer, {"detail": "no"})).client.post("/api/executions/1/cancel")
    assert (caught.value.http_status, caught.value.status) == (answer, status)


def test_an_answer_that_got_lost_starts_no_second_execution(serve: Callable[..., Server]) -> None:
    server = serve(None, (503, {}), (200, {"execution_id": "7"}))
    assert server.client.execute("a/b", None, {"n": 1}) == "7"
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in server.requests}
    assert len(server.requests) == 3
    assert len(keys) == 1


def test_what_may_not_be_done_twice_is_not_asked_again(serve: Callable[..., Server]) -> None:
    server = serve(None)
    with pytest.raises(Failure, match="was lost"):
        server.client.post("/api/executions/1/cancel")
    assert len(server.requests) == 1


def test_no_answer_at_all_is_reported_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_FOR_SECONDS", 0.2)
    with pytest.raises(Failure, match="does not answer"):
        Client(f"http://127.0.0.1:{free_port()}", "token").get("/api/executions")


def test_following_ends_with_the_execution(serve: Callable[..., Server]) -> None:
    first = [{"seq": 1, "event_type": "playbook.initialized"}]
    last = [{"seq": 2, "event_type": "playbook.completed"}]
    server = serve((200, first), (200, []), (200, {"status": "RUNNING"}), (200, last))
    assert list(server.client.follow("1")) == [first, [], last], "an empty page says that nothing happens"
    assert "after=1" in server.requests[-1][1]


def test_following_ends_if_the_end_was_missed(serve: Callable[..., Server]) -> None:
    server = serve((200, []), (200, {"status": "FAILED"}))
    assert list(server.client.follow("1")) == []


def test_following_goes_on_behind_an_end_in_quarantine(serve: Callable[..., Server]) -> None:
    apart = [{"seq": 1, "event_type": "playbook.failed", "payload": {"quarantined": {}}}]
    rest = [{"seq": 2, "event_type": "execution.retried"}, {"seq": 3, "event_type": "playbook.completed"}]
    assert list(serve((200, apart), (200, rest)).client.follow("1")) == [apart, rest]
    server = serve((200, apart), (200, []), (200, {"status": "FAILED"}))
    assert list(server.client.follow("1")) == [apart], "it is still there"
