"""One call of a task's tool: its rendered configuration goes in, its envelope comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...limits import EXTRA_BYTES, PAYLOAD_BYTES, WORKLOAD_BYTES
from ...playbook.plan import Task
from ...playbook.values import InvalidValue
from ...protocol import ChildRequest, WaitRequest
from ...results.offload import Output
from ...tables.listed import listed
from ...tools.port import ToolCall, ToolContext, ToolOutcome
from .domain import CHILD_PAYLOAD, DATA, DISPLAY_NAMES, TOOL_META_BYTES, TooLarge, check_size, to_domain, value_error
from .envelope import envelope
from .errors import step_error
from .job import Job
from .result_digest import result_digest
from .store_result import store_result
from .toolbox import call_tool


async def call_task(
    job: Job,
    task: Task,
    config: dict[str, Any],
    context: ToolContext,
    *,
    step_input: Mapping[str, Any],
    timeout: float | None,
    reads: Mapping[str, Any] | None = None,
) -> dict[str, Any] | ChildRequest | WaitRequest:
    """The task's envelope, or the sub-playbook or the wait that it requests. The task's own input goes before that of
    the step. `timeout`: seconds; `reads`: what its code reads of the execution."""
    own = config.pop("input", None) or {}
    if own and not isinstance(own, Mapping):
        message = f"the input of task '{task.name}' must give an object, not {type(own).__name__}"
        error = step_error("template", "input.invalid", message, at=task.place.line)
        return envelope("error", context.attempt, error=error)
    call = ToolCall(
        task.kind,
        task.name,
        config,
        input={**step_input, **own},
        timeout=timeout,
        context=reads,
        has_tables=job.lazy.has_tables,
    )
    call.texts = job.lazy.texts_of(call.input)
    if task.expects and (missing := _missing(call.input, task.expects)):
        error = step_error("assert", "assert.expects", f"the input of task '{task.name}' has no {missing}")
        return envelope("error", context.attempt, error={**error, "at": task.place.line})
    job.lease.check()
    outcome, duration_ms = await call_tool(job.toolbox.load_tool, call, context)
    meta = {"duration_ms": duration_ms}
    try:
        if outcome.child is not None:
            return await _child_request(job, outcome.child)
        if outcome.wait is not None:
            return outcome.wait
        if not outcome.stored:
            outcome.data = await to_domain(outcome.data, DATA, on_table=job.lazy.expect_tables)
        elif outcome.written is not None:
            job.lazy.keep_written(outcome.data, outcome.written)
        if task.max_bytes is not None:
            check_size(outcome.data, DATA, task.max_bytes, "executor.spec.policy.limits.max_payload_bytes")
        if outcome.extra:
            check_size(outcome.extra, "extra", EXTRA_BYTES)
        if outcome.meta:
            check_size(outcome.meta, "meta", TOOL_META_BYTES)
    except (InvalidValue, TooLarge) as error:
        return envelope("error", context.attempt, error=_invalid_result(job, task, outcome, error), meta=meta)
    if task.returns and outcome.status == "ok" and (missing := _missing(outcome.data, task.returns)):
        message = f"the result of task '{task.name}' has no {missing}"
        outcome.status, outcome.error = "error", step_error("assert", "assert.returns", message)
    failure = {"at": task.place.line, **outcome.error} if outcome.error is not None else None
    return envelope(
        outcome.status,
        context.attempt,
        outcome.data,
        error=failure,
        meta={**outcome.meta, **meta},
        extra=outcome.extra,
    )


def _missing(value: Any, names: tuple[str, ...]) -> str:
    """The names that `value` does not have; a.b is b of a."""
    return ", ".join(f"'{name}'" for name in names if not _has(value, name.split(".")))


def _has(value: Any, parts: list[str]) -> bool:
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


async def _child_request(job: Job, child: ChildRequest) -> ChildRequest:
    """The request with its payload in stored form, by reference if it is large."""
    toolbox = job.toolbox
    payload = await to_domain(child.payload, CHILD_PAYLOAD)
    check_size(payload, CHILD_PAYLOAD, WORKLOAD_BYTES)
    # the orchestrator reads it, which knows no tables
    payload = listed(payload)
    if not toolbox.supports(2):
        # a control plane of the previous release knows no references, and takes the payload itself; nor timeouts
        return child.model_copy(update={"payload": payload, "timeout": None})
    put = await store_result(
        payload,
        job.command,
        toolbox,
        part="/child",
        output=Output(inline_bytes=PAYLOAD_BYTES),
        label=DISPLAY_NAMES[CHILD_PAYLOAD],
    )
    if "ref" not in put:
        return child.model_copy(update={"payload": payload})
    if (digest := await result_digest(payload)) is not None:
        put["ref"]["meta"]["digest"] = digest
    return child.model_copy(update={"payload": {}, "payload_ref": put["ref"]})


def _invalid_result(job: Job, task: Task, outcome: ToolOutcome, error: InvalidValue | TooLarge) -> dict[str, Any]:
    """The result of the task cannot be reported: an error, or the task's own error without the rest."""
    failure = value_error(error, at=task.place.line, step=job.step.name, task=task.name)
    if outcome.error is None:
        return failure
    return {"at": task.place.line, **outcome.error, "left_out": failure["message"]}
