"""Tools that the oracle can answer for itself: what they give follows from what they are asked."""

from __future__ import annotations

import base64
from typing import Any

from .names import Outcome
from .tasks import Call
from .template import plain


def answer(call: Call) -> Outcome:
    if call.kind == "noop":
        return Outcome("ok", data={"status": "ok"})
    if call.kind == "python":
        return python(call)
    raise AssertionError(f"nothing is known of what {call.kind} answers")


def python(call: Call) -> Outcome:
    """Runs the code here and now; only for code of our own."""
    code = call.config.get("code") or base64.b64decode(call.config["code_b64"]).decode()
    names: dict[str, Any] = {"__name__": "task", **call.input}
    try:
        exec(compile(code, call.task, "exec"), names)
        data = names["main"](**call.input) if "result" not in names and "main" in names else names.get("result")
    except Exception as error:
        described = {"kind": "python", "code": "python.exception", "message": f"{type(error).__name__}: {error}"}
        return Outcome("error", error={**described, "retryable": False})
    return Outcome("ok", data=plain(data))
