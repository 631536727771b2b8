"""The faults in the fields of a playbook's tasks, as their tools see them, with their places in the document."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import Fault, pointer_keys
from ..playbook.document import Document, plain_data
from ..playbook.task_places import tasks_of
from . import registry

# resolved by the compiler, not run by a tool
INLINED = "workbook"


def faults_of(document: Document, known: Collection[str]) -> list[Fault]:
    """`known`: pointers to places that have a fault already; these, and what contains one, get no second one."""
    faults = []
    for path, task in tasks_of(document.root):
        kind = task.get("kind")
        if not isinstance(kind, str) or kind == INLINED:
            continue
        for fault in registry.check(kind, plain_data(task)):
            at = document.fault(fault.message, (*path, *_parts(fault.pointer)), fault.code, key=fault.of_key)
            if not any(f"{pointer}/".startswith(f"{at.pointer}/") for pointer in known):
                faults.append(at)
    return faults


def _parts(pointer: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in pointer_keys(pointer))
