"""A loop's collection: rendered and stored by a worker when the control plane cannot or should not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...engine import events as e
from ...errors import Problem
from ...playbook.plan import Loop
from ...playbook.scope import build_scope
from ...playbook.template_error import TemplateError
from ...tables.table import Table
from .errors import from_problem, from_template, step_error
from .job import Job, TaskResult


async def render_collection(job: Job, loop: Loop) -> TaskResult:
    """`data` is the list of the loop's items."""
    command, line = job.command, job.step.place.line
    try:
        value = await job.lazy.render(
            lambda fetch: loop.items.render(
                build_scope(
                    workload=command.workload,
                    ctx=command.scope.get("ctx") or {},
                    ctx_refs=command.scope.get(e.CTX_REFS),
                    variables=job.variables,
                    steps=command.scope.get("steps") or {},
                    loops=job.loops,
                    execution_id=command.execution_id,
                    fetch=fetch,
                )
            )
        )
    except TemplateError as error:
        return TaskResult("error", error=from_template(error, job.plan, line))
    except Problem as problem:
        return TaskResult("error", error={**from_problem(problem, "loop"), "at": line})
    items = as_items(value)
    if items is None:
        message = f"loop.in must give a list, not {type(value).__name__}"
        return TaskResult("error", error=step_error("loop", "loop.not_iterable", message, at=line))
    return TaskResult("ok", data=items)


def as_items(value: Any) -> Sequence[Any] | None:
    """The items: a list as it is, null as no items, an object as one item; None for a value that is no collection."""
    match value:
        case None:
            return []
        case dict():
            return [value]
        case list() | Table():
            return value
        case tuple() | range():
            return list(value)
        case set() | frozenset():
            return sorted(value, key=repr)
        case _:
            return None
