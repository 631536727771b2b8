"""Reading what the caller sent, within bounds."""

from __future__ import annotations

from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from ..errors import InvalidRequest, TooLarge
from ..telemetry.http import faults_of

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 10 * 1024 * 1024


async def read_body(request: Request) -> bytes:
    """The body. Raises TooLarge as soon as it exceeds the limit, whether or not its length was announced."""
    content_length = request.headers.get("content-length", "")
    if content_length.isdigit() and int(content_length) > MAX_BODY_BYTES:
        raise TooLarge(f"the body has {content_length} bytes; the limit is {MAX_BODY_BYTES}")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_body(model: type[M], body: bytes) -> M:
    """An absent body is an empty object. The JSON reader bounds nesting at 200. Raises InvalidRequest."""
    if b"NaN" in body or b"Infinity" in body:
        _refuse_constants(body)
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise InvalidRequest(_summary(error, "body"), faults=faults_of(error)) from None


def parse_query(model: type[M], request: Request) -> M:
    """Raises InvalidRequest; the pointers are the names of the parameters."""
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise InvalidRequest(_unknown(model, error) or _summary(error, "query"), faults=faults_of(error)) from None


def _unknown(model: type[BaseModel], error: ValidationError) -> str | None:
    """If the first mistake is an unknown parameter: a message that lists the known ones."""
    error_details = error.errors()[0]
    if error_details["type"] != "extra_forbidden":
        return None
    known = ", ".join(field.alias or name for name, field in model.model_fields.items())
    return (
        f"there is no parameter {str(error_details['loc'][0])[:100]!r}; there {'are ' + known if known else 'is none'}"
    )


def _refuse_constants(body: bytes) -> None:
    """NaN and Infinity, which pydantic reads, are not JSON and could not be written back."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


def _summary(error: ValidationError, part: str) -> str:
    fault = faults_of(error)[0]
    place = f"{fault.pointer.lstrip('/')}: " if fault.pointer else ""
    return f"the {part} is not valid: {place}{fault.message}"
