"""What the object stores of clouds have in common: large objects in parts, and what is missing told from what is
refused."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from ...errors import AccessDenied, Unavailable
from ...limits import MIB, SIGNED_URL_SECONDS
from ...results.disk import Duplicate, write_at
from ...results.key import checked_key
from .connections import Read
from .transport import ApiError, Response

# of one part: large enough for few requests, small enough to be sent again
PART_BYTES = 8 * MIB
# read and sent, or received and written, at a time
CHUNK_BYTES = 1 * MIB
# parts of one object under way at once
MAX_PARTS = 4
# a part over a slow line
TIMEOUT_SECONDS = 60.0
# of a request for a part: what is lost otherwise is all parts before it
PART_TRIES = 5
# how long parts that are under way are waited for when another has failed
STOP_SECONDS = 10.0
PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE = 412, 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an object, and how large the object is."""

    data: bytes = field(repr=False)
    total: int


class _IntoFile:
    """Writes an answer to its place in a file as it comes, again from the beginning if it is asked for again."""

    def __init__(self, file: int, start: int) -> None:
        # a thread may go on when nobody waits any more, and whoever has opened the file closes it
        self._file = Duplicate(file)
        self._requested = start
        # where what was written begins, how much it is, and the size of the object
        self.start = self.written = self.total = 0

    def __call__(self, response: http.client.HTTPResponse) -> bytes:
        self.written = 0
        expected = response.length
        if found := _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "")):
            first, last, self.total = (int(number) for number in found.groups())
            if first != self._requested:
                raise http.client.HTTPException("the answer is not the part that was asked for")
            self.start, expected = first, last - first + 1
        buffer = bytearray(CHUNK_BYTES)
        with memoryview(buffer) as view:
            while count := response.readinto(view):
                write_at(self._file.fileno(), view[:count], self.start + self.written)
                self.written += count
        if expected is not None and self.written != expected:
            raise http.client.IncompleteRead(b"", expected - self.written)
        # all of it, from a server that knows no ranges
        self.total = self.total if found else self.written
        return b""


def _range(start: int, length: int) -> dict[str, str]:
    return {"range": f"bytes={start}-{start + length - 1}"}


