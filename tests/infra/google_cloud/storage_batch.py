"""Cloud Storage's batch: many calls in one request, each answered for itself."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from aiohttp import web

from .buckets import SERVICE
from .errors import InvalidArgument
from .object_store import ObjectStore
from .object_upload import multipart
from .routes import Answer, Call, Route

_MAX_CALLS = 100


class StorageBatch:
    """The calls go to this server itself, each with its own header or that of the whole request."""

    def __init__(self, store: ObjectStore, url: str) -> None:
        self._store = store
        self._url = url

    def routes(self) -> Iterable[Route]:
        yield Route(SERVICE, "batch", "POST", "/batch/storage/v1", self.batch)

    async def batch(self, call: Call) -> Answer:
        calls = multipart(call.request.headers.get("Content-Type", ""), await call.request.read())
        if not 0 < len(calls) <= _MAX_CALLS:
            raise InvalidArgument(f"A batch has 1 to {_MAX_CALLS} calls.")
        boundary = f"batch_{secrets.token_urlsafe(16)}"
        answers = [await self._answer(call, head, content) for head, content in calls]
        body = b"".join(b"--" + boundary.encode() + b"\r\n" + answer + b"\r\n" for answer in answers)
        return web.Response(
            body=body + b"--" + boundary.encode() + b"--",
            headers={"Content-Type": f"multipart/mixed; boundary={boundary}"},
        )

    async def _answer(self, call: Call, part: bytes, inner: bytes) -> bytes:
        head, _, body = inner.partition(b"\r\n\r\n")
        request_line, *lines = head.decode().splitlines()
        method, target, *_ = request_line.split(" ")
        headers = {"Authorization": call.request.headers["Authorization"], **_headers(lines)}
        path = target[target.index("/storage/") :]
        async with self._store.session.request(method, f"{self._url}{path}", headers=headers, data=body) as answer:
            content = await answer.read()
        status = f"HTTP/1.1 {answer.status} {answer.reason}\r\n"
        kept = f"Content-Type: {answer.headers.get('Content-Type', 'text/plain')}\r\nContent-Length: {len(content)}\r\n"
        id = _headers(part.decode().splitlines()).get("Content-ID", "<0>").strip("<>")
        outer = f"Content-Type: application/http\r\nContent-ID: <response-{id}>\r\n\r\n"
        return f"{outer}{status}{kept}\r\n".encode() + content


def _headers(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines if ":" in line)
    names = {"content-id": "Content-ID", "content-length": "Content-Length"}
    found = {names.get(name.strip().lower(), name.strip()): value.strip() for name, _, value in pairs}
    found.pop("Content-Length", None)
    return found
