"""A loop's collection: rendered and stored by a worker when the control plane cannot or should not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...engine import events as e
from ...errors import Problem
from ...playbook.plan import Loop
from ...playbook.scope import Scope, build_scope
from ...playbook.template_error import TemplateError
from ...playbook.views import Fetch
from ...results.accumulated import is_accumulated
from ...tables.table import Table
from .errors import from_problem, from_template, step_error
from .job import Job
from .task_result import TaskResult


async def render_collection(job: Job, loop: Loop) -> TaskResult:
    """`data` is the list of the loop's items."""
    line = job.step.place.line
    try:
        if (ref := await job.lazy.render(lambda fetch: _accumulated(job, loop, fetch))) is not None:
            return TaskResult("ok", ref=ref, count=ref["count"])
        value = await job.lazy.render(lambda fetch: loop.items.render(_scope(job, fetch)))
    except TemplateError as error:
        return TaskResult("error", error=from_template(error, job.plan, line))
    except Problem as problem:
        return TaskResult("error", error={**from_problem(problem, "loop"), "at": line})
    items = as_items(value)
    if items is None:
        message = f"loop.in must give a list, not {type(value).__name__}"
        return TaskResult("error", error=step_error("loop", "loop.not_iterable", message, at=line))
    return TaskResult("ok", data=items, count=len(items))


def _accumulated(job: Job, loop: Loop, fetch: Fetch) -> dict[str, Any] | None:
    """The manifest of the list, if it was accumulated in parts: frames read them as they need them."""
    ref = loop.items.reference(_scope(job, fetch))
    return dict(ref) if ref is not None and is_accumulated(ref) and ref.get("count") is not None else None


def _scope(job: Job, fetch: Fetch) -> Scope:
    command = job.command
    return build_scope(
        workload=command.workload,
        ctx=command.scope.get("ctx") or {},
        ctx_refs=command.scope.get(e.CTX_REFS),
        variables=job.variables,
        steps=command.scope.get("steps") or {},
        loops=job.loops,
        execution_id=command.execution_id,
        fetch=fetch,
    )


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
