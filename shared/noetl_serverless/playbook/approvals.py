"""Decisions: what answers an approval."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Final

MAX_COMMENT_CHARACTERS: Final = 2000
FIELDS: Final = frozenset({"approved", "comment"})


def fault_of(data: Any, fields: AbstractSet[str] = FIELDS) -> str | None:
    """Why `data` is no decision; None if it is one. `fields`: those that it may have."""
    known = isinstance(data, dict) and data.keys() <= fields
    if not known or not isinstance(data.get("approved"), bool):
        return 'answer with a decision: {"approved": true or false, "comment": "..."}'
    comment = data.get("comment")
    if comment is not None and not (isinstance(comment, str) and len(comment) <= MAX_COMMENT_CHARACTERS):
        return f"comment: this must be a text of at most {MAX_COMMENT_CHARACTERS} characters"
    return None
