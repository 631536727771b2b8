"""HTTP to another function without HTTP: a direct invocation in the shape that an HTTP API gives it.

It needs no API in between, and from a private network no way out: the endpoint of Lambda itself is enough.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Generator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from ...errors import Unavailable
from .api import Api, AwsError
from .payload import request_event, response_body
from .platform import DIRECTLY

MAX_SECONDS = 90.0
# what Lambda says when the function's cap is reached, and when it has to be asked again
_LATER = {429: 429, 413: 413}


class LambdaSession:
    """The part of aiohttp's ClientSession that the clients of the control plane use.

    Whatever keeps the function from answering is an `aiohttp.ClientError`, as it would be over HTTP.
    """

    def __init__(self, api: Api, url: str) -> None:
        """`url`: `lambda://function:qualifier`."""
        self._api = api
        # as a part of its name, so that the resource which the caller's policy has to name is the alias alone
        self._function = url.removeprefix(DIRECTLY).rstrip("/")

    def request(
        self,
        method: str,
        url: str | URL,
        *,
        data: bytes | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        timeout: aiohttp.ClientTimeout | None = None,
        allow_redirects: bool = True,
    ) -> _Call:
        """The host of `url` does not matter."""
        limit = (timeout and (timeout.total or timeout.sock_read)) or MAX_SECONDS
        return _Call(self, method, URL(url), data, CIMultiDict(headers), limit)

    async def close(self) -> None:
        return None

    async def _invoke(
        self, method: str, url: URL, data: bytes | AsyncIterable[bytes] | None, headers: CIMultiDict[str], limit: float
    ) -> LambdaResponse:
        body = data if isinstance(data, bytes) else await _whole(data)
        names = dict.fromkeys(name.lower() for name in headers)
        sent = {name: ", ".join(headers.getall(name)) for name in names}
        event = request_event(method, unquote(url.raw_path), url.raw_query_string, sent, body)
        path = f"/2015-03-31/functions/{self._function}/invocations"
        try:
            answer = await self._api.request(
                "lambda",
                "POST",
                self._api.account.endpoint("lambda"),
                path,
                headers={"x-amz-invocation-type": "RequestResponse", "content-type": "application/json"},
                body=orjson.dumps(event),
                timeout=limit,
                # the callers try again themselves: only they know what may be done twice
                tries=1,
            )
        except AwsError as error:
            return _problem(_LATER.get(error.status, 502), f"{self._function} was not invoked: {error.code}")
        except Unavailable as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        if "x-amz-function-error" in answer.headers:
            return _problem(502, f"{self._function} failed")
        return _response(orjson.loads(answer.body))


class _Call:
    """Awaited, or entered with `async with`, as aiohttp's is."""

    def __init__(self, session: LambdaSession, *request: Any) -> None:
        self._session = session
        self._request = request

    def __await__(self) -> Generator[Any, None, LambdaResponse]:
        return self._session._invoke(*self._request).__await__()

    async def __aenter__(self) -> LambdaResponse:
        return await self

    async def __aexit__(self, *error: object) -> None:
        return None


class LambdaResponse:
    """The part of aiohttp's ClientResponse that is used; the whole body is there already."""

    def __init__(self, status: int, headers: CIMultiDict[str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = _Content(body)
        self._body = body

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        return self._body

    def release(self) -> None:
        return None

    def close(self) -> None:
        return None


class _Content:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_any(self) -> AsyncIterator[bytes]:
        body, self._body = self._body, b""
        if body:
            yield body

    def at_eof(self) -> bool:
        return not self._body


def lambda_session(api: Api, url: str) -> aiohttp.ClientSession:
    """A LambdaSession, for those who know aiohttp's alone."""
    return cast(aiohttp.ClientSession, LambdaSession(api, url))


def _response(answer: Mapping[str, Any]) -> LambdaResponse:
    headers = CIMultiDict((answer.get("headers") or {}).items())
    for cookie in answer.get("cookies") or ():
        headers.add("set-cookie", cookie)
    return LambdaResponse(int(answer["statusCode"]), headers, response_body(answer))


def _problem(status: int, detail: str) -> LambdaResponse:
    body = {"type": "about:blank", "title": "The function did not answer", "status": status, "detail": detail}
    return LambdaResponse(status, CIMultiDict({"content-type": "text/plain"}), orjson.dumps(body))


async def _whole(data: AsyncIterable[bytes] | None) -> bytes:
    return b"" if data is None else b"".join([chunk async for chunk in data])
