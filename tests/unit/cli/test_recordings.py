"""What a recording of a running stack has of stored results."""

from __future__ import annotations

import base64
import gzip
import hashlib
from typing import Any

import pytest

from noetl_serverless.cli.client import Client
from noetl_serverless.cli.recordings import fetch_result

CONTENT = b'{"n": 41}'


class Stored(Client):
    def __init__(self, content: bytes) -> None:
        super().__init__("http://127.0.0.1:1", "token")
        self.content = content

    def get(self, path: str, /, timeout: float = 60.0, **query: Any) -> Any:
        return {"data": base64.b64encode(self.content[query["offset"] :][:4]).decode()}


def row(key: str) -> dict[str, Any]:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return {"key": key, "ref": "r", "bytes": len(CONTENT), "sha256": sha256, "content_type": "application/json"}


@pytest.mark.parametrize(("key", "content"), [("7/a.json", CONTENT), ("7/a.json.gz", gzip.compress(CONTENT))])
def test_what_is_not_as_it_was_written_is_left_out(key: str, content: bytes) -> None:
    found = fetch_result(Stored(content), "7", row(key), 1000)
    assert (found.content, found.left_out) == (content, None)
    for at in (0, len(content) - 1):
        damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        found = fetch_result(Stored(damaged), "7", row(key), 1000)
        assert (found.content, found.left_out) == (None, "changed"), f"byte {at} was changed"
