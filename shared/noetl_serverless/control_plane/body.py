"""Reading what the caller sent, within bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from ..errors import InvalidRequest, TooLarge
from ..telemetry.http import faults_of
from .models import PATTERNS

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 10 * 1024 * 1024


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body. Raises TooLarge as soon as it exceeds the limit, whether or not its length was announced."""
    content_length = request.headers.get("content-length", "")
    if content_length.isdigit() and int(content_length) > limit:
        raise TooLarge(f"the body has {content_length} bytes; the limit is {limit}")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes")
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_body(model: type[M], body: bytes) -> M:
    """An absent body is an empty object. The JSON reader bounds nesting at 200. Raises InvalidRequest."""
    if b"NaN" in body or b"Infinity" in body:
        _refuse_constants(body)
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise _refusal(model, error, "body") from None


def parse_entry(model: type[M], value: Any) -> M:
    """A part of a body that has been read. Raises InvalidRequest."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _refusal(model, error, "body") from None


def parse_query(model: type[M], request: Request) -> M:
    """Raises InvalidRequest; the pointers are the names of the parameters."""
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise _refusal(model, error, "query") from None


def _refusal(model: type[BaseModel], error: ValidationError, part: str) -> InvalidRequest:
    """All mistakes; the message is about the first. For an unknown name it lists the known ones."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    unknown = [item["type"] == "extra_forbidden" and len(item["loc"]) == 1 for item in details]
    faults = [
        replace(fault, message=_unknown(model, str(item["loc"][0]), part)) if is_unknown else fault
        for fault, item, is_unknown in zip(faults_of(error, patterns=PATTERNS), details, unknown, strict=True)
    ]
    first = faults[0]
    place = f"{first.pointer.lstrip('/')}: " if first.pointer else ""
    message = first.message if unknown[0] else f"the {part} is not valid: {place}{first.message}"
    return InvalidRequest(message, faults=faults)


def _unknown(model: type[BaseModel], name: str, part: str) -> str:
    what = "field" if part == "body" else "parameter"
    known = ", ".join(field.alias or name for name, field in model.model_fields.items())
    return f"there is no {what} {name[:100]!r}; there {'are ' + known if known else 'is none'}"


def _refuse_constants(body: bytes) -> None:
    """NaN and Infinity, which pydantic reads, are not JSON and could not be written back."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