class RemoteObjects(ABC):
    """A result store that is asked by HTTP. `where`: its URL, for messages."""

    def __init__(self, where: str) -> None:
        self._where = where

    @abstractmethod
    async def _read(
        self,
        key: str,
        *,
        headers: dict[str, str],
        version: str = "",
        tries: int | None = None,
        read: Read | None = None,
    ) -> Response:
        """The object, or the range that the headers say; only in that version, if one is named. Raises ApiError."""

    @abstractmethod
    async def _first_names(self, prefix: str) -> list[str]:
        """The first keys with this prefix, in order, or none. Raises ApiError."""

    @abstractmethod
    def _version_of(self, answer: Response) -> str: ...

    @abstractmethod
    def _listing_right(self) -> str:
        """What an identity needs for being told that an object is missing."""

    # -- reading

    async def get(self, key: str) -> bytes:
        checked_key(key)
        try:
            return (await self._read(key, headers={})).body
        except ApiError as error:
            raise await self._reason(key, error) from None

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        checked_key(key)
        span = await self._span(key, offset, max(length, 1))
        return b"" if span is None else span.data[: max(length, 0)]

    async def get_file(self, key: str, file: int) -> int:
        checked_key(key)
        first = _IntoFile(file, 0)
        answer = await self._part(key, 0, PART_BYTES, first)
        if answer is None:
            return 0
        version = self._version_of(answer)

        async def part(start: int) -> None:
            span = _IntoFile(file, start)
            length = min(PART_BYTES, first.total - start)
            answer = await self._part(key, start, length, span, version)
            if answer is None or (span.start, span.written, span.total) != (start, length, first.total):
                raise Unavailable(f"{self._where}: {key!r} has changed while it was read")

        await in_parallel(part, range(first.written, first.total, PART_BYTES))
        return first.total

    async def _part(self, key: str, start: int, length: int, into: _IntoFile, version: str = "") -> Response | None:
        """None if the object ends before it."""
        headers = _range(start, length)
        try:
            return await self._read(key, headers=headers, version=version, tries=PART_TRIES, read=into)
        except ApiError as error:
            if error.status == RANGE_NOT_SATISFIABLE:
                return None
            if error.status == PRECONDITION_FAILED:
                raise Unavailable(f"{self._where}: {key!r} has changed while it was read") from error
            raise await self._reason(key, error) from None

    async def _span(self, key: str, start: int, length: int) -> Span | None:
        """None if the object ends before it."""
        try:
            answer = await self._read(key, headers=_range(start, length))
        except ApiError as error:
            if error.status == RANGE_NOT_SATISFIABLE:
                return None
            raise await self._reason(key, error) from None
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if answer.status == 200 or found is None:
            # all of it, where the range covers it, or from a server that knows no ranges
            return Span(answer.body[start : start + length], len(answer.body))
        first, last, total = (int(number) for number in found.groups())
        if first != start or last - first + 1 != len(answer.body):
            raise Unavailable(f"{self._where}: the answer is not the part of {key!r} that was asked for")
        return Span(answer.body, total)

    # -- errors

    async def _reason(self, key: str, error: ApiError) -> Exception:
        """What an error of reading means: KeyError, AccessDenied, Unavailable, or the error itself."""
        if error.status == 404 and not self._is_of_bucket(error):
            return KeyError(key)
        if error.status != 403 or not self._is_refusal(error):
            return self._failure(error)
        # to who may not list, what is missing is forbidden
        try:
            names = await self._first_names(key)
        except ApiError as refusal:
            if refusal.is_transient:
                return self._failure(refusal)
            return AccessDenied(
                f"{self._where} refuses {key!r}: {error.code}. It may also be missing: the store says the same of what "
                f"does not exist to an identity that lacks {self._listing_right()}",
                may_be_missing=True,
            )
        if key not in names[:1]:
            return KeyError(key)
        return AccessDenied(f"{self._where} has {key!r} and refuses it: {error.code}")

    def _failure(self, error: ApiError) -> Exception:
        """What an error means that says nothing of a key."""
        if error.is_transient:
            return Unavailable(f"{self._where}: {error}")
        if error.status in (401, 403) or self._is_of_bucket(error) or self._is_of_identity(error):
            return AccessDenied(f"{self._where}: {error}")
        return error

    def _is_refusal(self, error: ApiError) -> bool:
        """Of 403: whether it is about the key, not about the request."""
        return True

    def _is_of_bucket(self, error: ApiError) -> bool:
        return False

    def _is_of_identity(self, error: ApiError) -> bool:
        return False


def file_chunks(file: int, start: int, length: int) -> Iterator[bytes]:
    """A part of an open file; EOFError if the file ends before the part does."""
    end = start + length
    while start < end:
        chunk = os.pread(file, min(CHUNK_BYTES, end - start), start)
        if not chunk:
            raise EOFError(f"the file ends after {start} bytes, before {end}")
        yield chunk
        start += len(chunk)


async def in_parallel(work: Callable[[int], Awaitable[None]], items: Iterable[int], limit: int = MAX_PARTS) -> None:
    """`work` for each item, a few at once. When one fails, no more is begun, and what is under way is waited for."""
    rest = iter(items)
    is_over = False

    async def worker() -> None:
        nonlocal is_over
        for item in rest:
            try:
                await work(item)
            except BaseException:
                is_over = True
                raise
            if is_over:
                return

    tasks = [asyncio.create_task(worker()) for _ in range(limit)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        is_over = True
        if under_way := [task for task in tasks if not task.done()]:
            # a request cannot be called back: one that came in after all was taken back would be left behind
            _, slow = await asyncio.wait(under_way, timeout=STOP_SECONDS)
            for task in slow:
                task.cancel()
            if slow:
                await asyncio.wait(slow)
    failures = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failures:
        raise failures[0]


async def merged(first: AsyncIterator[str], others: Iterable[str]) -> AsyncIterator[str]:
    """Both, each in order, in order."""
    rest = sorted(others, reverse=True)
    async for name in first:
        while rest and rest[-1] < name:
            yield rest.pop()
        yield name
    while rest:
        yield rest.pop()


def checked_seconds(seconds: int) -> int:
    """ValueError unless a URL can be good for that long."""
    if not 0 < seconds <= SIGNED_URL_SECONDS:
        raise ValueError(f"a URL is good for 1 to {SIGNED_URL_SECONDS} s, not for {seconds}")
    return seconds


def disposition(filename: str) -> str:
    """The header Content-Disposition for saving under that name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
