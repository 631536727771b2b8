"""Where the tasks of a document stand, before its grammar has been looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def tasks_of(root: Any) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """The tasks in the steps, in what undoes them and in the workbook of a playbook that may be faulty, or of the
    definition of a tool, each with its path."""
    if isinstance(root, dict) and root.get("kind") == "Tool":
        if isinstance(root.get("tool"), dict):
            yield ("tool",), root["tool"]
        return
    for section in ("workflow", "workbook"):
        items = root.get(section) if isinstance(root, dict) else None
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict):
                yield from _inside(item, (section, index))
                if isinstance(item.get("compensate"), dict):
                    yield from _inside(item["compensate"], (section, index, "compensate"))


def _inside(
    item: dict[str, Any], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    tool = item.get("tool")
    if isinstance(tool, dict):
        yield (*path, "tool"), tool
    for place, task in enumerate(tool if isinstance(tool, list) else ()):
        if isinstance(task, dict):
            yield (*path, "tool", place), task
