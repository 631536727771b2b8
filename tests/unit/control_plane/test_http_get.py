"""A page is read within its time, whatever its server does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from noetl_serverless.control_plane.http_get import NotFetched, http_get

Serve = Callable[[bytes, float], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(answer, pause)`: a server that sends it byte by byte, with a pause after each; its URL."""
    listeners: list[socket.socket] = []
    ended = threading.Event()

    def answer(listener: socket.socket, content: bytes, pause: float) -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    for byte in content if pause else [content]:
                        connection.sendall(bytes([byte]) if isinstance(byte, int) else byte)
                        if pause and ended.wait(pause):
                            return
                except OSError:
                    continue

    def start(content: bytes, pause: float) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=answer, args=(listener, content, pause), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/page"

    yield start
    ended.set()
    for listener in listeners:
        listener.close()


def page(body: bytes, length: int | None = None, status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def read(url: str, seconds: float = 10.0) -> bytes:
    return http_get(url, allow_private=True, seconds=seconds, max_bytes=1000)


def test_a_page_is_read(serve: Serve) -> None:
    assert read(serve(page(b"x = 1"), 0)) == b"x = 1"


@pytest.mark.parametrize("content", [page(b"x" * 500), b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500])
def test_a_server_that_sends_a_byte_now_and_then_has_no_more_time_than_others(serve: Serve, content: bytes) -> None:
    url = serve(content, 0.02)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        read(url, seconds=0.5)
    assert time.monotonic() - began < 5, "the thread reads on"


def test_redirects_share_the_time(serve: Serve) -> None:
    target = serve(page(b"x" * 500), 0.02)
    with pytest.raises(TimeoutError):
        read(serve(page(b"", status="302 Found", more=f"Location: {target}\r\n"), 0), seconds=0.5)


@pytest.mark.parametrize("location", ["http://[", "ftp://x/y", "//", "http://x:99999/"])
def test_a_redirect_to_what_is_no_url_says_so(serve: Serve, location: str) -> None:
    url = serve(page(b"", status="302 Found", more=f"Location: {location}\r\n"), 0)
    with pytest.raises(NotFetched, match="GET "):
        read(url)


def test_a_page_that_ends_early_or_is_too_large_says_so(serve: Serve) -> None:
    with pytest.raises(NotFetched, match="larger"):
        read(serve(page(b"x" * 2000), 0))
    with pytest.raises(NotFetched, match="ended 99 bytes before"):
        read(serve(page(b"x", length=100), 0))
