"""Reads what is at a URL with the standard library alone: with an HTTP client in the control plane's package, nats
would import it at every cold start, for a protocol that is not used."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from ..tools.addresses import check

MAX_REDIRECTS: Final = 10
_REDIRECTS = (301, 302, 303, 307, 308)


class NotFetched(Exception):
    """There is no such page, it is too large, or it may not be reached from here. `status`: that of the answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def http_get(url: str, *, allow_private: bool, seconds: float, max_bytes: int) -> bytes:
    """Runs in a thread, for `seconds` at most once the names of hosts are resolved; `max_bytes`: of the page. Raises
    NotFetched, and TimeoutError."""
    until = time.monotonic() + seconds
    for _ in range(MAX_REDIRECTS + 1):
        status, reason, location, body = _send("GET", url, {}, None, allow_private, until, max_bytes)
        if status not in _REDIRECTS or not location:
            return _checked(f"GET {url}", status, reason, body, max_bytes)
        try:
            url = urljoin(url, location)
        except ValueError as error:
            raise NotFetched(f"GET {url}: the redirect to {location!r:.200} is no URL: {error}") from None
    raise NotFetched(f"GET {url}: there are more than {MAX_REDIRECTS} redirects")


def http_request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    allow_private: bool,
    seconds: float,
    max_bytes: int,
) -> bytes:
    """As `http_get`, with headers that are for this server alone: no redirect is followed."""
    until = time.monotonic() + seconds
    status, reason, _, content = _send(method, url, headers, body, allow_private, until, max_bytes)
    return _checked(f"{method} {url}", status, reason, content, max_bytes)


def _checked(request: str, status: int, reason: str, body: bytes, max_bytes: int) -> bytes:
    """The body of an answer that is one."""
    if status != HTTPStatus.OK:
        raise NotFetched(f"{request}: the answer is {status} {reason}", status)
    if len(body) > max_bytes:
        mebibyte = 1024 * 1024
        limit = f"{max_bytes // mebibyte} MiB" if max_bytes >= mebibyte else f"{max_bytes // 1024} KiB"
        raise NotFetched(f"{request}: the response is larger than {limit}")
    return body


def _send(
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes | None,
    allow_private: bool,
    until: float,
    max_bytes: int,
) -> tuple[int, str, str | None, bytes]:
    """Status, reason, location and at most one byte more of the body than allowed."""
    connection: http.client.HTTPConnection | None = None
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NotFetched(f"{method} {url}: it must begin with http:// or https:// and name a host")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = http.client.HTTPConnection(parts.hostname, port)
        connection.sock = _connected(parts.hostname, port, until, allow_private)
        with _ended_at(until, connection.sock):
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            own = {"User-Agent": "noetl-serverless", "Accept-Encoding": "identity"}
            connection.request(method, path, content, {**own, **headers})
            answer = connection.getresponse()
            body = answer.read(max_bytes + 1)
            if len(body) <= max_bytes and answer.length:
                raise NotFetched(f"{method} {url}: the connection ended {answer.length} bytes before the page did")
            reason = "".join(char for char in answer.reason if char.isprintable())[:100]
            return answer.status, reason, answer.headers.get("Location"), body
    except (OSError, ValueError, http.client.HTTPException) as error:
        if time.monotonic() >= until:
            raise TimeoutError from None
        # of what was sent nothing is quoted: it may be secret
        reason = type(error).__name__ if headers or content else f"{error}"[:500]
        raise NotFetched(f"{method} {url}: {reason}") from None
    finally:
        if connection is not None:
            connection.close()


@contextmanager
def _ended_at(until: float, connected: socket.socket) -> Iterator[None]:
    """Ends the connection then: of a server that sends a byte now and then, no wait for data is long."""
    # TLS takes the socket over, but not the connection
    connection = connected.dup()

    def end() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(max(0.0, until - time.monotonic()), end)
    watch.daemon = True
    watch.start()
    try:
        yield
        if time.monotonic() >= until:
            # what was read may be a part of it
            raise TimeoutError
    finally:
        watch.cancel()
        connection.close()


def _connected(host: str, port: int, until: float, allow_private: bool) -> socket.socket:
    """Raises OSError; AddressRefused is one."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        # of the address itself, so that a name cannot mean another one by the time of the connection
        check(str(address[0]), allow_private)
        found = socket.socket(family, kind, protocol)
        try:
            found.settimeout(max(0.01, until - time.monotonic()))
            found.connect(address)
        except OSError as error:
            found.close()
            failure = error
        else:
            return found
    raise failure or OSError("the host has no address")
