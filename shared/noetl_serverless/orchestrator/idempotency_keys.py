"""Idempotency keys: each principal has its own, though two choose the same.

The first who uses a key has it written as it is, where a release that knows no principals looks for it; any other has
it written together with who it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from ..records import IdempotentStart


def stored_keys(key: str, principal: Mapping[str, Any] | None) -> list[str]:
    """What the key may be written as, for this principal."""
    return [key] if principal is None else [key, _bound(key, principal)]


def find_start(
    found: Mapping[str, IdempotentStart], key: str, principal: Mapping[str, Any] | None
) -> IdempotentStart | str:
    """What the key has started for this principal; if nothing, what it is to be written as. `found`: of `names_of`.

    What was started by nobody that is known may have been this principal's.
    """
    known = found.get(key)
    if principal is None:
        return known or key
    bound = _bound(key, principal)
    if bound in found:
        return found[bound]
    if known is None:
        return key
    return known if known.principal in (None, principal) else bound


def _bound(key: str, principal: Mapping[str, Any]) -> str:
    # a name space of its own: nobody can choose a key that is another's
    text = orjson.dumps([principal, key], option=orjson.OPT_SORT_KEYS)
    return f"principal:{hashlib.sha256(text).hexdigest()}"
