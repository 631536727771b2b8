"""HTTP to another function without HTTP: a direct invocation in the format of an HTTP API.

It needs no API in between, and no way out of a private network: the endpoint of Lambda itself is enough.
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
# statuses of Lambda that are passed on: 429, the function's concurrency limit is reached; 413, the request is too
# large. All others become 502
_PASSED_STATUSES = {429: 429, 413: 413}


class LambdaSession:
    """The part of aiohttp's ClientSession that the clients of the control plane use.

    If Lambda does not answer, it raises an `aiohttp.ClientError`, as over HTTP. A refused or failed invocation is an
    answer with an error status.
    """

    def __init__(self, api: Api, url: str) -> None:
        """`url`: `lambda://function:qualifier`."""
        self._api = api
        # with the alias as a part of the name, so that the caller's policy has to allow the alias only
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
        """The host of `url` is ignored."""
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
                # the callers retry themselves: only they know what is safe to repeat
                tries=1,
            )
        except AwsError as error:
            return _problem(_PASSED_STATUSES.get(error.status, 502), f"{self._function} was not invoked: {error.code}")
        except Unavailable as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        if "x-amz-function-error" in answer.headers:
            return _problem(502, f"{self._function} failed")
        return _response(orjson.loads(answer.body))


class _Call:
    """Can be awaited, or entered with `async with`, like aiohttp's."""

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
    """The part of aiohttp's ClientResponse that is used; the whole body has been read already."""

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
    """A LambdaSession, typed as aiohttp's ClientSession."""
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
