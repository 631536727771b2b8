"""Results in Google Cloud Storage, over its JSON API."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from ...errors import AccessDenied, Problem, Unavailable
from ...ports import StoredObject
from ...results.key import check_size, checked_key
from ..cloud.connections import Body, Read
from ..cloud.objects import (
    PART_BYTES,
    PART_TRIES,
    PRECONDITION_FAILED,
    TIMEOUT_SECONDS,
    RemoteObjects,
    checked_seconds,
    disposition,
    file_chunks,
)
from ..cloud.transport import FIRST_PAUSE_SECONDS, ApiError, Response
from .api import Api
from .google import Google
from .signing import IamSigner, Signer, signed_url

_SERVICE = "storage"
_INCOMPLETE, _CANCELLED = 308, 499
_GONE = (404, 410)
_RECEIVED = re.compile(r"bytes=0-(\d+)")


class GcsResultStore(RemoteObjects):
    """Objects below `gs://bucket/prefix`. A key is written once: keys contain the digest of their content, so writing
    one again would write the same bytes, and changes nothing."""

    name = "gcs"

    def __init__(self, api: Api, url: str, signer: Signer) -> None:
        """ValueError unless `url` names a bucket."""
        parts = urlsplit(url)
        if parts.scheme not in ("gs", "gcs") or not parts.netloc:
            raise ValueError(f"the result URL must be gs://bucket/prefix, not {url!r}")
        super().__init__(f"gs://{parts.netloc}")
        self._api = api
        self._signer = signer
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._objects = f"/storage/v1/b/{quote(self._bucket, safe='')}/o"

    # -- writing

    async def put(self, key: str, data: bytes) -> StoredObject:
        query = self._inserting(key, "media")
        headers = {"content-type": "application/octet-stream"}
        try:
            await self._send("POST", f"/upload{self._objects}?{query}", headers=headers, body=data)
        except ApiError as error:
            self._check_is_there(error)
        return StoredObject(self.name, key, len(data))

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        check_size(file, size)
        if size <= PART_BYTES:
            return await self.put(key, await asyncio.to_thread(os.pread, file, size, 0))
        headers = {"x-upload-content-type": "application/octet-stream", "x-upload-content-length": str(size)}
        query = self._inserting(key, "resumable")
        try:
            begun = await self._send("POST", f"/upload{self._objects}?{query}", headers=headers)
        except ApiError as error:
            self._check_is_there(error)
            return StoredObject(self.name, key, size)
        try:
            written = await self._upload(begun.headers["location"], file, size)
        except ApiError as error:
            if error.status in _GONE:
                await self._check_is_whole(key, size, error)
            else:
                self._check_is_there(error)
        else:
            if written != size:
                await self.delete(key)
                raise Unavailable(f"{self._where}: the store took {written} bytes for all of {size}")
        return StoredObject(self.name, key, size)

    async def _upload(self, session: str, file: int, size: int) -> int:
        """The object appears with its last byte. Returns its size as the store has it."""
        try:
            answer = await self._send_all(session, file, size)
            return int(orjson.loads(answer.body)["size"])
        except BaseException:
            with suppress(ApiError, Problem):
                await self._send("DELETE", session)
            raise

    async def _send_all(self, session: str, file: int, size: int) -> Response:
        """In one request, which is resumed where it was cut."""
        offset, tries = 0, PART_TRIES
        while tries:
            headers = {"content-range": f"bytes {offset}-{size - 1}/{size}", "content-length": str(size - offset)}
            try:
                answer = await self._send(
                    "PUT", session, headers=headers, body=partial(file_chunks, file, offset, size - offset), tries=1
                )
            except (ApiError, Unavailable) as error:
                if isinstance(error, ApiError) and not error.is_transient:
                    raise
                await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (PART_TRIES - tries) * random.uniform(0.5, 1.0))
                # how much of it has arrived
                headers = {"content-range": f"bytes */{size}", "content-length": "0"}
                answer = await self._send("PUT", session, headers=headers, tries=PART_TRIES)
            if answer.status != _INCOMPLETE:
                return answer
            received = _RECEIVED.fullmatch(answer.headers.get("range", ""))
            arrived = int(received[1]) + 1 if received else 0
            tries = PART_TRIES if arrived > offset else tries - 1
            offset = arrived
        raise Unavailable(f"{self._where}: an upload makes no progress")

    def _inserting(self, key: str, kind: str) -> str:
        return urlencode({"uploadType": kind, "name": self._name(key), "ifGenerationMatch": "0"})

    def _check_is_there(self, error: ApiError) -> None:
        """After a write that was refused. Raises what the error means unless the object exists."""
        if error.status == PRECONDITION_FAILED:
            return
        if error.status in _GONE:
            raise AccessDenied(f"{self._where}: {error}") from error
        raise self._failure(error) from error

    async def _check_is_whole(self, key: str, size: int, error: ApiError) -> None:
        """When the upload is not known any more: it may have ended with an answer that was lost."""
        span = None
        with suppress(KeyError):
            span = await self._span(key, size - 1, 1)
        if span is None or span.total != size:
            raise Unavailable(f"{self._where}: an upload was lost: {error}") from error

    async def delete(self, key: str) -> None:
        try:
            await self._send("DELETE", self._path(key))
        except ApiError as error:
            if error.status != 404 or self._is_of_bucket(error):
                raise self._failure(error) from error

    # -- URLs

    async def signed_url(self, key: str, seconds: int, *, content_type: str, filename: str) -> str:
        return await signed_url(
            self._signer,
            self._bucket,
            self._name(key),
            checked_seconds(seconds),
            content_type=content_type,
            disposition=disposition(filename),
            endpoint=self._api.endpoint(_SERVICE),
        )

    # -- requests

    async def _read(
        self,
        key: str,
        *,
        headers: dict[str, str],
        version: str = "",
        tries: int | None = None,
        read: Read | None = None,
    ) -> Response:
        query = urlencode({"alt": "media"} | ({"generation": version} if version else {}))
        path = f"/download{self._path(key)}?{query}"
        return await self._send("GET", path, headers=headers, tries=tries, read=read)

    async def _first_names(self, prefix: str) -> list[str]:
        page = await self._page(prefix, maxResults="1")
        return [item["name"].removeprefix(self._prefix) for item in page.get("items", ())]

    async def _page(self, prefix: str, **more: str) -> dict[str, Any]:
        query = urlencode({"prefix": self._prefix + prefix, "fields": "items/name,nextPageToken", **more})
        return await self._api.json(_SERVICE, "GET", f"{self._objects}?{query}")

    async def _send(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Body = b"",
        tries: int | None = None,
        read: Read | None = None,
    ) -> Response:
        return await self._api.request(
            _SERVICE,
            method,
            path,
            headers=headers,
            body=body,
            timeout=TIMEOUT_SECONDS,
            tries=tries,
            accept=(_INCOMPLETE, _CANCELLED),
            read=read,
            # what has arrived of a part that was cut is asked for first
            fresh=not isinstance(body, bytes),
        )

    def _name(self, key: str) -> str:
        return f"{self._prefix}{checked_key(key)}"

    def _path(self, key: str) -> str:
        return f"{self._objects}/{quote(self._name(key), safe='')}"

    def _version_of(self, answer: Response) -> str:
        return answer.headers.get("x-goog-generation", "")

    def _listing_right(self) -> str:
        return "storage.objects.list"

    def _is_of_bucket(self, error: ApiError) -> bool:
        return "specified bucket does not exist" in str(error)

    # -- listing

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix`, in order. An upload that did not end is gone after a week, and never seen."""
        token = ""
        more = {"startOffset": self._prefix + after} if after else {}
        while True:
            try:
                page = await self._page(prefix, **more, **({"pageToken": token} if token else {}))
            except ApiError as error:
                raise self._failure(error) from error
            for item in page.get("items", ()):
                # the offset itself is listed, too
                if (key := item["name"].removeprefix(self._prefix)) > after:
                    yield key
            token = page.get("nextPageToken", "")
            if not token:
                return


def gcs_results(google: Google, url: str) -> GcsResultStore:
    """Objects below `gs://bucket/prefix`, read and written as the function's service account."""
    return GcsResultStore(google.api, url, IamSigner(google.api, google.metadata.email))
