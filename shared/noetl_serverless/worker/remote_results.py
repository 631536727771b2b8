"""Results in PostgreSQL for a worker that does not reach it: through the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson

from ..errors import AccessDenied, NotFound, Unavailable
from ..ports import ResultStore
from ..results.chunked import CHUNK_BYTES, SIZE_HEADER, UPLOAD_HEADER, ChunkedObjects, Part
from ..results.stores import POSTGRES
from .client import ControlPlane

PATH = "/api/worker/objects"
# how long a call is tried before the store counts as away
TIMEOUT_SECONDS = 10.0


class RemoteResultStore(ChunkedObjects, ResultStore):
    """As `store.result_objects.WorkerResultStore`: the control plane sees to what the worker may write."""

    name = POSTGRES

    def __init__(self, client: ControlPlane, worker: str, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(chunk_bytes)
        self._client = client
        self._worker = worker

    async def delete(self, key: str) -> None:
        raise AccessDenied(f"a worker deletes no results: {key}")

    def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        raise AccessDenied(f"a worker lists no results: {prefix}")

    async def put_whole(self, key: str, upload: UUID, data: bytes, digest: bytes) -> str:
        query = {"key": key, "upload": upload, "chunk_bytes": self._chunk_bytes, "sha256": digest.hex()}
        return await self._write("PUT", f"{PATH}?{self._query(query)}", data)

    async def begin(self, key: str, upload: UUID) -> str:
        return await self._post("begin", {"key": key, "upload": upload, "chunk_bytes": self._chunk_bytes})

    async def put_chunk(self, upload: UUID, number: int, data: bytes) -> str:
        query = self._query({"upload": upload, "number": number})
        return await self._write("PUT", f"{PATH}/chunks?{query}", data)

    async def finish(self, key: str, upload: UUID, size: int, digest: bytes) -> str:
        return await self._post("finish", {"key": key, "upload": upload, "bytes": size, "sha256": digest.hex()})

    async def read_part(self, key: str, offset: int, length: int) -> Part | None:
        query = urlencode({"key": key, "offset": offset, "length": length})
        try:
            data, headers = await self._client.transfer("GET", f"{PATH}?{query}", timeout=TIMEOUT_SECONDS)
        except NotFound:
            return None
        return Part(UUID(headers[UPLOAD_HEADER.lower()]), int(headers[SIZE_HEADER.lower()]), data)

    async def read_more(self, upload: UUID, offset: int, length: int) -> bytes | None:
        query = urlencode({"upload": upload, "offset": offset, "length": length})
        try:
            data, _ = await self._client.transfer("GET", f"{PATH}/chunks?{query}", timeout=TIMEOUT_SECONDS)
        except NotFound:
            return None
        return data

    async def _post(self, what: str, body: dict[str, Any]) -> str:
        content = orjson.dumps({**body, "worker_id": self._worker}, default=str)
        return await self._write("POST", f"{PATH}/{what}", content)

    async def _write(self, method: str, path: str, body: bytes) -> str:
        try:
            content, _ = await self._client.transfer(method, path, body, timeout=TIMEOUT_SECONDS)
        except NotFound as error:
            raise Unavailable("the control plane is of a release that takes no results for PostgreSQL") from error
        return str(orjson.loads(content)["status"])

    def _query(self, parameters: dict[str, Any]) -> str:
        return urlencode({**parameters, "worker_id": self._worker})
