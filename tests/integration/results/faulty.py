"""A line to an object store on which requests go wrong.

fake-gcs-server takes the question how much of a resumable upload has arrived for its end, so it is answered here.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.serving import end, serve

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]

    @property
    def is_part_of_upload(self) -> bool:
        """A part of S3's, or the content of a resumable upload."""
        return self.method == "PUT" and ("partNumber=" in self.path or "upload_id=" in self.path)

    @property
    def is_part_of_download(self) -> bool:
        return self.method == "GET" and "range" in self.headers


Fault = Callable[["Exchange"], None]
Answer = tuple[int, list[tuple[str, str]], bytes]


class Exchange:
    """One request, as a fault sees it: it may answer it, pass it on, or cut it."""

    def __init__(self, handler: BaseHTTPRequestHandler, server: str, line: Line) -> None:
        self._handler = handler
        self._server = server
        self._line = line
        self.length = int(handler.headers.get("Content-Length") or 0)

    def pass_on(self) -> None:
        self.answer(*self.ask())

    def ask(self) -> Answer:
        """The server's answer."""
        path, span = self._handler.path, self._handler.headers.get("Content-Range", "")
        if span.startswith("bytes */"):
            return self._line.progress(path)
        answer = self._ask(self._handler.rfile.read(self.length), span)
        if "upload_id=" in path and answer[0] == 200:
            self._line.ended[path] = answer
        return answer

    def pass_half_on(self) -> None:
        """The first half of the body; what of it the server keeps is for the store to find out."""
        half = self.length // 2 // 2**18 * 2**18
        body = self._handler.rfile.read(half)
        span = self._handler.headers.get("Content-Range", "")
        if "upload_id=" in self._handler.path and half:
            first, _, total = span.removeprefix("bytes ").replace("-", "/").split("/")
            self._ask(body, f"bytes {first}-{int(first) + half - 1}/{total}")
            self._line.arrived[self._handler.path] = int(first) + half

    def _ask(self, body: bytes, span: str) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self._server).netloc, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(self._handler.command, self._handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self._handler.headers.items():
                if name.lower() not in {*_HOP_BY_HOP, "content-range", "content-length"}:
                    connection.putheader(name, value)
            if span:
                connection.putheader("Content-Range", span)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            # where to go on with an upload: through here
            headers = [
                (name, value.replace(self._server, self._line.url) if name.lower() == "location" else value)
                for name, value in answer.getheaders()
                if name.lower() not in {*_HOP_BY_HOP, "content-length"}
            ]
            if self._handler.command == "HEAD":
                headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
                return answer.status, headers, b""
        return answer.status, [*headers, ("Content-Length", str(len(content)))], content

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self._handler.send_response_only(status)
        for name, value in headers:
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._handler.wfile.write(content)

    def read(self) -> None:
        self._handler.rfile.read(self.length)

    def wait_for_the_end(self) -> None:
        """Until the store has given up."""
        self._handler.connection.settimeout(30)
        with contextlib.suppress(OSError):
            self._handler.connection.recv(1)
        self.cut()

    def cut(self) -> None:
        self._handler.close_connection = True
        self._handler.connection.close()


class Line:
    """`break_`: which requests go wrong, how, and how often; the others pass."""

    def __init__(self, server: str) -> None:
        self.requests: list[Request] = []
        # of resumable uploads, by their paths: the bytes that have arrived, and the last answer
        self.arrived: dict[str, int] = {}
        self.ended: dict[str, Answer] = {}
        self._faults: list[tuple[Callable[[Request], bool], Fault, int]] = []
        self._lock = threading.Lock()
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                # of who has given up: it does not wait for the answer
                with contextlib.suppress(OSError, ValueError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def _any(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                exchange = Exchange(self, server, line)
                line._next(Request(self.command, self.path, headers))(exchange)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

            def log_message(self, *args: Any) -> None:
                return None

        self._server = serve(Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def break_(self, which: Callable[[Request], bool], fault: Fault, times: int) -> None:
        self._faults.append((which, fault, times))

    def progress(self, path: str) -> Answer:
        if path in self.ended:
            return self.ended[path]
        arrived = [("Range", f"bytes=0-{self.arrived[path] - 1}")] if path in self.arrived else []
        return 308, [*arrived, ("Content-Length", "0")], b""

    def mend(self) -> None:
        self._faults.clear()

    def end(self) -> None:
        end(self._server)

    def _next(self, request: Request) -> Fault:
        with self._lock:
            self.requests.append(request)
            for number, (which, fault, times) in enumerate(self._faults):
                if times and which(request):
                    self._faults[number] = (which, fault, times - 1)
                    return fault
        return Exchange.pass_on


@contextlib.contextmanager
def faulty_line(server: str) -> Iterator[Line]:
    line = Line(server)
    try:
        yield line
    finally:
        line.end()


# -- what can go wrong


def slow_down(exchange: Exchange) -> None:
    exchange.read()
    content = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    exchange.answer(503, [("Content-Length", str(len(content)))], content)


def cut_in_the_middle_of_the_request(exchange: Exchange) -> None:
    exchange.pass_half_on()
    exchange.cut()


def lose_the_answer(exchange: Exchange) -> None:
    exchange.ask()
    exchange.cut()


def cut_in_the_middle_of_the_answer(exchange: Exchange) -> None:
    status, headers, content = exchange.ask()
    with contextlib.suppress(OSError):
        exchange.answer(status, headers, content[: len(content) // 2])
    exchange.cut()


def answer_slowly(exchange: Exchange) -> None:
    """Too late for who asks."""
    exchange.ask()
    exchange.wait_for_the_end()


def answer_with_another_part(exchange: Exchange) -> None:
    status, headers, content = exchange.ask()
    moved = [
        (name, value.replace("bytes ", "bytes 1") if name.lower() == "content-range" else value)
        for name, value in headers
    ]
    exchange.answer(status, moved, content)


OF_UPLOADS = (slow_down, cut_in_the_middle_of_the_request, lose_the_answer, answer_slowly)
OF_DOWNLOADS = (slow_down, cut_in_the_middle_of_the_answer, lose_the_answer, answer_slowly)
