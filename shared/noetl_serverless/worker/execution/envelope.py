"""What task rules see as `output`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import clean


def envelope(
    status: str,
    attempt: int,
    data: Any = None,
    *,
    ref: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "status": status,
        "data": data,
        "ref": ref,
        "error": error,
        "meta": {"attempt": attempt, **(meta or {})},
        "extra": dict(extra or {}),
    }


def child_output(child: Mapping[str, Any], attempt: int, line: int) -> dict[str, Any]:
    """The end of a sub-playbook, as the output of the task at `line` that requested it."""
    meta = {"execution_id": child["execution_id"]} if child.get("execution_id") else {}
    if child["status"] == "ok":
        return envelope("ok", attempt, child.get("data"), ref=child.get("ref"), meta=meta)
    error = {"kind": "playbook", "code": "child.failed", "retryable": False, "message": "the sub-playbook failed"}
    error = clean({**error, **(child.get("error") or {}), "at": line})
    return envelope("error", attempt, child.get("data"), ref=child.get("ref"), error=error, meta=meta)
