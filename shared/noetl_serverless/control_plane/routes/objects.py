"""Results in PostgreSQL for workers that do not reach it: written and read chunk by chunk, as they are."""

from __future__ import annotations

from uuid import UUID

from starlette.responses import Response

from ...errors import NotFound
from ...results.chunked import CHUNK_BYTES, SIZE_HEADER, UPLOAD_HEADER
from ..body import read_body
from ..models.objects import BeginObject, FinishObject, ObjectStatus, PutChunk, PutObject, ReadChunk, ReadObject
from ..operation import WORKERS, Call, Operation

OCTETS = "application/octet-stream"


async def put(call: Call) -> ObjectStatus:
    query: PutObject = call.query
    data = await read_body(call.request, query.chunk_bytes)
    store = call.services.worker_results(query.worker_id, query.chunk_bytes)
    status = await store.put_whole(query.key, UUID(query.upload), data, bytes.fromhex(query.sha256))
    return ObjectStatus.model_validate({"status": status})


async def begin(call: Call) -> ObjectStatus:
    body: BeginObject = call.body
    store = call.services.worker_results(body.worker_id, body.chunk_bytes)
    return ObjectStatus.model_validate({"status": await store.begin(body.key, UUID(body.upload))})


async def put_chunk(call: Call) -> ObjectStatus:
    query: PutChunk = call.query
    data = await read_body(call.request, CHUNK_BYTES)
    store = call.services.worker_results(query.worker_id, CHUNK_BYTES)
    return ObjectStatus.model_validate({"status": await store.put_chunk(UUID(query.upload), query.number, data)})


async def finish(call: Call) -> ObjectStatus:
    body: FinishObject = call.body
    store = call.services.worker_results(body.worker_id, CHUNK_BYTES)
    status = await store.finish(body.key, UUID(body.upload), body.bytes, bytes.fromhex(body.sha256))
    return ObjectStatus.model_validate({"status": status})


async def read(call: Call) -> Response:
    query: ReadObject = call.query
    part = await call.services.worker_results("", CHUNK_BYTES).read_part(query.key, query.offset, query.length)
    if part is None:
        raise NotFound(f"there is no object {query.key!r}")
    return Response(
        part.data, media_type=OCTETS, headers={UPLOAD_HEADER: str(part.upload), SIZE_HEADER: str(part.size)}
    )


async def read_chunk(call: Call) -> Response:
    query: ReadChunk = call.query
    data = await call.services.worker_results("", CHUNK_BYTES).read_more(UUID(query.upload), query.offset, query.length)
    if data is None:
        raise NotFound("it has been deleted, or ends before")
    return Response(data, media_type=OCTETS)


OPERATIONS = (
    Operation(
        "putObject",
        "PUT",
        "/api/worker/objects",
        summary="Write a result of one chunk into the database, below an execution of which the worker holds a lease",
        tag="commands",
        roles=WORKERS,
        handler=put,
        answer=ObjectStatus,
        query=PutObject,
        content_body=True,
        audited=False,
    ),
    Operation(
        "readObject",
        "GET",
        "/api/worker/objects",
        summary="Read the part of a result in the database that lies in one chunk",
        tag="commands",
        roles=WORKERS,
        handler=read,
        answer=ObjectStatus,
        query=ReadObject,
        content_answer="always",
    ),
    Operation(
        "beginObject",
        "POST",
        "/api/worker/objects/begin",
        summary="Begin to write a result of several chunks into the database",
        tag="commands",
        roles=WORKERS,
        handler=begin,
        answer=ObjectStatus,
        body=BeginObject,
        audited=False,
    ),
    Operation(
        "putObjectChunk",
        "PUT",
        "/api/worker/objects/chunks",
        summary="Write a chunk of such a result",
        tag="commands",
        roles=WORKERS,
        handler=put_chunk,
        answer=ObjectStatus,
        query=PutChunk,
        content_body=True,
        audited=False,
    ),
    Operation(
        "readObjectChunk",
        "GET",
        "/api/worker/objects/chunks",
        summary="Read a further part of a result in the database",
        tag="commands",
        roles=WORKERS,
        handler=read_chunk,
        answer=ObjectStatus,
        query=ReadChunk,
        content_answer="always",
    ),
    Operation(
        "finishObject",
        "POST",
        "/api/worker/objects/finish",
        summary="End the writing of a result of several chunks: from now on it can be read",
        tag="commands",
        roles=WORKERS,
        handler=finish,
        answer=ObjectStatus,
        body=FinishObject,
        audited=False,
    ),
)
