"""Plans, tools and outcomes for tests of the worker."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Literal

from pydantic import BaseModel

from noetl_serverless.playbook.plan import Assignment, Loop, Plan, Rule, Step, Task
from noetl_serverless.playbook.template import Place, Template
from noetl_serverless.protocol import ClaimedCommand
from noetl_serverless.tools.port import Tool, ToolCall, ToolContext, ToolOutcome

SCOPES: dict[str, Literal["ctx", "vars", "iter", "step"]] = {
    "ctx": "ctx",
    "vars": "vars",
    "iter": "iter",
    "step": "step",
}


class FakeTool(Tool):
    """Answers from a script: an outcome, an exception, or a function of call and context; the last one repeats."""

    config = BaseModel

    def __init__(self, *script: Any) -> None:
        self.script = list(script) or [ToolOutcome("ok", data={})]
        self.calls: list[ToolCall] = []
        self.contexts: list[ToolContext] = []

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        self.calls.append(call)
        self.contexts.append(context)
        given = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(given, BaseException):
            raise given
        if callable(given):
            given = given(call, context)
        outcome: ToolOutcome = await given if isinstance(given, Awaitable) else given
        return outcome

    async def close(self) -> None:
        return None


def tree(value: Any) -> Any:
    """Strings with markers become templates, all the way down."""
    if isinstance(value, str) and "{{" in value:
        return Template(value)
    if isinstance(value, Mapping):
        return {key: tree(item) for key, item in value.items()}
    if isinstance(value, list):
        return [tree(item) for item in value]
    return value


def rule(
    do: Literal["continue", "retry", "jump", "break", "fail"],
    when: str | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    **more: Any,
) -> Rule:
    assignments = []
    for name, value in (set or {}).items():
        scope, _, key = name.partition(".")
        assignments.append(Assignment(SCOPES[scope], key, tree(value)))
    return Rule(Template(when) if when else None, do, set=tuple(assignments), **more)


def task(
    name: str,
    *rules: Rule,
    kind: str | None = None,
    config: Any = None,
    timeout: float | None = None,
    line: int = 10,
    output: Any = None,
) -> Task:
    return Task(
        name=name,
        kind=kind or name,
        config=tree(config or {}),
        rules=rules,
        timeout=timeout,
        output=output or {},
        place=Place(line, 5),
    )


def step(
    *tasks: Task, name: str = "work", input: Any = None, loop: Loop | None = None, is_pipeline: bool | None = None
) -> Step:
    return Step(
        name=name,
        tasks=tasks,
        is_pipeline=len(tasks) > 1 if is_pipeline is None else is_pipeline,
        input=tree(input) if input is not None else None,
        loop=loop,
        set=(),
        arcs=(),
        mode="exclusive",
        on_no_match="complete",
        admit=(),
        reads={},
        parks=False,
        place=Place(7, 3),
    )


def loop(
    mode: Literal["sequential", "parallel"] = "parallel",
    items: str = "{{ workload.items }}",
    iterator: str = "item",
    best_effort: bool = False,
) -> Loop:
    return Loop(items=Template(items), iterator=iterator, mode=mode, max_in_flight=8, best_effort=best_effort)


def plan(*steps: Step) -> Plan:
    return Plan(
        hash="h",
        name="p",
        path="p",
        workload={},
        entry=steps[0].name,
        final_step=None,
        no_next_is_error=False,
        steps={each.name: each for each in steps},
    )


def claimed(step: str = "a", **more: Any) -> ClaimedCommand:
    """The first command of `step`, delivered once; `more`: what is different."""
    values: dict[str, Any] = {
        "execution_id": "42",
        "command_id": f"{step}#1@1",
        "step": step,
        "generation": 1,
        "kind": "step",
        "attempt": 1,
        "delivery": 1,
        "fence": 1,
        "lease_until": "2030-01-01T00:00:00Z",
        "plan": "h",
        "path": "p",
        "workload": {},
        "scope": {"ctx": {}, "steps": {}},
        **more,
    }
    return ClaimedCommand(**values)


def ok(data: Any = None, **extra: Any) -> ToolOutcome:
    return ToolOutcome("ok", data=data, extra=extra)


def failed(code: str = "boom", data: Any = None, *, retryable: bool = True, **extra: Any) -> ToolOutcome:
    error = {"kind": "fake", "code": code, "retryable": retryable, "message": f"it went {code}"}
    return ToolOutcome("error", data=data, error=error, extra=extra)
