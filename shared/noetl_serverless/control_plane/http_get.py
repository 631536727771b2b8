"""Reads what is at a URL with the standard library alone: with an HTTP client in the control plane's package, nats
would import it at every cold start, for a protocol that is not used."""

from __future__ import annotations

import http.client
import socket
import ssl
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from ..tools.addresses import check

MAX_REDIRECTS: Final = 10
_REDIRECTS = (301, 302, 303, 307, 308)


class NotFetched(Exception):
    """There is no such page, it is too large, or it may not be reached from here."""


def http_get(url: str, *, allow_private: bool, seconds: float, max_bytes: int) -> bytes:
    """Runs in a thread. `seconds`: to connect, and of each wait for data; `max_bytes`: of the page. Raises NotFetched,
    and TimeoutError."""
    for _ in range(MAX_REDIRECTS + 1):
        status, reason, location, body = _get(url, allow_private, seconds, max_bytes)
        if status not in _REDIRECTS or not location:
            if status != HTTPStatus.OK:
                raise NotFetched(f"GET {url}: the answer is {status} {reason}")
            if len(body) > max_bytes:
                raise NotFetched(f"GET {url}: the response is larger than {max_bytes // (1024 * 1024)} MiB")
            return body
        url = urljoin(url, location)
    raise NotFetched(f"GET {url}: there are more than {MAX_REDIRECTS} redirects")


def _get(url: str, allow_private: bool, seconds: float, max_bytes: int) -> tuple[int, str, str | None, bytes]:
    """Status, reason, location and at most one byte more of the body than allowed."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotFetched(f"GET {url}: it must begin with http:// or https:// and name a host")
    connection: http.client.HTTPConnection | None = None
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=seconds)
        connection.sock = _connected(parts.hostname, port, seconds, allow_private)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "noetl-serverless", "Accept-Encoding": "identity"})
        answer = connection.getresponse()
        return answer.status, answer.reason, answer.headers.get("Location"), answer.read(max_bytes + 1)
    except TimeoutError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotFetched(f"GET {url}: {error}") from None
    finally:
        if connection is not None:
            connection.close()


def _connected(host: str, port: int, seconds: float, allow_private: bool) -> socket.socket:
    """Raises OSError; AddressRefused is one."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        # of the address itself, so that a name cannot mean another one by the time of the connection
        check(str(address[0]), allow_private)
        found = socket.socket(family, kind, protocol)
        try:
            found.settimeout(seconds)
            found.connect(address)
        except OSError as error:
            found.close()
            failure = error
        else:
            return found
    raise failure or OSError("the host has no address")
