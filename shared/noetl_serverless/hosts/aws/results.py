"""Results in S3."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from html import unescape
from urllib.parse import urlsplit

from ...errors import AccessDenied, Problem, Unavailable
from ...limits import KIB
from ...ports import StoredObject
from ...results.key import check_size, checked_key
from ...tools.aws_signature import UNSIGNED, Query, encode_path, signed_query
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
    in_parallel,
    merged,
)
from ..cloud.transport import ApiError, Response
from .api import Api, AwsError

# hashed without a thread
IN_PASSING_BYTES = 64 * KIB
# of one upload
MAX_PART_COUNT = 10_000
_CONTENT_TYPE = "application/octet-stream"
# the key of an upload that did not end, as it is listed: it holds the upload's id
_UNFINISHED = re.compile(r"(.+)\.([0-9a-f]+)\.upload", re.S)
# an object that another writes at this moment
_CONFLICT = 409
# 403 with another code is about the request, not about the key
_ABOUT_THE_KEY = ("AccessDenied", "Unknown")
_ABOUT_THE_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_ABOUT_THE_IDENTITY = ("ExpiredToken", "InvalidToken")


class S3ResultStore(RemoteObjects):
    """Objects below `s3://bucket/prefix`. A key is written once: keys contain the digest of their content, so writing
    one again would write the same bytes, and changes nothing."""

    name = "s3"

    def __init__(self, api: Api, url: str) -> None:
        """ValueError unless `url` names a bucket."""
        parts = urlsplit(url)
        if parts.scheme not in ("s3", "s3a") or not parts.netloc:
            raise ValueError(f"the result URL must be s3://bucket/prefix, not {url!r}")
        super().__init__(f"s3://{parts.netloc}")
        self._api = api
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        custom = api.account.custom_endpoint("s3")
        # a store that speaks like S3
        self._is_compatible = bool(custom)
        account = api.account
        # emulators need the bucket in the path, AWS itself in the host name; a dot there would not fit its certificate
        if custom is None and "." not in self._bucket:
            self._endpoint = f"https://{self._bucket}.s3.{account.region}.{account.domain}"
            self._root = "/"
        else:
            self._endpoint = custom or account.endpoint("s3")
            self._root = f"/{self._bucket}/"

    # -- writing

    async def put(self, key: str, data: bytes) -> StoredObject:
        path = self._path(key)
        headers = {"if-none-match": "*", "content-type": _CONTENT_TYPE}
        try:
            await self._send("PUT", path, headers=headers, body=data)
        except AwsError as error:
            await self._check_is_there(path, error)
        return StoredObject("s3", key, len(data))

    async def put_file(self, key: str, file: int, size: int) -> StoredObject:
        path = self._path(key)
        check_size(file, size)
        if size <= PART_BYTES:
            return await self.put(key, await asyncio.to_thread(os.pread, file, size, 0))
        try:
            await self._upload(path, file, size)
        except AwsError as error:
            raise self._failure(error) from error
        return StoredObject("s3", key, size)

    async def _upload(self, path: str, file: int, size: int) -> None:
        length = max(PART_BYTES, -(-size // MAX_PART_COUNT))
        begun = await self._send("POST", path, query=[("uploads", "")], headers={"content-type": _CONTENT_TYPE})
        id = _elements(begun.body.decode(), "UploadId")[0]
        etags: dict[int, str] = {}

        async def part(number: int) -> None:
            start = (number - 1) * length
            body = partial(file_chunks, file, start, min(length, size - start))
            # read twice, which costs less than memory for all parts that are under way
            digest = await asyncio.to_thread(_digest, body)
            query = [("partNumber", str(number)), ("uploadId", id)]
            headers = {"content-length": str(min(length, size - start))}
            answer = await self._send(
                "PUT", path, query=query, headers=headers, body=body, digest=digest, tries=PART_TRIES
            )
            etags[number] = answer.headers["etag"]

        is_whole = False
        try:
            await in_parallel(part, range(1, -(-size // length) + 1))
            is_whole = await self._complete(path, id, etags)
        finally:
            if not is_whole:
                # what cannot be aborted is listed, and deleted, like an object
                with suppress(AwsError, Problem):
                    await self._abort(path, id)

    async def _complete(self, path: str, id: str, etags: dict[int, str]) -> bool:
        """False if the object was there before."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etags[number]}</ETag></Part>" for number in sorted(etags)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        headers = {"if-none-match": "*", "content-type": "application/xml"}
        try:
            answer = await self._send("POST", path, query=[("uploadId", id)], headers=headers, body=body)
        except AwsError as error:
            await self._check_is_there(path, error)
            return False
        # S3 answers 200 before it knows
        text = answer.body.decode()
        if codes := _elements(text, "Code"):
            raise Unavailable(f"{self._where}: the upload could not be completed: {codes[0]}")
        return True

    async def _check_is_there(self, path: str, error: AwsError) -> None:
        """After a write that S3 refused as the object exists, or may exist. Raises what the error means if not."""
        if error.status == PRECONDITION_FAILED:
            return
        # the first of two answers to one request may have been lost
        if error.status == _CONFLICT or error.code == "NoSuchUpload":
            try:
                await self._send("HEAD", path)
                return
            except AwsError:
                raise Unavailable(f"{self._where}: another request for the same key was faster: {error}") from error
        raise self._failure(error) from error

    async def _abort(self, path: str, id: str) -> None:
        try:
            await self._send("DELETE", path, query=[("uploadId", id)])
        except AwsError as error:
            if error.code != "NoSuchUpload":
                raise self._failure(error) from error

    async def delete(self, key: str) -> None:
        path = self._path(key)
        if unfinished := _UNFINISHED.fullmatch(key):
            await self._abort(self._path(unfinished[1]), bytes.fromhex(unfinished[2]).decode())
            return
        try:
            await self._send("DELETE", path)
        except AwsError as error:
            if error.status != 404 or self._is_of_bucket(error):
                raise self._failure(error) from error

    # -- URLs

    async def signed_url(self, key: str, seconds: int, *, content_type: str, filename: str) -> str:
        """One that temporary credentials have signed ends with them, if that is earlier."""
        account = self._api.account
        parts = urlsplit(self._endpoint)
        path = encode_path(self._path(key))
        query = [("response-content-type", content_type), ("response-content-disposition", disposition(filename))]
        credentials = await account.current_credentials()
        signed = signed_query(
            credentials,
            account.region,
            "s3",
            parts.netloc,
            query,
            datetime.now(UTC),
            checked_seconds(seconds),
            path,
            UNSIGNED,
        )
        return f"{self._endpoint}{path}?{signed}"

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
        more = {"if-match": version} if version else {}
        return await self._send("GET", self._path(key), headers={**headers, **more}, tries=tries, read=read)

    async def _first_names(self, prefix: str) -> list[str]:
        query = [("list-type", "2"), ("max-keys", "1"), ("prefix", self._prefix + prefix)]
        text = (await self._send("GET", self._root, query=query)).body.decode()
        return [key.removeprefix(self._prefix) for key in _elements(text, "Key")]

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: dict[str, str] | None = None,
        body: Body = b"",
        digest: str | None = None,
        tries: int | None = None,
        read: Read | None = None,
    ) -> Response:
        if isinstance(body, bytes) and len(body) > IN_PASSING_BYTES:
            digest = await asyncio.to_thread(_digest, lambda: (body,))
        return await self._api.request(
            "s3",
            method,
            self._endpoint,
            path,
            query=query,
            headers=headers,
            body=body,
            digest=digest,
            timeout=TIMEOUT_SECONDS,
            tries=tries,
            read=read,
        )

    def _path(self, key: str) -> str:
        return f"{self._root}{self._prefix}{checked_key(key)}"

    def _version_of(self, answer: Response) -> str:
        return answer.headers.get("etag", "")

    def _listing_right(self) -> str:
        return "s3:ListBucket"

    def _is_refusal(self, error: ApiError) -> bool:
        return error.code in _ABOUT_THE_KEY

    def _is_of_bucket(self, error: ApiError) -> bool:
        return error.code == "NoSuchBucket" or error.code in _ABOUT_THE_REGION

    def _failure(self, error: ApiError) -> Exception:
        if error.code in _ABOUT_THE_REGION:
            region = self._api.account.region
            return AccessDenied(f"{self._where} is not in the region {region}: set AWS_REGION: {error}")
        return super()._failure(error)

    def _is_of_identity(self, error: ApiError) -> bool:
        return error.code in _ABOUT_THE_IDENTITY

    # -- listing

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix` and come after `after`, in order; those of uploads that did not end have the
        upload's id in them."""
        try:
            unfinished = [name for name in await self._unfinished(prefix) if name > after]
            async for name in merged(self._objects(prefix, after), unfinished):
                yield name
        except AwsError as error:
            raise self._failure(error) from error

    async def _objects(self, prefix: str, after: str) -> AsyncIterator[str]:
        if self._is_compatible:
            # some order keys by their folders, and begin elsewhere than asked for
            keys = [key async for key in self._listed(prefix, "")]
            for key in sorted(key for key in keys if key > after):
                yield key
            return
        async for key in self._listed(prefix, after):
            yield key

    async def _listed(self, prefix: str, after: str) -> AsyncIterator[str]:
        query = [("list-type", "2"), ("prefix", self._prefix + prefix)]
        if after:
            query.append(("start-after", self._prefix + after))
        token = ""
        while True:
            page = [*query, ("continuation-token", token)] if token else query
            text = (await self._send("GET", self._root, query=page)).body.decode()
            for key in _elements(text, "Key"):
                yield key.removeprefix(self._prefix)
            tokens = _elements(text, "NextContinuationToken")
            if not tokens:
                return
            token = tokens[0]

    async def _unfinished(self, prefix: str) -> Iterable[str]:
        """None, if this identity may not list them: then the bucket's own rule has to delete them."""
        query = [("uploads", ""), ("prefix", self._prefix + prefix)]
        marker: Query = ()
        found: list[str] = []
        while True:
            try:
                text = (await self._send("GET", self._root, query=[*query, *marker])).body.decode()
            except AwsError as error:
                if error.status in (403, 405, 501):
                    return []
                raise
            for upload in text.split("<Upload>")[1:]:
                key, id = _elements(upload, "Key")[0], _elements(upload, "UploadId")[0]
                # not every store looks at the prefix
                if key.startswith(self._prefix + prefix):
                    found.append(f"{key.removeprefix(self._prefix)}.{id.encode().hex()}.upload")
            if _elements(text, "IsTruncated") != ["true"]:
                return found
            marker = [
                ("key-marker", _elements(text, "NextKeyMarker")[0]),
                ("upload-id-marker", _elements(text, "NextUploadIdMarker")[0]),
            ]


def _digest(body: Callable[[], Iterable[bytes]]) -> str:
    found = hashlib.sha256()
    for chunk in body():
        found.update(chunk)
    return found.hexdigest()


def _elements(text: str, name: str) -> list[str]:
    """The texts of the elements of that name. S3's answer is flat enough to do without an XML parser, which is another
    import."""
    return [unescape(piece.partition(f"</{name}>")[0]) for piece in text.split(f"<{name}>")[1:]]
