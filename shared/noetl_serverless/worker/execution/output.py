"""What a step says of its result: where it is stored, for how long, and what of it is read without fetching it."""

from __future__ import annotations

from typing import Any

from ...limits import INLINE_BYTES
from ...playbook.plan import Step
from ...results.extract import NotSelected
from ...results.offload import USUAL, Output, selection
from .errors import step_error


def output_of(step: Step) -> Output:
    """Of a list of tools, what the last one says that says anything; but the smallest limit of any, since the result of
    a pipeline holds those of all its tasks."""
    if not any(task.output for task in step.tasks):
        return USUAL
    said: dict[str, Any] = {}
    for task in step.tasks:
        said |= task.output
    return Output(
        select=_selection(step),
        inline_bytes=min(task.output.get("inline_max_bytes", INLINE_BYTES) for task in step.tasks),
        kind=said.get("kind", USUAL.kind),
        scope=said.get("scope", USUAL.scope),
        ttl=said.get("ttl"),
        compression=said.get("compression"),
        preview_bytes=said.get("preview_max_bytes", USUAL.preview_bytes),
    )


def selection_error(step: Step, error: NotSelected) -> dict[str, Any]:
    """With the line of the tool that selects."""
    line = next((task.place.line for task in step.tasks if task.output.get("select")), None)
    return step_error("worker", error.code, error.detail, step=step.name, at=line)


def _selection(step: Step) -> list[tuple[str, str]]:
    if not step.is_pipeline:
        return selection(step.tasks[0].output)
    return [pair for task in step.tasks for pair in selection(task.output, task.name)]
