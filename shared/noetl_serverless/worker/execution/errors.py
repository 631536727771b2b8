"""Errors of steps, in the shape of the envelope: {kind, code, retryable, message, at}."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from math import isfinite
from typing import Any

import orjson

from ...error_codes import REFERENCE_NOT_AVAILABLE
from ...errors import Problem
from ...limits import ERROR_BYTES
from ...playbook.plan import Plan
from ...playbook.template_error import TemplateError
from ...playbook.values import GREATEST, LEAST
from ...telemetry.masking import masking
from ...tools.encoding import convert
from .missing_names import name_similar

MAX_MESSAGE_CHARACTERS = 4000
MAX_TEXT_CHARACTERS = 8000
MAX_MEMBERS = 100
MAX_DEPTH = 20
# the fields that identify an error; they are kept first
_IDENTIFYING_FIELDS = ("kind", "code", "retryable", "message", "at")


def step_error(kind: str, code: str, message: str, *, retryable: bool = False, **fields: Any) -> dict[str, Any]:
    error = {"kind": kind, "code": code, "retryable": retryable, "message": message, **fields}
    return clean(error)


def from_template(error: TemplateError, plan: Plan, line: int | None = None) -> dict[str, Any]:
    """`line` is the task's, for a template that does not know its own."""
    error = name_similar(error, plan)
    body = {key: value for key, value in error.to_dict().items() if value is not None}
    return clean({**body, "retryable": False, "at": error.line or line})


def from_problem(problem: Problem, kind: str) -> dict[str, Any]:
    retryable = problem.status >= 500 or problem.code == REFERENCE_NOT_AVAILABLE
    more = {"reason": problem.extra["reason"]} if "reason" in problem.extra else {}
    return step_error(kind, problem.code, problem.detail, retryable=retryable, **more)


def clean(error: dict[str, Any]) -> dict[str, Any]:
    """Mask secrets and cut texts, because errors are logged and displayed. An error is cut to fit, never refused."""
    cut = _truncated(error)
    masked: dict[str, Any] = with_identity(masking.tree(cut), cut)
    if len(str(masked.get("message", ""))) > MAX_MESSAGE_CHARACTERS:
        masked["message"] = f"{masked['message'][:MAX_MESSAGE_CHARACTERS]}…"
    return brief(masked, ERROR_BYTES)


def with_identity(masked: Mapping[str, Any], error: Mapping[str, Any]) -> dict[str, Any]:
    """A masked error with what identifies it as it was: that rules and arcs read, and none of it is a secret. Secrets
    of other executions are masked in the process, too."""
    return {**masked, **{name: error[name] for name in ("kind", "code", "retryable", "at") if name in error}}


def bounded(extra: dict[str, Any]) -> dict[str, Any]:
    """The http, pg and py parts of an envelope, small enough for an event and in the domain of values."""
    cut: dict[str, Any] = _truncated(extra)
    return cut


def brief(error: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """An error within `limit` bytes of JSON: its identifying fields first, then others while there is room; texts are
    cut to fit."""
    if _size(error) <= limit:
        return dict(error)
    result: dict[str, Any] = {}
    for name in (*_IDENTIFYING_FIELDS, *(name for name in error if name not in _IDENTIFYING_FIELDS)):
        if name not in error:
            continue
        value = error[name]
        length = len(value) if isinstance(value, str) else 0
        while _size({**result, name: value}) > limit and length:
            length //= 2
            value = f"{error[name][:length]}…"
        if _size({**result, name: value}) <= limit:
            result[name] = value
    return result


def _size(value: Any) -> int:
    return len(orjson.dumps(value))


def _truncated(value: Any, depth: int = 0) -> Any:
    """A copy in the domain of values: a part that is outside of the domain becomes null or text."""
    match value:
        case str():
            text = _text(value)
            return f"{text[:MAX_TEXT_CHARACTERS]}…" if len(text) > MAX_TEXT_CHARACTERS else text
        case None | bool():
            return value
        case int():
            return value if LEAST <= value <= GREATEST else str(value)[:MAX_TEXT_CHARACTERS]
        case float():
            # orjson does not know subclasses of float
            return float(value) if isfinite(value) else None
        case Mapping() if depth < MAX_DEPTH:
            return {_text(str(key)): _truncated(item, depth + 1) for key, item in islice(value.items(), MAX_MEMBERS)}
        case list() | tuple() if depth < MAX_DEPTH:
            return [_truncated(item, depth + 1) for item in value[:MAX_MEMBERS]]
        case set() | frozenset():
            return _truncated(sorted(value, key=repr), depth)
    try:
        return _truncated(convert(value), depth + 1) if depth < MAX_DEPTH else _text(str(value))[:MAX_TEXT_CHARACTERS]
    except Exception:
        return _text(repr(value))[:MAX_TEXT_CHARACTERS]


def _text(value: str) -> str:
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode(errors="replace").decode()
