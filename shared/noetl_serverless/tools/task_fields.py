"""The faults in the fields of a playbook's tasks, as their tools see them, with their places in the document."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ..errors import Fault
from ..playbook.document import Document, plain_data
from . import registry

# resolved by the compiler, not run by a tool
INLINED = "workbook"

Path = tuple[str | int, ...]


def faults_of(document: Document, known: Collection[str]) -> list[Fault]:
    """`known`: pointers to places that have a fault already; these, and what contains one, get no second one."""
    faults = []
    for path, task in _tasks(document):
        kind = task.get("kind")
        if not isinstance(kind, str) or kind == INLINED:
            continue
        for fault in registry.check(kind, plain_data(task)):
            at = document.fault(fault.message, (*path, *_parts(fault.pointer)), fault.code)
            if not any(f"{pointer}/".startswith(f"{at.pointer}/") for pointer in known):
                faults.append(at)
    return faults


def _tasks(document: Document) -> Iterator[tuple[Path, dict[str, Any]]]:
    for section in ("workflow", "workbook"):
        items = document.value((section,))
        for index, item in enumerate(items if isinstance(items, list) else ()):
            tool = item.get("tool") if isinstance(item, dict) else None
            if isinstance(tool, dict):
                yield (section, index, "tool"), tool
            for place, task in enumerate(tool if isinstance(tool, list) else ()):
                if isinstance(task, dict):
                    yield (section, index, "tool", place), task


def _parts(pointer: str) -> Path:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    return tuple(int(part) if part.isdigit() else part for part in parts)
