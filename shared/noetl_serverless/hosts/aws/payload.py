"""A request as an HTTP API passes it to a function (payload format 2.0), and the answer in that format."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any


def request_event(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """`path` is decoded, `query` is not; `headers` by lower-case name."""
    try:
        text, encoded = body.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": dict(headers),
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "stage": "$default",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "", "userAgent": ""},
        },
        "body": text,
        "isBase64Encoded": encoded,
    }


def response_body(answer: Mapping[str, Any]) -> bytes:
    text: str = answer.get("body") or ""
    return base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
