"""Results in S3."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from html import unescape
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from ...ports import StoredObject
from ...results.store import chunks_of
from .api import Api, AwsError

# a large object over a slow line
TIMEOUT_SECONDS = 120.0


class S3ResultStore:
    """Objects below `s3://bucket/prefix`. A key is written once: keys contain the digest of their content, so writing
    one again would write the same bytes, and changes nothing."""

    name = "s3"

    def __init__(self, api: Api, url: str) -> None:
        """ValueError unless `url` names a bucket."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"the result URL must be s3://bucket/prefix, not {url!r}")
        self._api = api
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        custom = api.account.custom_endpoint("s3")
        account = api.account
        # emulators need the bucket in the path, AWS itself in the host name
        self._endpoint = custom or f"https://{self._bucket}.s3.{account.region}.{account.domain}"
        self._root = f"/{self._bucket}/" if custom else "/"

    async def put(self, key: str, data: bytes) -> StoredObject:
        path = self._path(key)
        headers = {"if-none-match": "*", "content-type": "application/octet-stream"}
        try:
            await self._api.request(
                "s3", "PUT", self._endpoint, path, headers=headers, body=data, timeout=TIMEOUT_SECONDS
            )
        except AwsError as error:
            # 412: the object exists already; 409: another writer is writing it at this moment
            if error.status not in (409, 412):
                raise
        return StoredObject("s3", key, len(data))

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        return await self.put(key, b"".join(chunks_of(file, size)))

    async def get_file(self, key: str, file: int) -> int:
        return os.pwrite(file, await self.get(key), 0)

    async def get(self, key: str) -> bytes:
        try:
            return (await self._api.request("s3", "GET", self._endpoint, self._path(key), timeout=TIMEOUT_SECONDS)).body
        except AwsError as error:
            if _absent(error):
                raise KeyError(key) from None
            raise

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        headers = {"range": f"bytes={offset}-{offset + length - 1}"}
        path = self._path(key)
        try:
            return (
                await self._api.request("s3", "GET", self._endpoint, path, headers=headers, timeout=TIMEOUT_SECONDS)
            ).body
        except AwsError as error:
            if _absent(error):
                raise KeyError(key) from None
            # the object ends before the range begins
            if error.status == 416:
                return b""
            raise

    async def delete(self, key: str) -> None:
        await self._api.request("s3", "DELETE", self._endpoint, self._path(key))

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix` and come after `after`, in order."""
        query = [("list-type", "2"), ("prefix", self._prefix + prefix)]
        if after:
            query.append(("start-after", self._prefix + after))
        token = ""
        while True:
            page = [*query, ("continuation-token", token)] if token else query
            text = (await self._api.request("s3", "GET", self._endpoint, self._root, query=page)).body.decode()
            for key in _elements(text, "Key"):
                yield key.removeprefix(self._prefix)
            tokens = _elements(text, "NextContinuationToken")
            if not tokens:
                return
            token = tokens[0]

    def _path(self, key: str) -> str:
        parts = PurePosixPath(key).parts
        if not key or key.startswith("/") or any(part in ("..", ".") for part in parts):
            raise ValueError(f"not a storage key: {key!r}")
        return f"{self._root}{self._prefix}{key}"


def _absent(error: AwsError) -> bool:
    """Whether there is no such object. To callers that may not list the bucket, S3 reports that as access denied."""
    return error.status == 404 or (error.status, error.code) == (403, "AccessDenied")


def _elements(text: str, name: str) -> list[str]:
    """The texts of the elements of that name. S3's answer is flat enough to do without an XML parser, which is another
    import."""
    return [unescape(piece.partition(f"</{name}>")[0]) for piece in text.split(f"<{name}>")[1:]]
