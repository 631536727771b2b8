"""Answers with a result of which something was accumulated, made of its parts as they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..errors import AnswerTooLarge
from ..limits import KIB
from ..playbook.views import COLLECTED
from ..results.stores import ResultStores
from ..store.results import StoredResult
from ..tables.media_types import MANIFEST_WITH_TABLES, MEDIA_TYPES
from .accumulated import DOCUMENT_BYTES, as_written, check_memory, check_readable, document_of, pieces_of, size_of
from .content import (
    WHOLE_ANSWER_BYTES,
    chained,
    content_headers,
    head,
    not_modified,
    pieces,
    store_of,
    too_large,
    whole,
    with_accumulated,
)

# read before the answer begins
BEGINNING_BYTES: Final = 64 * KIB


async def accumulated_response(
    request: Request,
    stores: ResultStores,
    result: StoredResult,
    scratch: str,
    document: Mapping[str, Any] | None = None,
    *,
    streams: bool,
    fields: Sequence[str] = (),
) -> Response:
    """The answer to GET or HEAD: the whole value as JSON, of a length that is not known before, so that no range of it
    can be asked for. `scratch`: the folder for files; `document`: what names the parts, if it has been read; `streams`:
    as of `content`; `fields`: see `fields_of`.

    Raises ReferenceNotAvailable, AnswerTooLarge, NotAcceptable and ResultStoreUnavailable.
    """
    # it has other bytes than the object that names the parts
    headers = content_headers(f"{result.sha256}-json", result.content_type, result.title)
    headers = {**headers, "content-type": MEDIA_TYPES["json"], "accept-ranges": "none"}
    if (answer := not_modified(request, headers)) is not None:
        return answer
    if document is None:
        document = await accumulated_document(stores, result, scratch)
    headers = with_accumulated(headers, fields_of(document, fields))
    if request.method == "HEAD":
        return head(headers)
    check_memory(document)
    if not streams and (size := size_of(document)) > WHOLE_ANSWER_BYTES:
        raise AnswerTooLarge(
            f"the answer would have about {size} bytes, which this host cannot return: read its parts, which the list "
            "of results names",
            bytes=size,
            max_bytes=WHOLE_ANSWER_BYTES,
        )
    parts = pieces_of(document, stores, scratch)
    # of a result that is not large, all parts are known to be there before the answer begins
    first = b""
    async for piece in parts:
        first += piece
        if len(first) >= BEGINNING_BYTES:
            break
    if not streams:
        return Response(await whole(chained(first, parts)), headers=headers)
    return StreamingResponse(chained(first, parts), headers=headers)


def fields_of(document: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """Those that were accumulated: in parts, or so few that they are in the rest. `fields`: those of the playbook."""
    parts = document[COLLECTED]
    return [*parts, *(name for name in fields if name not in parts and name in document["rest"])]


async def accumulated_document(stores: ResultStores, result: StoredResult, scratch: str) -> dict[str, Any]:
    """What names the parts, with what was not accumulated. Raises ReferenceNotAvailable, AnswerTooLarge, NotAcceptable
    and ResultStoreUnavailable."""
    if result.content_type == MANIFEST_WITH_TABLES:
        from .stored_value import value_of

        check_readable(result.ref)
        return document_of(await value_of(stores, result, scratch), result)
    store = store_of(stores, result)
    if result.bytes > DOCUMENT_BYTES:
        raise await too_large(store, result, result.bytes)
    content = b"".join([piece async for piece in pieces(store, result, 0, result.bytes)])
    with as_written(result.ref):
        if hashlib.sha256(content).hexdigest() != result.sha256:
            raise ValueError("its bytes differ from those that were written")
        document = orjson.loads(content)
    return document_of(document, result)
