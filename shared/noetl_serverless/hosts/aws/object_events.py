"""What S3 says of the objects that are written to a bucket: by SNS, by SQS, or by EventBridge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

import orjson

from ...reconciler.objects import WrittenObject
from ..cloud.object_fields import instant, mapping


def written_objects(message: Mapping[str, Any]) -> Iterator[WrittenObject]:
    """Of a message of a queue; none for what is about something else."""
    inner = _inner(message)
    if inner.get("source") == "aws.s3" and inner.get("detail-type") == "Object Created":
        detail = mapping(inner.get("detail"))
        one = _object(mapping(detail.get("bucket")), mapping(detail.get("object")), inner.get("time"))
        if one is not None:
            yield one
        return
    records = inner.get("Records")
    for record in records if isinstance(records, list) else ():
        # as in ObjectCreated:Put, with or without s3: before it
        if ":" not in (name := str(mapping(record).get("eventName", ""))) or "ObjectCreated" not in name:
            continue
        s3 = mapping(record.get("s3"))
        named = mapping(s3.get("object"))
        # written as in a form, unlike by EventBridge
        key = unquote_plus(str(named.get("key", "")))
        one = _object(mapping(s3.get("bucket")), {**named, "key": key}, record.get("eventTime"))
        if one is not None:
            yield one


def _inner(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """What SNS carries in its envelope."""
    if "TopicArn" not in message:
        return message
    try:
        return mapping(orjson.loads(message.get("Message", "")))
    except orjson.JSONDecodeError:
        return {}


def _object(bucket: Mapping[str, Any], named: Mapping[str, Any], at: Any) -> WrittenObject | None:
    name, key, etag = bucket.get("name"), named.get("key"), named.get("eTag") or named.get("etag")
    if not isinstance(name, str) or not isinstance(key, str) or not key:
        return None
    version = named.get("versionId") or named.get("version-id")
    size = named.get("size")
    return WrittenObject(
        scheme="s3",
        bucket=name,
        key=key,
        # the sequencer is that of the write, of which S3 may tell twice
        revision=str(version or f"{etag}:{named.get('sequencer', '')}"),
        bytes=size if isinstance(size, int) else None,
        etag=etag if isinstance(etag, str) else None,
        at=instant(at),
    )
