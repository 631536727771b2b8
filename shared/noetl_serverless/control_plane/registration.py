"""Turns a playbook's text into its catalog entry, or reports all faults at once."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from ..errors import Fault, InvalidPlaybook
from ..playbook.document import Document as Source
from ..playbook.document import plain_data
from ..playbook.load import read_playbook
from ..store.catalog import NewPlaybook
from ..tools import registry
from ..tools.plans import load_document

# a playbook has colons, which base64 does not have
BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
# resolved by the compiler, not run by a tool
INLINED = "workbook"

Path = tuple[str | int, ...]


def document_of(content: str, *, strict: bool = False) -> NewPlaybook:
    """Raises InvalidPlaybook with all faults of the playbook itself and of its tools' fields; `strict`: older forms are
    faults, too, instead of warnings."""
    text = as_text(content)
    document = read_playbook(text)
    faults: list[Fault] = []
    plan = None
    try:
        plan = load_document(document, strict=strict).plan
    except InvalidPlaybook as error:
        faults += error.faults or [Fault(error.detail)]
    faults += _tool_faults(document, {fault.pointer for fault in faults})
    if plan is None or faults:
        faults.sort(key=lambda fault: (fault.line or 0, fault.column or 0))
        raise InvalidPlaybook(str(faults[0]), faults=faults)
    root = plain_data(document.root)
    return NewPlaybook(
        path=plan.path,
        kind=root["kind"],
        content=text,
        hash=plan.hash,
        meta=root["metadata"],
        payload=dict(plan.workload),
        steps=len(plan.steps),
        warnings=tuple(document.warnings),
    )


def as_text(content: str) -> str:
    """The YAML text, decoded if it came in base64."""
    if not BASE64.fullmatch(content):
        return content
    try:
        return base64.b64decode("".join(content.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return content


def _tool_faults(source: Source, known: set[str]) -> list[Fault]:
    """The faults in the fields of each task's tool, without those at a place that has one already, or in which one
    is."""
    faults = []
    for path, task in _tasks(source):
        kind = task.get("kind")
        if not isinstance(kind, str) or kind == INLINED:
            continue
        for fault in registry.check(kind, plain_data(task)):
            at = source.fault(fault.message, (*path, *_parts(fault.pointer)), fault.code)
            if not any(f"{pointer}/".startswith(f"{at.pointer}/") for pointer in known):
                faults.append(at)
    return faults


def _tasks(source: Source) -> Iterator[tuple[Path, dict[str, Any]]]:
    for section in ("workflow", "workbook"):
        items = source.value((section,))
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
