"""Answers with the content of a result, streamed from its store, whole or in part."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..errors import AnswerTooLarge, Problem, ResultStoreUnavailable, Unsupported
from ..limits import ANSWER_BYTES, SIGNED_URL_SECONDS
from ..ports import ResultStore
from ..results.accumulated import MANIFEST_TYPE
from ..results.compression import error_of
from ..results.content import PIECE_BYTES, Truncated, compression_of, read
from ..results.headers import ACCUMULATED_HEADER
from ..results.reader import Reason, ReferenceNotAvailable
from ..results.stores import ResultStores
from ..results.urls import signed_url
from ..store.results import StoredResult
from ..tables.media_types import MANIFEST_WITH_TABLES

# what a function may answer where answers are not streamed: in base64, it is a third larger
WHOLE_ANSWER_BYTES: Final = ANSWER_BYTES * 3 // 4
_TOKEN: Final = re.compile(r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(\s*;\s*[\w.-]{1,50}=[\w.:+/-]{1,100})*", re.ASCII)
_NAME: Final = re.compile(r"[^\w.-]+", re.ASCII)
_ENDINGS: Final = {
    "application/json": ".json",
    MANIFEST_TYPE: ".json",
    MANIFEST_WITH_TABLES: ".json",
    "application/vnd.apache.arrow.stream": ".arrows",
    "application/vnd.apache.parquet": ".parquet",
    "application/x-ndjson": ".ndjson",
    "text/csv": ".csv",
    "text/plain": ".txt",
}


def media_type_of(text: str) -> str | None:
    """The type as a header may have it; None if it is none."""
    return text if len(text) <= 200 and _TOKEN.fullmatch(text) else None


async def content_response(
    request: Request, stores: ResultStores, result: StoredResult, *, streams: bool, accumulated: Sequence[str] = ()
) -> Response:
    """The answer to GET or HEAD. `streams`: whether this host can stream answers; `accumulated`: the fields that were.

    Raises ReferenceNotAvailable, RangeNotSatisfiable, AnswerTooLarge and ResultStoreUnavailable.
    """
    from .ranges import requested_range

    headers = with_accumulated(content_headers(result.sha256, result.content_type, result.title), accumulated)
    if (answer := not_modified(request, headers)) is not None:
        return answer
    is_head = request.method == "HEAD"
    part = None if is_head else requested_range(request.headers, result.bytes, headers["etag"])
    start, end = part or (0, result.bytes)
    status = 200 if part is None else 206
    headers["content-length"] = str(end - start)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{result.bytes}"
    store = store_of(stores, result)
    if not is_head and not streams and end - start > WHOLE_ANSWER_BYTES:
        raise await too_large(store, result, end - start)
    # before the answer begins: it may not be there any more, or not as it was
    if is_head or part is not None:
        await _check_size(store, result)
    if is_head:
        return Response(None, status, headers=headers)
    found = pieces(store, result, start, end) if part is not None else checked(store, result)
    first = await anext(found, b"")
    if not streams:
        # what is wrong with it is known before any of it is sent
        return Response(b"".join([piece async for piece in chained(first, found)]), status, headers=headers)
    return StreamingResponse(chained(first, found), status, headers=headers)


def not_modified(request: Request, headers: dict[str, str]) -> Response | None:
    """The answer to a reader who has what these headers describe."""
    from werkzeug.http import parse_etags, unquote_etag

    known, _ = unquote_etag(headers["etag"])
    # a proxy that compresses what it passes on makes the tag a weak one
    if not parse_etags(request.headers.get("if-none-match")).contains_weak(known or ""):
        return None
    return Response(None, 304, headers={name: headers[name] for name in ("etag", "cache-control", "vary")})


def head(headers: dict[str, str]) -> Response:
    """The answer to HEAD for what has a length that is not known before."""
    response = Response(None, headers=headers)
    del response.headers["content-length"]
    return response


async def _check_size(store: ResultStore, result: StoredResult) -> None:
    """Whether the object is there, and ends where it should, as far as the row says it. Raises ReferenceNotAvailable
    and ResultStoreUnavailable."""
    is_compressed = compression_of(result.key, result.meta) is not None
    size = (result.meta or {}).get("stored_bytes") if is_compressed else result.bytes
    try:
        found = await store.get_range(result.key, max(0, (size or 0) - 1), 2)
    except KeyError:
        raise gone(result.ref) from None
    except OSError as error:
        raise ResultStoreUnavailable(f"the result store does not answer: {error}") from error
    if size is not None and len(found) != min(size, 1):
        raise changed(result, "its size is another")


async def checked(store: ResultStore, result: StoredResult) -> AsyncIterator[bytes]:
    """All of the content. Its end comes only if its digest is the one that it was written with: a small one, not more
    than the first piece, is known to be right before any of it is sent. Raises ReferenceNotAvailable otherwise."""
    await _check_size(store, result)
    digest, last = hashlib.sha256(), b""
    async for piece in pieces(store, result, 0, result.bytes):
        if last and len(last) + len(piece) > PIECE_BYTES:
            yield last
            last = b""
        await asyncio.to_thread(digest.update, piece)
        last += piece
    if digest.hexdigest() != result.sha256:
        raise changed(result, "its SHA-256 is another")
    if last:
        yield last


def content_headers(tag: str, content_type: str, title: str) -> dict[str, str]:
    """Of a result that is read. `tag`: of its bytes; `title`: its name."""
    return {
        "etag": f'"{tag}"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "vary": "accept",
        # what users have put is shown by no browser as a page of this origin
        "content-disposition": f"attachment; filename*=UTF-8''{quote(_filename(title, content_type), safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "content-type": media_type_of(content_type) or "application/octet-stream",
    }


def with_accumulated(headers: dict[str, str], fields: Sequence[str]) -> dict[str, str]:
    """For whoever makes a table of the content, which does not show which of its tables is the whole one."""
    return {**headers, ACCUMULATED_HEADER: ",".join(quote(name, safe="") for name in fields)} if fields else headers


def filename(result: StoredResult) -> str:
    return _filename(result.title, result.content_type)


def _filename(title: str, content_type: str) -> str:
    name = _NAME.sub("_", title).strip("._")[:100] or "result"
    return name + _ENDINGS.get(content_type.partition(";")[0].strip().lower(), "")


def store_of(stores: ResultStores, result: StoredResult) -> ResultStore:
    """Raises ReferenceNotAvailable if this deployment does not have it."""
    try:
        return stores.named(result.store)
    except KeyError:
        raise ReferenceNotAvailable(
            f"{result.ref} is in the store {result.store!r}, which this deployment does not have"
        ) from None


def gone(ref: str, reason: Reason = "missing") -> ReferenceNotAvailable:
    what = "it has expired" if reason == "expired" else "it was deleted, or its store has lost it"
    return ReferenceNotAvailable(f"{ref} does not exist any more: {what}", reason)


def changed(result: StoredResult, why: str) -> ReferenceNotAvailable:
    return ReferenceNotAvailable(
        f"{result.ref} is damaged: {result.key} in the {result.store} store is not what was written: {why}", "changed"
    )


async def pieces(store: ResultStore, result: StoredResult, start: int, end: int) -> AsyncIterator[bytes]:
    """Raises ReferenceNotAvailable and ResultStoreUnavailable."""
    codec = compression_of(result.key, result.meta)
    bad_content = (Truncated, ValueError if codec not in ("gzip", "zstd") else error_of(codec))
    try:
        async for piece in read(store, result.key, start, end, codec):
            yield piece
    except KeyError:
        raise gone(result.ref) from None
    except bad_content as error:
        raise changed(result, str(error)) from error
    except OSError as error:
        raise ResultStoreUnavailable(f"the result store does not answer: {error}") from error


async def chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece


async def whole(pieces: AsyncIterator[bytes]) -> bytes:
    """For a host that cannot stream. Raises AnswerTooLarge."""
    found: list[bytes] = []
    size = 0
    async for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size > WHOLE_ANSWER_BYTES:
            raise AnswerTooLarge(
                f"the answer would have more than {WHOLE_ANSWER_BYTES} bytes, which this host cannot return: read the "
                "result as it is stored, in parts (Range)",
                max_bytes=WHOLE_ANSWER_BYTES,
            )
    return b"".join(found)


async def too_large(store: ResultStore, result: StoredResult, size: int) -> AnswerTooLarge:
    """With the URL that gives it, if the store gives any."""
    extra: dict[str, Any] = {"bytes": size, "max_bytes": WHOLE_ANSWER_BYTES}
    ways = f"request parts of up to {WHOLE_ANSWER_BYTES} bytes (Range)"
    try:
        url = await signed_url(store, result.key, SIGNED_URL_SECONDS, result.content_type, filename(result))
    except Unsupported:
        pass
    except Problem as problem:
        ways += f"; there is no URL to read it from: {problem.detail}"
    else:
        extra["url"] = url
        ways += ", or read it from `url`"
    return AnswerTooLarge(f"the answer would have {size} bytes, which this host cannot return: {ways}", **extra)
