"""Ids in paths."""

from __future__ import annotations

from ...errors import NotFound
from ...store.ids import parse_id
from ..operation import Call


def execution_id_of(call: Call) -> int:
    """Raises NotFound if it cannot be an id."""
    text = call.path("execution_id")
    execution_id = parse_id(text)
    if execution_id is None:
        raise NotFound(f"there is no execution {text!r}")
    return execution_id
