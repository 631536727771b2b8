"""What is wrong with a step, in the shape of its envelope: {kind, code, retryable, message, at}."""

from __future__ import annotations

from typing import Any

from ..errors import Problem
from ..playbook.template_error import TemplateError
from ..telemetry.masking import masking

MESSAGE_LIMIT = 4000
TEXT_LIMIT = 8000
MEMBERS_LIMIT = 100


def step_error(kind: str, code: str, message: str, *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    error = {"kind": kind, "code": code, "retryable": retryable, "message": message, **more}
    return clean(error)


def from_template(error: TemplateError, line: int | None = None) -> dict[str, Any]:
    """`line` is the task's, for a template that does not know its own."""
    body = {key: value for key, value in error.to_dict().items() if value is not None}
    return clean({**body, "retryable": False, "at": error.line or line})


def from_problem(problem: Problem, kind: str) -> dict[str, Any]:
    retryable = problem.status >= 500 or problem.code == "REFERENCE_NOT_AVAILABLE"
    return step_error(kind, problem.code, problem.detail, retryable=retryable)


def clean(error: dict[str, Any]) -> dict[str, Any]:
    """Secrets masked, texts cut: an error goes into the log and onto screens."""
    masked: dict[str, Any] = masking.tree(_cut(error))
    if len(str(masked.get("message", ""))) > MESSAGE_LIMIT:
        masked["message"] = f"{masked['message'][:MESSAGE_LIMIT]}…"
    return masked


def bounded(extra: dict[str, Any]) -> dict[str, Any]:
    """The http, pg and py parts of an envelope, as small as an event wants them."""
    cut: dict[str, Any] = _cut(extra)
    return cut


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_LIMIT:
        return f"{value[:TEXT_LIMIT]}…"
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in list(value.items())[:MEMBERS_LIMIT]}
    if isinstance(value, list):
        return [_cut(item) for item in value[:MEMBERS_LIMIT]]
    return value
