"""How a key looks in a bucket: a digest, so that any string may be one and no token lies there in clear."""

from __future__ import annotations

import hashlib


def encoded_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
