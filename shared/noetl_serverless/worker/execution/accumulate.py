"""Results of a task that runs several times in one step, such as the pages of a list, collected under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InvalidRequest
from ...playbook.plan import Accumulate
from ...results.extract import MISSING, at_path
from .domain import TooLarge


def accumulate(collected: dict[str, Any], accumulate: Accumulate, data: Any) -> None:
    """Add one result to `collected`, under the name that the task gives it. Raises TooLarge beyond max_items, and
    InvalidRequest for a result that cannot be added."""
    name = accumulate.name
    part = data if accumulate.path is None else at_path(data, accumulate.path)
    if part is MISSING:
        raise InvalidRequest(f"'{name}' collects {accumulate.path} of each result, which this one does not have")
    match accumulate.strategy:
        case "replace":
            collected[name] = part
        case "merge":
            if not isinstance(part, Mapping):
                raise InvalidRequest(f"'{name}' merges objects, and this result is a {type(part).__name__}")
            collected[name] = {**collected.get(name, {}), **part}
        case "concat":
            if not isinstance(part, list):
                raise InvalidRequest(f"'{name}' joins lists, and this result is a {type(part).__name__}")
            collected.setdefault(name, []).extend(part)
        case _:
            collected.setdefault(name, []).append(part)
    size = len(collected[name]) if isinstance(collected[name], list | dict) else 1
    if accumulate.max_items is not None and size > accumulate.max_items:
        raise TooLarge(f"'{name}' has {size} items; its max_items is {accumulate.max_items}")
