"""How specs are layered: later ones win, mappings are merged, lists are replaced."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from . import model

Spec = dict[str, Any]


def layer(*specs: Spec) -> Spec:
    merged: Spec = {}
    for spec in specs:
        for key, value in spec.items():
            known = merged.get(key)
            merged[key] = layer(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def timeout_of(playbook: model.Playbook, step: model.Step | None, *tools: model.Tool) -> float | str | Spec | None:
    """The timeout of executor.spec.policy.defaults, step.spec, loop.spec and the tools' specs, in seconds, as a
    template, or {connect, read} for http. None for a wait, which has one of its own: it is not the time of a call."""
    if any(tool.kind == "wait" for tool in tools):
        return None
    policy = playbook.executor_spec.policy
    loop = step.loop.spec if step is not None and step.loop else None
    parts = (policy and policy.defaults, step and step.spec, loop, *(tool.spec for tool in tools))
    timeout = layer(*(_timeout(part) for part in parts)).get("timeout")
    return float(timeout) if isinstance(timeout, int) else timeout


def _timeout(part: Any) -> Spec:
    timeout = getattr(part, "timeout", None)
    if timeout is None:
        return {}
    return {"timeout": timeout.model_dump(exclude_none=True) if isinstance(timeout, BaseModel) else timeout}
