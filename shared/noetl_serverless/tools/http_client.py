"""Sends HTTP requests: one pool of connections, checked addresses, answers of limited size."""

from __future__ import annotations

import asyncio
import base64
import functools
from dataclasses import dataclass, replace
from typing import IO, Any
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from ..tables.listed import TableTooLarge, listed
from ..tables.table import InvalidTable
from .addresses import AddressRefused, guarded_socket
from .encoding import NotJson, encode
from .http_auth import Authorization
from .http_config import HttpConfig, HttpTimeout
from .port import ToolFailure

MAX_BYTES = 100 * 1024 * 1024
# of a response that is kept in a file
MAX_FILE_BYTES = 10 * 1024 * 1024 * 1024
MAX_REDIRECTS = 10
_TEXT = (
    "text/",
    "application/xml",
    "application/javascript",
    "application/x-www-form-urlencoded",
    "+xml",
    "csv",
)


@dataclass(kw_only=True, frozen=True, slots=True)
class Request:
    method: str
    url: URL
    headers: dict[str, str]
    # names of the headers that are sent to the first origin only
    private: frozenset[str]
    body: bytes | None
    verify: bool
    follow: bool

    @property
    def title(self) -> str:
        """Its name in errors: without the query, which may hold secrets."""
        return f"{self.method} {self.url.with_user(None).with_query(None).with_fragment(None)}"


@dataclass(kw_only=True, frozen=True, slots=True)
class HttpResponse:
    status: int
    reason: str
    headers: dict[str, str]
    url: str
    # nothing, if it is in a file
    body: bytes
    charset: str

    def content(self, kind: str | None = None) -> dict[str, Any]:
        """{"data": parsed JSON, else text, else base64 with "encoding"}; or of one kind, json or text. Raises
        ToolFailure if it is not of that."""
        if kind is not None:
            return {"data": self._of_kind(kind)}
        if not self.body:
            return {"data": None}
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json" or kind.endswith("+json"):
            try:
                return {"data": orjson.loads(self.body)}
            except ValueError:
                pass
        try:
            if not kind or kind.endswith("json") or any(mark in kind for mark in _TEXT):
                return {"data": self.body.decode(self.charset)}
        except (UnicodeDecodeError, LookupError):
            pass
        return {"data": base64.b64encode(self.body).decode(), "encoding": "base64"}

    def _of_kind(self, kind: str) -> Any:
        try:
            return orjson.loads(self.body) if kind == "json" else self.body.decode(self.charset)
        except (ValueError, LookupError) as error:
            raise ToolFailure("http", "http.content", f"the response is no {kind}: {error}") from None

    def excerpt(self) -> str:
        """The beginning of a body of text, for a message."""
        found = self.content()
        if found["data"] is None or "encoding" in found:
            return ""
        text = " ".join(self.body[:400].decode(self.charset, "replace").split())
        is_whole = len(self.body) <= 400 and len(text) <= 200
        # cut with a sign, by which a secret is recognized of which only the beginning is left
        return f": {text[:200]}" if is_whole else f": {text[:200]}…"


FORM = "application/x-www-form-urlencoded"


def request_of(config: HttpConfig, auth: Authorization, idempotency_key: str) -> Request:
    """The request to send. Raises ToolFailure `http.url`, `http.headers` or `http.body` if it cannot be sent."""
    try:
        url = URL((config.url or config.endpoint or "").strip())
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("it must begin with http:// or https:// and name a host")
    except ValueError as error:
        raise ToolFailure("http", "http.url", f"the URL is not valid: {error}") from None
    params = {**config.params, **(config.data.query if config.data else {}), **auth.params}
    url = url.update_query(_query(params))
    headers = {name: _header(value) for name, value in config.headers.items() if value is not None}
    secret = {name.lower() for name in (*auth.headers, "authorization", "cookie", "proxy-authorization")}
    headers = {name: value for name, value in headers.items() if name.lower() not in map(str.lower, auth.headers)}
    headers.update(auth.headers)
    if any("\r" in text or "\n" in text for pair in headers.items() for text in pair):
        raise ToolFailure("http", "http.headers", "a header contains a line break")
    header_names = {name.lower() for name in headers}
    body, kind = _body(config, headers)
    if kind and "content-type" not in header_names:
        headers["Content-Type"] = kind
    if config.method in ("POST", "PATCH") and "idempotency-key" not in header_names:
        headers["Idempotency-Key"] = idempotency_key
    return Request(
        method=config.method,
        url=url,
        headers=headers,
        private=frozenset(secret),
        body=body,
        verify=config.verify_ssl,
        follow=config.follow_redirects,
    )


