"""Fields of a step's result that templates cannot read as STEP.field, because the step itself has one of that name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Final

from ..errors import pointer_keys
from .faults import Faults
from .plan import Plan, Step
from .sites import sites
from .template_places import find_place

# what StepView gives of the step in any case
OWN: Final = frozenset({"status", "error", "result"})
# what `output.select` cannot replace
NOT_SELECTED: Final = OWN | {"_ref"}
_OF_SQL: Final = frozenset({"rows", "row_count", "columns", "statement_count"})
# the fields of a tool's result, as far as all results of the kind have them
_OF_KINDS: Final = {
    "duckdb": _OF_SQL,
    "postgres": _OF_SQL,
    "http": frozenset({"data", "headers", "status_code", "url", "elapsed"}),
}


def known_fields(step: Step) -> frozenset[str]:
    """Of the step's result, those that every result of its last tool has."""
    return _OF_KINDS.get(step.tasks[-1].kind, frozenset()) if step.tasks else frozenset()


def check(plan: Plan, faults: Faults) -> None:
    """Warn of each template that reads such a field."""
    hidden = {name: known for name, step in plan.steps.items() if (known := hidden_fields(step))}
    for site in sites(plan) if hidden else ():
        for template in site.templates:
            for name, fields in template.reads.items():
                found = hidden.get(name, frozenset()) & (fields or frozenset())
                if not found or template.place is None or name in site.names or name in site.iter:
                    continue
                line, column = template.place.within(*find_place(template.environment, template.source, None, name))
                for field in sorted(found):
                    message = (
                        f"'{name}.{field}' is the step's own {field}, not the field of its result: "
                        f"write {name}.result.{field}"
                    )
                    path = pointer_keys(template.place.pointer)
                    faults.add_at(message, path, line, column, "playbook.reserved_name")


def hidden_fields(step: Step) -> frozenset[str]:
    """Those of `OWN` that the step's result is known to have, too; empty for a loop, whose result is a list."""
    if step.loop is not None or not step.tasks:
        return frozenset()
    last = step.tasks[-1]
    config: Any = last.config if isinstance(last.config, dict) else {}
    match last.kind:
        case "noop":
            given = config.get("result")
            known = set(given) if isinstance(given, dict) else set()
        case "python":
            code = config.get("code")
            known = set(_of_code(code)) if isinstance(code, str) else set()
        case _:
            known = set()
    return OWN & known


def _of_code(code: str) -> Iterator[str]:
    """The keys of dicts that are written as the code's result."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Return(value=ast.Dict(keys=keys)):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys)) if name == "result":
                pass
            case _:
                continue
        yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
