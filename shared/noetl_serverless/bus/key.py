"""Encodes a bucket's keys as digests, so that any string may be a key and no token is stored in clear text."""

from __future__ import annotations

import hashlib


def encoded_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
