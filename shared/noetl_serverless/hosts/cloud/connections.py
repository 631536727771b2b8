"""HTTP/1.1 over kept-alive connections, each used by one thread at a time.

It uses the standard library, so that a function that reads three secrets does not import an HTTP client.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

# the services close what is idle after 20 s or more
KEEP_ALIVE_SECONDS = 15.0
_LOST = (http.client.BadStatusLine, http.client.CannotSendRequest, BrokenPipeError, ConnectionResetError)

Origin = tuple[str, str]
# what makes the parts of a body may be called again, and its length is in the headers
Body = bytes | Callable[[], Iterable[bytes]]
# what becomes of the body of an answer that is no error, as it comes
Read = Callable[[http.client.HTTPResponse], bytes]


class Connections:
    def __init__(self) -> None:
        self._idle: defaultdict[Origin, list[tuple[http.client.HTTPConnection, float]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
        timeout: float,
        read: Read | None = None,
        fresh: bool = False,
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers by lower-case name, body). OSError and http.client.HTTPException if there is no answer.

        `fresh`: on a connection of its own, as it may not be sent a second time without the caller's knowledge.
        """
        parts = urlsplit(url)
        origin = (parts.scheme, parts.netloc)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        idle = None if fresh else self._take_idle(origin)
        if idle is not None:
            try:
                return self._exchange_on(idle, origin, method, target, headers, body, timeout, read)
            except _LOST:
                # the server closed the idle connection before it answered this request
                pass
        return self._exchange_on(self._connect(origin), origin, method, target, headers, body, timeout, read)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, defaultdict(list)
        for connections in idle.values():
            for connection, _ in connections:
                connection.close()

    def _exchange_on(
        self,
        connection: http.client.HTTPConnection,
        origin: Origin,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body,
        timeout: float,
        read: Read | None,
    ) -> tuple[int, dict[str, str], bytes]:
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            content_to_send = body if isinstance(body, bytes) else body()
            connection.request(method, target, content_to_send or None, dict(headers))
            response = connection.getresponse()
            content = response.read() if read is None or response.status >= 300 else read(response)
        except BaseException:
            connection.close()
            raise
        response_headers = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle[origin].append((connection, time.monotonic()))
        return response.status, response_headers, content

    def _take_idle(self, origin: Origin) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle[origin]
            while idle:
                connection, since = idle.pop()
                if time.monotonic() - since < KEEP_ALIVE_SECONDS:
                    return connection
                connection.close()
        return None

    def _connect(self, origin: Origin) -> http.client.HTTPConnection:
        scheme, host = origin
        if scheme == "http":
            return http.client.HTTPConnection(host)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return http.client.HTTPSConnection(host, context=self._tls)
