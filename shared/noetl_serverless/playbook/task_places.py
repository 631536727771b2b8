"""Where the tasks of a document stand, before its grammar has been looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def tasks_of(root: Any) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """The tasks in the steps and in the workbook of a playbook that may be faulty, or of the definition of a tool, each
    with its path."""
    if isinstance(root, dict) and root.get("kind") == "Tool":
        if isinstance(root.get("tool"), dict):
            yield ("tool",), root["tool"]
        return
    for section in ("workflow", "workbook"):
        items = root.get(section) if isinstance(root, dict) else None
        for index, item in enumerate(items if isinstance(items, list) else ()):
            tool = item.get("tool") if isinstance(item, dict) else None
            if isinstance(tool, dict):
                yield (section, index, "tool"), tool
            for place, task in enumerate(tool if isinstance(tool, list) else ()):
                if isinstance(task, dict):
                    yield (section, index, "tool", place), task