def _header(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _query(params: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in params.items():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if item is None:
                continue
            pairs.append((name, item if isinstance(item, str) else encode(item).decode()))
    return pairs


def _body(config: HttpConfig, headers: dict[str, str]) -> tuple[bytes | None, str | None]:
    """The body and its type."""
    try:
        if config.json_ is not None:
            return encode(listed(config.json_)), "application/json"
        if config.form is not None:
            return urlencode(_query(config.form)).encode(), FORM
        content = next((candidate for candidate in (config.body, config.payload) if candidate is not None), None)
        if content is None and config.data is not None:
            content = config.data.body
        if content is None:
            return None, None
        content = listed(content)
        if isinstance(content, str):
            return content.encode(), "text/plain; charset=utf-8"
        kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
        if kind.startswith(FORM) and isinstance(content, dict):
            return urlencode(_query(content)).encode(), kind
        return encode(content), "application/json"
    except NotJson as error:
        raise ToolFailure("http", "http.body", str(error).replace("result", "the body", 1)) from None
    except (TableTooLarge, InvalidTable) as error:
        raise ToolFailure("http", "http.body", f"the body cannot be sent: {error}") from None


class Client:
    """One session that keeps its connections open, for one event loop."""

    def __init__(self, allow_private: bool) -> None:
        self._loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(
            limit=100, limit_per_host=32, socket_factory=functools.partial(guarded_socket, allow_private)
        )
        # no cookies kept and no proxies taken from the environment: runs must not affect each other
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "noetl-serverless"}
        )

    @property
    def usable(self) -> bool:
        return not self._session.closed and self._loop is asyncio.get_running_loop()

    async def close(self) -> None:
        if self._loop is asyncio.get_running_loop():
            await self._session.close()

    async def fetch(self, request: Request, limits: HttpTimeout, file: IO[bytes] | None = None) -> HttpResponse:
        """The final answer; the body of one that is no error is in `file`, if that is given. Raises ToolFailure
        http.connect, timeout, tls, refused, too_large or redirects."""
        title = request.title
        try:
            for _ in range(MAX_REDIRECTS + 1):
                answer = await self._once(request, limits, file)
                if isinstance(answer, HttpResponse):
                    return answer
                request = answer
        except (aiohttp.ServerTimeoutError, TimeoutError) as error:
            if isinstance(error, aiohttp.ServerTimeoutError):
                raise ToolFailure("http", "http.timeout", f"{title}: {error}", retryable=True) from None
            raise
        except aiohttp.ClientConnectorError as error:
            if AddressRefused.MARK in str(error.os_error):
                raise ToolFailure("http", "http.refused", f"{title}: {error.os_error}") from None
            if isinstance(error, aiohttp.ClientSSLError):
                raise ToolFailure("http", "http.tls", f"{title}: {error.os_error}") from None
            raise ToolFailure("http", "http.connect", f"{title}: {error.os_error}", retryable=True) from None
        except aiohttp.InvalidURL as error:
            raise ToolFailure("http", "http.url", f"{title}: {type(error).__name__}") from None
        except (aiohttp.ClientError, OSError) as error:
            message = f"{title}: the connection broke: {str(error) or type(error).__name__}"
            raise ToolFailure("http", "http.connect", message, retryable=True) from None
        raise ToolFailure("http", "http.redirects", f"{title}: more than {MAX_REDIRECTS} redirects")

    async def _once(self, request: Request, limits: HttpTimeout, file: IO[bytes] | None) -> HttpResponse | Request:
        """The answer, or the request that follows a redirect."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect, sock_read=limits.read)
        async with self._session.request(
            request.method,
            request.url,
            headers=request.headers,
            data=request.body,
            ssl=request.verify,
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            location = response.headers.get("location")
            if request.follow and location and response.status in (301, 302, 303, 307, 308):
                return _redirected(request, response.status, location)
            body = b""
            if file is None or response.status >= 400:
                body = await _read(response, request.title)
            else:
                await _save(response, request.title, file)
            return HttpResponse(
                status=response.status,
                reason=response.reason or "",
                headers=_headers(response),
                url=str(response.url.with_user(None)),
                body=body,
                charset=response.charset or "utf-8",
            )


def _redirected(request: Request, status: int, location: str) -> Request:
    try:
        url = request.url.join(URL(location))
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError
    except ValueError:
        raise ToolFailure("http", "http.url", f"{request.title} redirects to an invalid URL") from None
    headers = request.headers
    if url.origin() != request.url.origin():
        headers = {name: value for name, value in headers.items() if name.lower() not in request.private}
    if (status == 303 and request.method != "HEAD") or (status in (301, 302) and request.method == "POST"):
        headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return replace(request, method="GET", url=url, headers=headers, body=None)
    return replace(request, url=url, headers=headers)


async def _read(response: aiohttp.ClientResponse, title: str) -> bytes:
    parts, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_BYTES:
            limit = MAX_BYTES // (1024 * 1024)
            raise ToolFailure("http", "http.too_large", f"{title}: the response is larger than {limit} MiB")
        parts.append(chunk)
    return b"".join(parts)


async def _save(response: aiohttp.ClientResponse, title: str, file: IO[bytes]) -> None:
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES // (1024 * 1024)
            raise ToolFailure("http", "http.too_large", f"{title}: the response is larger than {limit} MiB")
        try:
            file.write(chunk)
        except OSError as error:
            message = f"{title}: no room for the response: {error}"
            raise ToolFailure("http", "http.too_large", message, retryable=True) from None


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
