"""Ids in paths."""

from __future__ import annotations

from ...errors import NotFound
from ...store.ids import parse_id
from ..operation import Call


def execution_id_of(call: Call) -> int:
    """Raises NotFound if it cannot be an id."""
    return _id(call, "execution_id", "execution")


def catalog_id_of(call: Call) -> int:
    """Raises NotFound if it cannot be an id."""
    return _id(call, "catalog_id", "playbook with the catalog id")


def _id(call: Call, parameter: str, what: str) -> int:
    text = call.path(parameter)
    found = parse_id(text)
    if found is None:
        raise NotFound(f"there is no {what} {text!r}")
    return found
