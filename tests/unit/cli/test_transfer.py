"""Transfers that are cut off, refused, or give other bytes than they should."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from tests import serving

from noetl_serverless.cli import transfer
from noetl_serverless.cli.client import Client
from noetl_serverless.cli.failure import Failure, Refused
from noetl_serverless.cli.transfer import download, upload

CONTENT = bytes(range(256)) * 20_000
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'

# what a server does with a request: the number of bytes after which it hangs up, or None
Cut = Callable[[int], int | None]


class Server:
    """Serves CONTENT in parts, hangs up where `cut` says, by the number of the request, and keeps what it is sent."""

    def __init__(self) -> None:
        self.cut: Cut = lambda number: None
        self.etag = ETAG
        self.max_bytes: int | None = None
        # as of what is made as it is sent
        self.says_length = True
        self.ignores_ranges = False
        self.refusals = 0
        self.ranges: list[str | None] = []
        self.keys: list[str | None] = []
        self.received = b""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.ranges.append(wanted)
                first, last = 0, len(CONTENT) - 1
                wanted = None if server.ignores_ranges else wanted
                if wanted is not None:
                    begin, _, end = wanted.removeprefix("bytes=").partition("-")
                    first, last = int(begin), min(last, int(end)) if end else last
                part = CONTENT[first : last + 1]
                if not server.says_length:
                    self.protocol_version = "HTTP/1.1"
                    self.send_response(200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.send_header("Content-Type", "text/csv")
                    self.send_header("ETag", '"other-json"')
                    self.end_headers()
                    cut = server.cut(len(server.ranges))
                    for start in range(0, len(CONTENT) if cut is None else cut, 100_000):
                        piece = CONTENT[start : start + 100_000]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.write(b"0\r\n\r\n" if cut is None else b"")
                    self.close_connection = True
                    return
                if server.max_bytes is not None and len(part) > server.max_bytes:
                    self.answer(400, {"code": "answer.too_large", "detail": "too large", "max_bytes": server.max_bytes})
                    return
                self.send_response(200 if wanted is None else 206)
                self.send_header("Content-Length", str(len(part)))
                self.send_header("Content-Type", "text/csv")
                self.send_header("ETag", server.etag)
                if wanted is not None:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}")
                self.end_headers()
                self.wfile.write(part[: server.cut(len(server.ranges))])

            def do_PUT(self) -> None:
                server.keys.append(self.headers.get("Idempotency-Key"))
                size = int(self.headers["Content-Length"])
                cut = server.cut(len(server.keys))
                server.received = self.rfile.read(size if cut is None else cut)
                if cut is not None:
                    return
                status = 503 if len(server.keys) <= server.refusals else 200
                self.answer(status, {"ref": "r", "status": "stored"})

            def answer(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self.http = serving.serve(Handler)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(transfer, "RETRY_FOR_SECONDS", 0.5)
    server = Server()
    yield server
    serving.end(server.http)


def client_of(server: Server) -> Client:
    return Client(f"http://127.0.0.1:{server.http.server_port}", "token")


def read(server: Server) -> bytes:
    target = io.BytesIO()
    done = download(client_of(server), "/x", target.write, lambda done, total: None)
    assert (done.bytes, done.content_type) == (len(CONTENT), "text/csv")
    return target.getvalue()


def test_what_is_cut_off_goes_on_where_it_was(server: Server) -> None:
    server.cut = lambda number: 1_000_000 if number < 4 else None
    assert read(server) == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=2000000-", "bytes=3000000-"]


def test_a_host_that_answers_in_parts_only_is_read_in_parts(server: Server) -> None:
    server.max_bytes = 2_000_000
    assert read(server) == CONTENT
    assert server.ranges == [None, "bytes=0-1999999", "bytes=2000000-3999999", "bytes=4000000-5999999"]


def test_other_bytes_than_those_stored_are_a_failure(server: Server) -> None:
    server.etag = f'"{"0" * 64}"'
    with pytest.raises(Failure, match="is damaged"):
        read(server)


def test_what_is_made_as_it_is_sent_has_no_digest_though_a_proxy_adds_its_length(server: Server) -> None:
    server.etag = f'"{"0" * 64}-json"'
    assert read(server) == CONTENT, "bytes that were never promised are expected"


def test_what_cannot_be_had_in_parts_is_not_said_to_have_changed(server: Server) -> None:
    server.etag = f'"{"0" * 64}-json"'
    server.ignores_ranges = True
    server.cut = lambda number: 1_000_000
    with pytest.raises(Failure, match="breaks off after 1000000 bytes, and is not given in parts"):
        read(server)


def test_what_is_made_as_it_is_sent_is_read_to_its_end(server: Server) -> None:
    server.says_length = False
    server.cut = lambda number: 0 if number == 1 else None
    assert read(server) == CONTENT
    assert server.ranges == [None, None], "of what has no length, no part can be asked for"


def test_what_is_made_as_it_is_sent_and_breaks_off_is_a_failure(server: Server) -> None:
    server.says_length = False
    server.cut = lambda number: 1_000_000
    with pytest.raises(Failure, match="breaks off after 1000000 bytes"):
        read(server)


def test_a_result_that_changes_meanwhile_is_a_failure(server: Server) -> None:
    def cut(number: int) -> int:
        server.etag = f'"{number}"'
        return 1000

    server.cut = cut
    with pytest.raises(Failure, match="has changed"):
        read(server)


def test_a_server_that_gives_nothing_more_is_given_up(server: Server) -> None:
    server.cut = lambda number: 1000 if number == 1 else 0
    with pytest.raises(Failure, match="does not answer"):
        read(server)


@pytest.mark.parametrize("kind", ["cut", "busy"])
def test_an_upload_is_sent_again_with_its_key(server: Server, kind: str) -> None:
    if kind == "cut":
        server.cut = lambda number: 100 if number == 1 else None
    else:
        server.refusals = 2
    done = upload(
        client_of(server),
        "/x",
        io.BytesIO(CONTENT),
        len(CONTENT),
        content_type="text/csv",
        key="k",
        progress=lambda done, total: None,
    )
    assert done["ref"] == "r" and server.received == CONTENT
    assert set(server.keys) == {"k"} and len(server.keys) > 1


def test_a_refused_upload_says_why(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"code": "request.too_large", "detail": "the result has more than 5 bytes"}
    monkeypatch.setattr(server.http.RequestHandlerClass, "do_PUT", lambda handler: handler.answer(413, body))
    with pytest.raises(Refused, match="more than 5 bytes"):
        upload(
            client_of(server),
            "/x",
            io.BytesIO(b"abc"),
            3,
            content_type="a/b",
            key="k",
            progress=lambda done, total: None,
        )
