"""The content of an event, as templates read it."""

from __future__ import annotations

import base64
from typing import Any

import orjson


def event_data(content: bytes) -> dict[str, Any]:
    """As in CloudEvents: {"data"} is JSON, or text; what is neither is in base64, as {"data_base64"}."""
    try:
        return {"data": orjson.loads(content)}
    except orjson.JSONDecodeError:
        pass
    try:
        return {"data": content.decode()}
    except UnicodeDecodeError:
        return {"data": None, "data_base64": base64.b64encode(content).decode()}
