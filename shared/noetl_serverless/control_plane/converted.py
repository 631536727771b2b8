"""Answers with a result in the form that the request asks for: another one of a table, or one of its tables."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..errors import InvalidRequest, NotAcceptable
from ..limits import MIB
from ..tables.media_types import MEDIA_TYPES, Form, form_named
from .content import chained, content_headers, head, media_type_of, not_modified, whole
from .in_threads import in_threads

# JSON is read as a whole
MAX_JSON_BYTES: Final = 64 * MIB
# these need no pyarrow, where the result is JSON
_OF_JSON: Final[Sequence[Form]] = ("json", "ndjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A result as it is stored. `load`: its value, with tables in it; `bytes`: what that has in memory, as JSON;
    `accumulated`: the fields that were."""

    ref: str
    title: str
    content_type: str
    bytes: int
    sha256: str
    load: Callable[[], Awaitable[Any]]
    accumulated: Sequence[str] = ()


async def converted(request: Request, given: Given, table: str | None, *, streams: bool) -> Response | None:
    """None if the result is wanted as it is stored. `table`: the one that is meant; `streams`: as of `content`.

    Raises NotAcceptable, InvalidRequest, AnswerTooLarge, and what `load` raises.
    """
    stored = (media_type_of(given.content_type) or "application/octet-stream").partition(";")[0].strip().lower()
    forms = _forms(given)
    # the stored one first: it is what is given if any will do
    offered = list(dict.fromkeys([*([stored] if table is None else []), *(MEDIA_TYPES[form] for form in forms)]))
    wanted = _best(request, offered)
    if wanted == stored and table is None:
        return None
    form = None if wanted is None else form_named(wanted)
    if form is None:
        raise _not_acceptable(request, given, offered or [stored])
    headers = _headers(given, form, table)
    if (answer := not_modified(request, headers)) is not None:
        return answer
    try:
        value = await given.load()
        is_json = form_named(given.content_type) == "json" and not given.accumulated
        pieces, first = await asyncio.to_thread(_begun, value, form, table, given.accumulated, is_json)
    except _NoTable as error:
        if table is not None or error.tables:
            raise InvalidRequest(f"{error}: choose one with `table`", tables=error.tables) from error
        if _best(request, [stored]) is not None:
            return None
        raise _not_acceptable(request, given, [stored], str(error)) from error
    except ValueError as error:
        raise _not_acceptable(request, given, [stored], str(error)) from error
    if request.method == "HEAD":
        return head(headers)
    rest = in_threads(pieces)
    if not streams:
        return Response(await whole(chained(first, rest)), headers=headers)
    return StreamingResponse(chained(first, rest), headers=headers)


def is_wanted_as_stored(request: Request, stored: str) -> bool:
    """Whether it is, in whatever forms it can be had."""
    return _best(request, list(dict.fromkeys([stored, *MEDIA_TYPES.values()]))) == stored


def _forms(given: Given) -> list[Form]:
    """Those that can be had here, of what may be a table."""
    form = form_named(given.content_type)
    if form == "arrow":
        return list(MEDIA_TYPES) if _has_pyarrow() else []
    if form == "json" and given.bytes <= MAX_JSON_BYTES:
        return [*_OF_JSON, *(it for it in MEDIA_TYPES if it not in _OF_JSON and _has_pyarrow())]
    return []


def _has_pyarrow() -> bool:
    return find_spec("pyarrow") is not None


def _best(request: Request, offered: Sequence[str]) -> str | None:
    from werkzeug.datastructures import MIMEAccept
    from werkzeug.http import parse_accept_header

    accept = request.headers.get("accept")
    if accept is None:
        return offered[0] if offered else None
    return parse_accept_header(accept, MIMEAccept).best_match(offered)


def _not_acceptable(request: Request, given: Given, offered: Sequence[str], why: str = "") -> NotAcceptable:
    accept = request.headers.get("accept", "")
    if not why and given.bytes > MAX_JSON_BYTES and form_named(given.content_type) == "json":
        why = f"it has about {given.bytes} bytes of JSON, and up to {MAX_JSON_BYTES} are converted"
    reason = f": {why}" if why else ""
    return NotAcceptable(
        f"{given.ref} cannot be had as {accept[:200] or 'a table'}{reason}. It can be had as {', '.join(offered)}",
        available=list(offered),
    )


def _headers(given: Given, form: Form, table: str | None) -> dict[str, str]:
    part = "" if table is None else "-" + hashlib.sha256(table.encode()).hexdigest()[:16]
    headers = content_headers(f"{given.sha256}-{form}{part}", MEDIA_TYPES[form], given.title)
    # its length is not known before, so that no range of it can be asked for
    return {**headers, "accept-ranges": "none"}


class _NoTable(Exception):
    """Never leaves this module."""

    def __init__(self, message: str, tables: Sequence[str]) -> None:
        super().__init__(message)
        self.tables = list(tables)


def _begun(
    value: Any, form: Form, table: str | None, accumulated: Sequence[str] = (), is_json: bool = False
) -> tuple[Iterator[bytes], bytes]:
    """The pieces, and the first of them, for which what has no such form fails. Raises _NoTable and ValueError."""
    from ..tables.export import NoTable, pieces

    try:
        found = pieces(value, form, table, accumulated, is_json=is_json)
        return found, next(found, b"")
    except NoTable as error:
        raise _NoTable(str(error), error.tables) from error
    except NotImplementedError as error:
        # of pyarrow, for a type that Parquet lacks
        raise ValueError(str(error)) from error
