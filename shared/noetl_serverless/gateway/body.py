"""Reading a request's body within bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.requests import Request

from ..errors import InvalidRequest, TooLarge, TooSlow

# seconds in which a body has to come: who sends none holds up nobody for longer
BODY_SECONDS = 20.0


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object in the body, of at most `limit` bytes. Raises InvalidRequest, TooLarge or TooSlow.

    The media type must be JSON: a foreign page cannot make a browser send that without permission.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise InvalidRequest("Send the body as application/json")
    try:
        body = orjson.loads(await read_bytes(request, limit))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object")
    return body


async def read_bytes(request: Request, limit: int) -> bytes:
    """Raises TooLarge as soon as it exceeds the limit, whether or not its length was announced, and TooSlow."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limit:
                    raise TooLarge(f"The body is larger than {limit} bytes")
    except TimeoutError:
        raise TooSlow(f"The body has not come within {BODY_SECONDS:g} seconds") from None
    return bytes(content)
