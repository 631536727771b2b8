"""What an upload says of its object, and whether its content is what it says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import google_crc32c

from .errors import InvalidArgument, Unimplemented
from .json_form import ANY_NAME, check

_FIELDS: Mapping[str, Any] = {
    "name": str,
    "cacheControl": str,
    "contentDisposition": str,
    "contentEncoding": str,
    "contentLanguage": str,
    "contentType": str,
    "crc32c": str,
    "customTime": str,
    "md5Hash": str,
    "metadata": {ANY_NAME: str},
    "storageClass": str,
}
_UNIMPLEMENTED = frozenset(["acl", "contexts", "eventBasedHold", "kmsKeyName", "owner", "retention", "temporaryHold"])
# as Google ignores them where a client sends them
_OUTPUT = frozenset(
    [
        "bucket",
        "componentCount",
        "etag",
        "generation",
        "id",
        "kind",
        "mediaLink",
        "metageneration",
        "selfLink",
        "size",
        "timeCreated",
        "timeStorageClassUpdated",
        "updated",
    ]
)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|\'([^\']+)\'|([^;\s]+))')


def check_metadata(document: Mapping[str, Any]) -> None:
    """Raises InvalidArgument, Unimplemented."""
    for name in document:
        if name in _UNIMPLEMENTED:
            raise Unimplemented(f"The stand-in does not implement the field {name} of an object.")
    check({name: value for name, value in document.items() if name not in _OUTPUT}, _FIELDS, "object")


def parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The metadata and the content of a multipart upload. InvalidArgument."""
    sections = multipart(content_type, body)
    if len(sections) != 2:
        raise InvalidArgument("A multipart upload has two parts.")
    try:
        metadata = json.loads(sections[0][1] or b"{}")
    except ValueError as error:
        raise InvalidArgument(f"Invalid multipart request: {error}") from None
    return metadata, sections[1][1]


def multipart(content_type: str, body: bytes) -> list[tuple[bytes, bytes]]:
    """The head and the content of each part. InvalidArgument."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise InvalidArgument("Invalid multipart request: the Content-Type has no boundary.")
    boundary = re.escape(next(group for group in found.groups() if group).encode())
    # some senders end lines with a line feed alone
    sections = re.split(rb"\r?\n--" + boundary, b"\n" + body)[1:-1]
    split = [_BLANK_LINE.split(section, 1) for section in sections]
    return [(head, content[0] if content else b"") for head, *content in split]


def expected_checksums(metadata: Mapping[str, Any], header: str) -> dict[str, str]:
    """`crc32c` and `md5Hash`, as far as the metadata or an X-Goog-Hash header has them."""
    named = {"crc32c": "crc32c", "md5": "md5Hash"}
    of_header = (part.strip().partition("=") for part in header.split(",") if part)
    found = {named[name]: value for name, _, value in of_header if name in named}
    return found | {name: metadata[name] for name in ("crc32c", "md5Hash") if metadata.get(name)}


def checksums(content: bytes) -> dict[str, str]:
    crc32c = google_crc32c.value(content).to_bytes(4, "big")
    return {
        "crc32c": base64.b64encode(crc32c).decode(),
        "md5Hash": base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
    }


def compare_checksums(expected: Mapping[str, str], actual: Mapping[str, Any]) -> None:
    """InvalidArgument."""
    for name, value in expected.items():
        if actual.get(name) not in (None, value):
            raise InvalidArgument(f"Provided {name} {value!r} doesn't match calculated {name} {actual[name]!r}.")
