"""The faults in the fields of a playbook's tasks, as their tools see them, with their places in the document."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import Fault, pointer_keys
from ..playbook.document import Document, plain_data
from ..playbook.grammar import RESOLVED_KINDS
from ..playbook.task_places import tasks_of
from . import registry

# resolved by the compiler, not run by a tool
INLINED = "workbook"


def faults_of(document: Document, known: Collection[str]) -> list[Fault]:
    """`known`: pointers to places that have a fault already; these, and what contains one, get no second one. A task of
    the workbook that no step uses may lack fields."""
    used = {task.get("name") for path, task in tasks_of(document.root) if task.get("kind") == INLINED}
    faults = []
    for path, task in tasks_of(document.root):
        kind = task.get("kind")
        if not isinstance(kind, str) or kind in RESOLVED_KINDS:
            continue
        is_unused = path[0] == INLINED and document.value((*path[:2], "name")) not in used
        for fault in registry.check(kind, plain_data(task)):
            if is_unused and fault.code == "playbook.missing_field":
                continue
            at = document.fault(fault.message, (*path, *_parts(fault.pointer)), fault.code, key=fault.of_key)
            if not any(f"{pointer}/".startswith(f"{at.pointer}/") for pointer in known):
                faults.append(at)
    return faults


def _parts(pointer: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in pointer_keys(pointer))
