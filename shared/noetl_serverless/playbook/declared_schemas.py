"""The schemas that a playbook declares for its workload and its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import pointer_keys
from . import model
from .document import Path, plain_data
from .faults import Faults
from .json_schema import check as check_value
from .json_schema import validate_schema
from .json_schema.references import walk
from .plan import Plan

_NO_DEFAULTS = {
    "input": "'default' has no effect in a schema: write the default into 'workload', where it has one",
    "result": "'default' has no effect in a schema: a result has the values that the step returns",
}


def check(schemas: model.Schemas, faults: Faults) -> None:
    for name, written in (("input", schemas.input), ("result", schemas.result)):
        if written is None:
            continue
        schema, place = plain_data(written), ("schemas", name)
        found = validate_schema(schema)
        for fault in found:
            faults.add(fault.message, (*place, *path_in(schema, fault.pointer)), "playbook.schema")
        if name == "input" and not found and not _may_be_object(schema):
            faults.add(
                "the input is an object: write type: object, with 'properties'", (*place, "type"), "playbook.schema"
            )
        for path, part in walk(schema) if not found else ():
            if isinstance(part, dict) and "default" in part:
                faults.add(_NO_DEFAULTS[name], (*place, *path, "default"), "playbook.schema", key=True)


def _may_be_object(schema: Any) -> bool:
    if not isinstance(schema, dict) or "type" not in schema:
        return True
    types = schema["type"]
    return "object" in (types if isinstance(types, list) else [types])


def check_defaults(plan: Plan, faults: Faults) -> None:
    """Warn of defaults that no start could leave as they are. One that is missing may be given by the start."""
    if plan.input_schema is None:
        return
    for fault in check_value(plan.input_schema, dict(plan.workload)):
        if fault.pointer and fault.given != "nothing":
            path: Path = ("workload", *path_in(plan.workload, fault.pointer))
            faults.add(f"this default does not fit schemas.input: {fault.message}", path, "playbook.unfit_value")


def path_in(value: Any, pointer: str) -> Sequence[str | int]:
    """The parts of a JSON pointer, those in lists as indexes."""
    path: list[str | int] = []
    for key in pointer_keys(pointer):
        part: str | int = int(key) if isinstance(value, list) and key.isdecimal() else key
        path.append(part)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return path
