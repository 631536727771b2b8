"""Small results in a JetStream key-value bucket."""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from typing import Any

import nats.js.errors
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from ..errors import Conflict, Unsupported
from ..limits import KIB
from ..ports import ResultStore, StoredObject
from ..results.key import checked_key
from ..results.stores import KV
from ..results.whole import WholeObjects
from .connection import NatsConnection
from .nats import create_stream

BUCKET = "results"
# what a message has beside its data
HEADER_BYTES = 1 * KIB
# of a subject: the line that a client sends with it has 4096 at most
MAX_SUBJECT_BYTES = 2 * KIB
# seconds for a page of a listing, and how long one of the whole bucket is kept
LIST_SECONDS = 10.0
LISTED_SECONDS = 60.0
# errors of the server
WRITTEN_ALREADY, NO_STREAM = 10071, 10059
_PLAIN = re.compile(r"[A-Za-z0-9_-]*")
_OTHER = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")


class NatsResultStore(WholeObjects, ResultStore):
    """An entry of the bucket for each object, of at most `MAX_BYTES["kv"]` bytes (see `results.stores`). A key is
    written once; what is deleted leaves nothing behind. Entries have no age: a result lives as long as its execution
    needs it. In a cluster, `replicas` nodes have the bucket, in files.

    On the stream `KV_<bucket>`, whoever writes publishes to `$KV.<bucket>.>`, whoever reads asks
    `$JS.API.DIRECT.GET` and `$JS.API.STREAM.MSG.GET`, whoever lists `$JS.API.STREAM.INFO`, and whoever deletes
    `$JS.API.STREAM.PURGE`; who comes first creates it.
    """

    name = KV

    def __init__(self, connection: NatsConnection | str, bucket: str = BUCKET, *, replicas: int = 1) -> None:
        self._connection = NatsConnection(connection) if isinstance(connection, str) else connection
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._replicas = replicas
        # the keys of the whole bucket, for who goes on with them
        self._listed: Sequence[str] = ()
        self._listed_until = 0.0

    async def put(self, key: str, data: bytes) -> StoredObject:
        """Raises Conflict if the key has other bytes, Unsupported if the server takes no message of this size."""
        subject = self._subject(key)
        if not await self._connection.run_with_retry(lambda: self._write(subject, data), self._create):
            # by somebody else, or by us, and the confirmation was lost
            if (found := await self._find(subject)) is not None and found != data:
                raise Conflict(f"{key} has been written already, with other bytes")
            if found is None:
                # and has been deleted since
                return await self.put(key, data)
        return StoredObject(self.name, key, len(data))

    async def get(self, key: str) -> bytes:
        found = await self._find(self._subject(key))
        if found is None:
            raise KeyError(key)
        return found

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return (await self.get(key))[offset : offset + length]

    async def delete(self, key: str) -> None:
        subject = self._subject(key)
        await self._connection.run_with_retry(lambda: self._purge(subject), self._create)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Who goes on with the keys of the whole bucket does not see what was put since he began, for a minute: NATS
        does not list from a key on."""
        # it filters by whole parts of a key
        folder, _, _ = prefix.rpartition("/")
        if folder and "" in folder.split("/"):
            return
        keys = await self._below(folder) if folder else await self._all(goes_on=after > "")
        for key in keys[bisect_left(keys, max(prefix, after)) :]:
            if not key.startswith(prefix):
                return
            if key > after:
                yield key

    async def _below(self, folder: str) -> Sequence[str]:
        subjects = f"{self._prefix}{_encoded(folder)}.>" if folder else f"{self._prefix}>"
        found = await self._connection.run_with_retry(lambda: self._subjects(subjects), self._create)
        return sorted(map(self._key, found))

    async def _all(self, *, goes_on: bool) -> Sequence[str]:
        now = asyncio.get_running_loop().time()
        if not goes_on or now > self._listed_until:
            self._listed, self._listed_until = await self._below(""), now + LISTED_SECONDS
        return self._listed

    # -- over one connection

    async def _write(self, subject: str, data: bytes) -> bool:
        """Whether it was written; False if something is there."""
        client = await self._connection.client()
        if len(data) + HEADER_BYTES > client.max_payload:
            raise Unsupported(
                f"the NATS server takes messages of at most {client.max_payload} bytes, and this result has "
                f"{len(data)}: set its max_payload to 1 MiB, or let results go elsewhere (NOETL_RESULT_AUTO)"
            )
        context = await self._connection.jetstream()
        try:
            await context.publish(subject, data, headers={"Nats-Expected-Last-Subject-Sequence": "0"})
        except nats.js.errors.APIError as error:
            if error.err_code == WRITTEN_ALREADY:
                return False
            raise
        return True

    async def _find(self, subject: str) -> bytes | None:
        return await self._connection.run_with_retry(lambda: self._read(subject), self._create)

    async def _read(self, subject: str) -> bytes | None:
        context = await self._connection.jetstream()
        # any node may answer, which is fast, but may not know yet what has just been written
        for direct in (True, False) if self._replicas > 1 else (True,):
            try:
                return (await context.get_last_msg(self._stream, subject, direct=direct)).data or b""
            except nats.js.errors.NotFoundError as error:
                if error.err_code == NO_STREAM:
                    raise
        return None

    async def _purge(self, subject: str) -> None:
        context = await self._connection.jetstream()
        await context.purge_stream(self._stream, subject=subject)

    async def _subjects(self, subjects: str) -> set[str]:
        client = await self._connection.client()
        found: set[str] = set()
        while True:
            request = {"subjects_filter": subjects, "offset": len(found)}
            answer = await client.request(
                f"$JS.API.STREAM.INFO.{self._stream}", json.dumps(request).encode(), timeout=LIST_SECONDS
            )
            info: dict[str, Any] = json.loads(answer.data)
            if "error" in info:
                raise nats.js.errors.APIError.from_error(info["error"])
            page = info["state"].get("subjects") or {}
            found |= page.keys()
            if not page or len(found) >= info.get("total", 0):
                return found

    async def _create(self) -> None:
        config = StreamConfig(
            name=self._stream,
            subjects=[f"{self._prefix}>"],
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            deny_delete=True,
            allow_direct=True,
        )
        await create_stream(await self._connection.jetstream(), config)

    # -- keys

    def _subject(self, key: str) -> str:
        subject = self._prefix + _encoded(checked_key(key))
        if len(subject) > MAX_SUBJECT_BYTES:
            raise ValueError(f"not a storage key of NATS, since it is too long: {key[:100]!r}...")
        return subject

    def _key(self, subject: str) -> str:
        return _decoded(subject.removeprefix(self._prefix))


def _encoded(key: str) -> str:
    """A key's parts as those of a subject, in the characters that keys of buckets may have."""
    return ".".join(map(_encoded_part, key.split("/")))


def _encoded_part(part: str) -> str:
    if _PLAIN.fullmatch(part):
        return part
    return _OTHER.sub(lambda found: b"=%02X" % ord(found[0]), part.encode()).decode()


def _decoded(subject: str) -> str:
    return "/".join(
        bytes(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), part), "latin-1").decode()
        for part in subject.split(".")
    )
