"""Objects: who may read and write them. fake-gcs-server keeps them.

Preconditions are looked at here: fake-gcs-server ignores most of them. Where a selection of fields is asked for
(`fields`) the answer has all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakValueDictionary

from aiohttp import web

from .buckets import SERVICE, Buckets, resource_of
from .conditions import Target
from .errors import ApiError, ConditionNotMet, InvalidArgument, NotFound, Unimplemented
from .identities import Caller
from .object_store import ObjectStore, Stored, passed_back, refused
from .object_upload import check_metadata, checksums, compare_checksums, expected_checksums, parts
from .policies import Policies
from .routes import Answer, Call, Handler, Identify, Route

_CONDITIONS = ("ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch")
_SHAPE = ("projection", "fields", "userProject")
_LISTING = [
    "prefix",
    "delimiter",
    "pageToken",
    "maxResults",
    "versions",
    "startOffset",
    "endOffset",
    "includeTrailingDelimiter",
    "matchGlob",
]
_INCOMPLETE = 308


@dataclass(frozen=True, slots=True)
class _Session:
    """A resumable upload: whoever knows its id may go on with it."""

    caller: Caller
    bucket: str
    name: str
    query: Mapping[str, str]


class Objects:
    def __init__(self, policies: Policies, buckets: Buckets, store: ObjectStore) -> None:
        self._policies = policies
        self._buckets = buckets
        self._store = store
        self._sessions: dict[str, _Session] = {}
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def routes(self) -> Iterable[Route]:
        objects, one = "/storage/v1/b/{bucket}/o", "/storage/v1/b/{bucket}/o/{object}"
        upload = "/upload/storage/v1/b/{bucket}/o"
        of_upload = ["uploadType", "name", "contentEncoding", *_CONDITIONS, *_SHAPE]
        of_one = ["generation", *_CONDITIONS, *_SHAPE]
        to = "b/{to_bucket}/o/{to_object}"
        yield _route("list", "GET", objects, self.list, [*_LISTING, *_SHAPE])
        yield _route("get", "GET", one, self.get, of_one)
        yield _route("get", "GET", f"/download{one}", self.get, of_one)
        yield _route("insert", "POST", upload, self.upload, [*of_upload, "upload_id"])
        yield _route("insert", "PUT", upload, self.resume, [*of_upload, "upload_id"], self._uploader)
        yield _route("patch", "PATCH", one, self.patch, of_one)
        yield _route("update", "PUT", one, self.patch, of_one)
        yield _route("delete", "DELETE", one, self.delete, of_one)
        yield _route("compose", "POST", f"{one}/compose", self.compose, [*_CONDITIONS, *_SHAPE])
        yield _route("rewrite", "POST", f"{one}/rewriteTo/{to}", self.copy, [*_CONDITIONS, *_SHAPE])
        yield _route("copy", "POST", f"{one}/copyTo/{to}", self.copy, [*_CONDITIONS, *_SHAPE])

    # -- reading

    async def list(self, call: Call) -> Answer:
        bucket = call.path["bucket"]
        target = Target(resource_of(bucket), "storage.googleapis.com/Bucket", call.query.get("prefix", ""))
        self._policies.check(call.caller, "storage.objects.list", resource_of(bucket), target)
        self._buckets.metadata(bucket)
        return _answer(await self._store.send("GET", call.request.raw_path))

    async def get(self, call: Call) -> Answer:
        bucket, name = call.path["bucket"], call.path["object"]
        self._check(call.caller, "get", bucket, name)
        self._buckets.metadata(bucket)
        if any(condition in call.query for condition in _CONDITIONS):
            _check_conditions(call.query, await self._existing(call))
        if call.query.get("alt") == "media":
            return await self._store.stream(call.request)
        return _answer(await self._store.send("GET", call.request.raw_path))

    # -- writing

    async def upload(self, call: Call) -> Answer:
        """All of it at once, or the beginning of a resumable upload; some go on with that by POST, too."""
        if "upload_id" in call.query:
            self._uploader(call.request)
            return await self.resume(call)
        kind = call.query.get("uploadType")
        body = await call.request.read()
        metadata: dict[str, Any] = {}
        content = body
        if kind == "multipart":
            metadata, content = parts(call.request.headers.get("Content-Type", ""), body)
        elif kind == "resumable":
            metadata, content = await call.document(), b""
        elif kind != "media":
            raise InvalidArgument(f"Invalid uploadType {kind!r}.")
        check_metadata(metadata)
        bucket, name = call.path["bucket"], call.query.get("name") or metadata.get("name")
        if not name:
            raise InvalidArgument("Required parameter: name")
        if kind == "resumable":
            return await self._begin(call, bucket, name, body)
        expected = expected_checksums(metadata, call.request.headers.get("X-Goog-Hash", ""))
        compare_checksums(expected, checksums(content))
        async with self._writing(call.caller, bucket, name, call.query) as before:
            stored = await self._send(call, body)
            self._on_written(stored, before)
        return _answer(stored)

    async def resume(self, call: Call) -> Answer:
        """A part of a resumable upload, or the question how much of it has arrived."""
        id = call.query["upload_id"]
        session = self._sessions[id]
        body = await call.request.read()
        async with self._writing(session.caller, session.bucket, session.name, session.query) as before:
            stored = await self._send(call, body)
            if stored.status != _INCOMPLETE and stored.is_success:
                self._sessions.pop(id, None)
                compare_checksums(
                    expected_checksums({}, call.request.headers.get("X-Goog-Hash", "")), stored.document()
                )
                self._on_written(stored, before)
        return _answer(stored)

    async def patch(self, call: Call) -> Answer:
        bucket, name = call.path["bucket"], call.path["object"]
        self._check(call.caller, "update", bucket, name)
        check_metadata(await call.document())
        async with self._lock(bucket, name):
            _check_conditions(call.query, await self._existing(call))
            stored = await self._send(call, await call.request.read())
            if stored.is_success:
                self._buckets.notify("OBJECT_METADATA_UPDATE", _shown(stored.document()))
        return _answer(stored)

    async def delete(self, call: Call) -> Answer:
        bucket, name = call.path["bucket"], call.path["object"]
        self._check(call.caller, "delete", bucket, name)
        async with self._lock(bucket, name):
            existing = await self._existing(call)
            _check_conditions(call.query, existing)
            stored = await self._send(call, b"")
            if stored.is_success:
                self._buckets.notify(self._ending(bucket, call.query.get("generation")), _shown(existing))
        return web.Response(status=204) if stored.is_success else _answer(stored)

    async def compose(self, call: Call) -> Answer:
        bucket, name = call.path["bucket"], call.path["object"]
        document = await call.document()
        if unknown := document.keys() - {"kind", "sourceObjects", "destination"}:
            raise InvalidArgument(f"Invalid JSON payload received. Unknown name {sorted(unknown)[0]!r}.")
        check_metadata(document.get("destination") or {})
        for source in document.get("sourceObjects") or []:
            if {field for field, value in source.items() if value is not None} - {"name"}:
                raise Unimplemented("The stand-in composes the live versions of objects only.")
            self._check(call.caller, "get", bucket, source["name"])
        async with self._writing(call.caller, bucket, name, call.query) as before:
            stored = await self._send(call, await call.request.read())
            self._on_written(stored, before)
        return _answer(stored)

    async def copy(self, call: Call) -> Answer:
        self._check(call.caller, "get", call.path["bucket"], call.path["object"])
        check_metadata(await call.document())
        async with self._writing(call.caller, call.path["to_bucket"], call.path["to_object"], call.query) as before:
            stored = await self._send(call, await call.request.read())
            self._on_written(stored, before)
        return _answer(stored)

    # --

    async def _begin(self, call: Call, bucket: str, name: str, body: bytes) -> Answer:
        async with self._writing(call.caller, bucket, name, call.query):
            stored = await self._send(call, body)
        query = parse_qs(urlsplit(stored.headers.get("Location", "")).query)
        for id in query.get("upload_id", []):
            self._sessions[id] = _Session(call.caller, bucket, name, dict(call.query))
        return _answer(stored)

    def _uploader(self, request: web.Request) -> Caller:
        session = self._sessions.get(request.query.get("upload_id", ""))
        if session is None:
            raise NotFound("There is no such upload.")
        return session.caller

    @contextlib.asynccontextmanager
    async def _writing(
        self, caller: Caller, bucket: str, name: str, query: Mapping[str, str]
    ) -> AsyncIterator[dict[str, Any] | None]:
        """Alone with the object, and only for those who may put it there: the one that is there now, or None.

        Who replaces an object deletes another.
        """
        self._check(caller, "create", bucket, name)
        self._buckets.metadata(bucket)
        async with self._lock(bucket, name):
            before = await self._store.metadata(bucket, name)
            if before is not None:
                self._check(caller, "delete", bucket, name)
            _check_conditions(query, before)
            yield before

    def _on_written(self, stored: Stored, before: Mapping[str, Any] | None) -> None:
        if not stored.is_success:
            return
        document = stored.document()
        written = _shown(document.get("resource", document))
        overwrote = {"overwroteGeneration": str(before["generation"])} if before else {}
        self._buckets.notify("OBJECT_FINALIZE", written, **overwrote)
        if before:
            by = str(written["generation"])
            self._buckets.notify(self._ending(written["bucket"]), _shown(dict(before)), overwrittenByGeneration=by)

    def _ending(self, bucket: str, generation: str | None = None) -> str:
        """What becomes of an object that is deleted or overwritten, or of the version that was named."""
        keeps = self._buckets.metadata(bucket).get("versioning", {}).get("enabled")
        return "OBJECT_ARCHIVE" if keeps and generation is None else "OBJECT_DELETE"

    def _check(self, caller: Caller, permission: str, bucket: str, name: str) -> None:
        resource = resource_of(bucket)
        target = Target(f"{resource}/objects/{name}", "storage.googleapis.com/Object")
        self._policies.check(caller, f"storage.objects.{permission}", resource, target)

    async def _existing(self, call: Call) -> dict[str, Any]:
        bucket, name = call.path["bucket"], call.path["object"]
        found = await self._store.metadata(bucket, name, call.query.get("generation"))
        if found is None:
            raise NotFound(f"No such object: {bucket}/{name}")
        return found

    async def _send(self, call: Call, body: bytes) -> Stored:
        request = call.request
        return await self._store.send(request.method, request.raw_path, request.headers, body)

    def _lock(self, bucket: str, name: str) -> asyncio.Lock:
        return self._locks.setdefault((bucket, name), asyncio.Lock())


def _route(
    method: str, verb: str, template: str, handler: Handler, query: Iterable[str], caller: Identify | None = None
) -> Route:
    async def handle(call: Call) -> Answer:
        try:
            return await handler(call)
        except ApiError as error:
            return refused(error)

    return Route(SERVICE, f"objects.{method}", verb, template, handle, list(query), caller)


def _check_conditions(query: Mapping[str, str], object: Mapping[str, Any] | None) -> None:
    """ConditionNotMet. An object that is not there has generation 0."""
    for field in ("generation", "metageneration"):
        name = f"if{field.title()}"
        actual = str(object[field]) if object else "0"
        if query.get(f"{name}Match", actual) != actual or query.get(f"{name}NotMatch") == actual:
            raise ConditionNotMet("At least one of the pre-conditions you specified did not hold.")


def _answer(stored: Stored) -> web.Response:
    """Without what a bucket with uniform access does not have."""
    headers = passed_back(stored.headers)
    headers.pop("Content-Length", None)
    if not stored.is_success or not stored.body.startswith(b"{"):
        return web.Response(status=stored.status, headers=headers, body=stored.body)
    return web.Response(status=stored.status, headers=headers, body=json.dumps(_shown(stored.document())).encode())


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in document.items() if name != "acl"}
    if "items" in shown:
        shown["items"] = [_shown(item) for item in shown["items"]]
    if "resource" in shown:
        shown["resource"] = _shown(shown["resource"])
    return shown
