"""Results of a task that runs several times in one step, such as the pages of a list, collected under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InvalidRequest
from ...playbook.plan import Accumulate
from ...results.extract import MISSING, at_path
from ...tables.table import Table
from .domain import TooLarge


def part_of(how: Accumulate, data: Any) -> Any:
    """What is collected of one result. Raises InvalidRequest for a result that cannot be added."""
    part = data if how.path is None else at_path(data, how.path)
    if part is MISSING:
        raise InvalidRequest(f"'{how.name}' collects {how.path} of each result, which this one does not have")
    if how.strategy == "merge" and not isinstance(part, Mapping):
        raise InvalidRequest(f"'{how.name}' merges objects, and {_named(how, part)}")
    if how.strategy == "concat" and not isinstance(part, list | Table):
        raise InvalidRequest(f"'{how.name}' joins lists, and {_named(how, part)}")
    return part


def _named(how: Accumulate, part: Any) -> str:
    """What there is instead of what is wanted, and what names another part."""
    if how.path is None:
        return f"this result is {_kind(part)}: name the part of it with output.accumulate.merge_path, as in $.rows"
    return f"{how.path} of this result is {_kind(part)}: output.accumulate.merge_path has to name another part"


def _kind(part: Any) -> str:
    match part:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case Mapping():
            return "an object"
    return "a list"


def add(collected: dict[str, Any], how: Accumulate, part: Any) -> None:
    """Add one part to `collected`, under the name that the task gives it. Raises TooLarge beyond max_items."""
    name = how.name
    match how.strategy:
        case "replace":
            collected[name] = part
        case "merge":
            collected[name] = {**collected.get(name, {}), **part}
        case "concat":
            collected.setdefault(name, []).extend(part)
        case _:
            collected.setdefault(name, []).append(part)
    check_items(how, len(collected[name]) if isinstance(collected[name], list | dict) else 1)


def check_items(how: Accumulate, size: int) -> None:
    """Raises TooLarge beyond max_items."""
    if how.max_items is not None and size > how.max_items:
        raise TooLarge(f"'{how.name}' has {size} items; its max_items is {how.max_items}")
