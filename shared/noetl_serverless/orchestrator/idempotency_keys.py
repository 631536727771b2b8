"""Idempotency keys: each principal has its own, even if two choose the same text.

For the first principal that uses it, a key is stored as it is, where a release without principals looks for it. For any
other, it is stored as a hash of the principal and the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from ..records import IdempotentStart


def stored_keys(key: str, principal: Mapping[str, Any] | None) -> list[str]:
    """The forms in which the key may be stored for this principal."""
    return [key] if principal is None else [key, _principal_key(key, principal)]


def find_start(
    starts: Mapping[str, IdempotentStart], key: str, principal: Mapping[str, Any] | None
) -> IdempotentStart | str:
    """What the key has started for this principal; if nothing, the form to store it in. `starts`: by `stored_keys`.

    An execution without a known principal may have been started by this one.
    """
    unscoped = starts.get(key)
    if principal is None:
        return unscoped or key
    principal_key = _principal_key(key, principal)
    if principal_key in starts:
        return starts[principal_key]
    if unscoped is None:
        return key
    return unscoped if unscoped.principal in (None, principal) else principal_key


def _principal_key(key: str, principal: Mapping[str, Any]) -> str:
    # a namespace of its own, so that nobody can choose another principal's key
    text = orjson.dumps([principal, key], option=orjson.OPT_SORT_KEYS)
    return f"principal:{hashlib.sha256(text).hexdigest()}"
