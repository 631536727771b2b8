"""What Cloud Storage says of the objects that are written to a bucket, as Pub/Sub pushes it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import orjson

from ...reconciler.objects import WrittenObject
from ..cloud.object_fields import instant, mapping


def written_object(body: bytes) -> WrittenObject | None:
    """Of a push; None if it is about something else, or no push at all."""
    message = mapping(mapping(_json(body)).get("message"))
    attributes = mapping(message.get("attributes"))
    if attributes.get("eventType") != "OBJECT_FINALIZE":
        return None
    bucket, key, generation = (attributes.get(name) for name in ("bucketId", "objectId", "objectGeneration"))
    if not isinstance(bucket, str) or not isinstance(key, str) or not isinstance(generation, str) or not key:
        return None
    details = _details(message.get("data"))
    size, etag = str(details.get("size", "")), details.get("etag")
    return WrittenObject(
        scheme="gs",
        bucket=bucket,
        key=key,
        revision=generation,
        bytes=int(size) if size.isdigit() else None,
        etag=etag if isinstance(etag, str) else None,
        at=instant(attributes.get("eventTime")),
    )


def _details(data: Any) -> Mapping[str, Any]:
    """Of the object, if the notification has them."""
    try:
        return mapping(_json(base64.b64decode(data)))
    except (binascii.Error, TypeError, ValueError):
        return {}


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
