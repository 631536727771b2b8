"""What the front asks fake-gcs-server for itself, and how it hands requests on to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from .errors import Aborted, ApiError, InvalidArgument, NotFound
from .fake_gcs import FakeGcs
from .guard import Guard

# of one connection, not of what goes over it
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
)
_KEPT_FROM_STORE = frozenset({"authorization", "host", "content-length", *_HOP_BY_HOP})
_CHUNK = 2**16
# aiohttp adds them where they are missing
_NOT_OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(frozen=True, slots=True)
class Stored:
    """fake-gcs-server's answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def document(self) -> Any:
        return json.loads(self.body or b"null")


class ObjectStore:
    def __init__(self, home: Path, public_url: str, guard: Guard) -> None:
        self._server = FakeGcs(home, public_url, guard)
        self._host = public_url.partition("://")[2]
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    async def start(self) -> None:
        # bodies pass through as they are
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            skip_auto_headers=_NOT_OURS,
            timeout=aiohttp.ClientTimeout(None),
        )
        await self._server.start(self._session)

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        self._server.stop()

    async def create_bucket(self, name: str, with_versions: bool) -> None:
        body = json.dumps({"name": name, "versioning": {"enabled": with_versions}}).encode()
        answer = await self.send("POST", "/storage/v1/b", {}, body)
        if not answer.is_success:
            raise InvalidArgument(f"Invalid bucket: {answer.body.decode(errors='replace')}")

    async def delete_bucket(self, name: str) -> None:
        answer = await self.send("DELETE", f"/storage/v1/b/{name}")
        if not answer.is_success:
            raise Aborted("The bucket you tried to delete is not empty.")

    async def metadata(self, bucket: str, name: str, generation: str | None = None) -> dict[str, Any] | None:
        """Of that version of an object, or of the live one; None if there is none."""
        version = f"?generation={quote(generation)}" if generation else ""
        answer = await self.send("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}{version}")
        if answer.status == 404:
            return None
        document: dict[str, Any] = answer.document()
        return document

    async def content(self, bucket: str, name: str, generation: str | None = None) -> bytes:
        """NotFound."""
        version = f"&generation={quote(generation)}" if generation else ""
        answer = await self.send("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media{version}")
        if not answer.is_success:
            raise NotFound(f"No such object: {bucket}/{name}")
        return answer.body

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Stored:
        """`path` with its query, both encoded."""
        async with self.session.request(
            method, self._url(path), headers=self._headers(headers or {}), data=body, allow_redirects=False
        ) as answer:
            return Stored(answer.status, dict(answer.headers), await answer.read())

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Hand a request without a body on, and its answer back as it comes."""
        async with self.session.request(
            request.method, self._url(request.raw_path), headers=self._headers(request.headers), allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=passed_back(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_chunked(_CHUNK):
                await response.write(chunk)
            await response.write_eof()
            return response

    def _url(self, path: str) -> URL:
        return URL(f"{self._server.url}{path}", encoded=True)

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in given.items() if name.lower() not in _KEPT_FROM_STORE}
        # the links in its answers are made from it
        return {**kept, "Host": self._host}


def passed_back(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def refused(error: ApiError) -> web.Response:
    """Cloud Storage's form of an error, which is older than that of the other APIs."""
    document = error.document()
    document["error"]["errors"] = [{"message": error.message, "domain": "global", "reason": error.status}]
    return web.json_response(document, status=error.code)
