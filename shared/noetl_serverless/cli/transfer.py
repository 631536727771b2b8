"""Contents of results to and from the control plane, piece by piece; a transfer that was cut off goes on."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import unquote

from ..results.headers import ACCUMULATED_HEADER
from .client import RETRY_FOR_SECONDS, Client, StreamedAnswer
from .failure import Failure, Refused

PIECE_BYTES: Final = 1024 * 1024
PAUSE_SECONDS: Final = 0.2
# seconds without a byte after which a connection counts as cut
TIMEOUT: Final = 60.0
ANY: Final = "*/*"
# of what is sent as it is stored; that of what is made as it is sent says more than a digest
_DIGEST: Final = re.compile(r'"[0-9a-f]{64}"')

# (bytes so far, bytes in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Downloaded:
    bytes: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Described:
    """`accumulated`: the fields that a step has accumulated, of which the others may have a part."""

    content_type: str = ""
    accumulated: Sequence[str] = ()


class _Download:
    def __init__(self, accept: str | None) -> None:
        self.accept = {"Accept": accept} if accept else {}
        self.size = 0
        # None: what is made as it is sent has no length, and ends with its connection's
        self.total: int | None = -1
        self.etag = ""
        self.content_type = ""
        self.digest = hashlib.sha256()
        # of hosts that answer in parts only
        self.part_bytes: int | None = None
        # of one without a length: all of it has come
        self.has_ended = False

    @property
    def is_done(self) -> bool:
        return self.size == self.total or self.has_ended

    def headers(self) -> dict[str, str]:
        if not self.size and self.part_bytes is None:
            return self.accept
        end = "" if self.part_bytes is None else self.size + self.part_bytes - 1
        condition = {"If-Range": self.etag} if self.etag else {}
        return {"Range": f"bytes={self.size}-{end}", **condition, **self.accept}

    def begin(self, answer: StreamedAnswer) -> None:
        etag = answer.headers.get("etag", "")
        if self.size and etag != self.etag:
            raise Failure("the result has changed while it was read; read it again")
        if self.size and answer.status != 206:
            raise Failure(f"the result breaks off after {self.size} bytes, and is not given in parts; read it again")
        self.etag, self.content_type = etag, answer.headers.get("content-type", "")
        whole = answer.headers.get("content-range", "").rpartition("/")[2] or answer.headers.get("content-length", "")
        self.total = int(whole) if whole.isdecimal() else None


def described(client: Client, path: str) -> Described:
    """What a download would give. Raises Failure."""
    try:
        # without the header, the answer does not say what was accumulated
        with client.streaming("HEAD", path, headers={"Accept": ANY}, timeout=TIMEOUT) as answer:
            if answer.status == 200:
                named = answer.headers.get(ACCUMULATED_HEADER, "")
                fields = [unquote(name) for name in named.split(",") if name]
                return Described(answer.headers.get("content-type", ""), fields)
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"the control plane does not answer: {error}") from error
    # an answer to HEAD does not say why: the download does
    return Described()


class _Unwritten(Exception):
    """Whoever reads what is written has gone; of a connection that breaks it is said with the same exception. Never
    leaves this module."""

    def __init__(self, reason: BrokenPipeError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def download(
    client: Client, path: str, write: Callable[[bytes], Any], progress: Progress, accept: str | None = None
) -> Downloaded:
    """As it is stored, or as `accept`, a media type. Raises Refused, and Failure: if the control plane does not answer
    for RETRY_FOR_SECONDS, or for other bytes than those that were put; BrokenPipeError if `write` does."""
    state = _Download(accept)
    deadline = time.monotonic() + RETRY_FOR_SECONDS
    while not state.is_done:
        before = state.size
        try:
            _read_part(client, path, state, write, progress)
            failure: Exception | str = "it breaks off"
        except _Unwritten as error:
            raise error.reason from None
        except (OSError, http.client.HTTPException) as error:
            failure = error
        # a part of it that has come and was not written is in the exception
        come = state.size + (len(failure.partial) if isinstance(failure, http.client.IncompleteRead) else 0)
        if state.total is None and come and not state.is_done:
            raise Failure(
                f"the result breaks off after {come} bytes, since a part of it cannot be read: {failure}. "
                "The log of the control plane says why"
            )
        if state.size > before:
            deadline = time.monotonic() + RETRY_FOR_SECONDS
        elif not state.is_done:
            if time.monotonic() > deadline:
                raise Failure(f"the control plane does not answer: {failure}")
            time.sleep(PAUSE_SECONDS)
    if _DIGEST.fullmatch(state.etag) and state.etag != f'"{state.digest.hexdigest()}"':
        raise Failure("the result is damaged: its SHA-256 is not that of what was stored")
    return Downloaded(state.size, state.content_type)


def _read_part(client: Client, path: str, state: _Download, write: Callable[[bytes], Any], progress: Progress) -> None:
    with client.streaming("GET", path, headers=state.headers(), timeout=TIMEOUT) as answer:
        if answer.status == 503:
            raise OSError(_problem(answer).get("detail", "it is not available"))
        if answer.status not in (200, 206):
            problem = _problem(answer)
            is_too_large = problem.get("code") == "answer.too_large" and "max_bytes" in problem
            # what is converted as it is sent is not given in parts
            if is_too_large and state.part_bytes is None and not state.accept:
                state.part_bytes = int(problem["max_bytes"])
                _read_part(client, path, state, write, progress)
                return
            raise Refused(answer.status, problem)
        state.begin(answer)
        while piece := answer.read(PIECE_BYTES):
            try:
                write(piece)
            except BrokenPipeError as error:
                raise _Unwritten(error) from None
            except OSError as error:
                raise Failure(f"the result cannot be written: {error.strerror or error}") from error
            state.digest.update(piece)
            state.size += len(piece)
            progress(state.size, state.total or 0)
        # http.client says of one without a length if it was cut
        state.has_ended = state.total is None


def upload(
    client: Client,
    path: str,
    file: IO[bytes],
    size: int,
    *,
    content_type: str,
    key: str,
    progress: Progress,
) -> dict[str, Any]:
    """The whole of an open file. `key`: an idempotency key, with which it is sent again if the connection is lost.
    Raises Refused, and Failure."""
    headers = {"Content-Type": content_type, "Content-Length": str(size), "Idempotency-Key": key}
    deadline = time.monotonic() + RETRY_FOR_SECONDS
    while True:
        file.seek(0)
        try:
            with client.streaming("PUT", path, headers=headers, body=_Reading(file, size, progress)) as answer:
                if answer.status == 200:
                    found: dict[str, Any] = json.loads(answer.read())
                    return found
                problem = _problem(answer)
                if answer.status != 503:
                    raise Refused(answer.status, problem)
            failure: Exception | str = str(problem.get("detail"))
        except (OSError, http.client.HTTPException) as error:
            failure = error
        if time.monotonic() > deadline:
            raise Failure(f"the control plane does not take the result: {failure}")
        time.sleep(PAUSE_SECONDS)


class _Reading:
    """A file that tells how much of it has been read."""

    def __init__(self, file: IO[bytes], size: int, progress: Progress) -> None:
        self._file, self._size, self._progress = file, size, progress
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._done += len(piece)
        self._progress(self._done, self._size)
        return piece


def _problem(answer: StreamedAnswer) -> Mapping[str, Any]:
    raw = answer.read()
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"detail": raw.decode(errors="replace")[:1000] or "it was refused"}
