from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from noetl_serverless.playbook.plan import Assignment, Loop, Place, Plan, Rule, Step, Task
from noetl_serverless.playbook.template import Template
from noetl_serverless.protocol import VERSION, ClaimedCommand, Frame
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.tools.port import Credential, ToolCall, ToolContext, ToolOutcome
from noetl_serverless.worker.execution.executor import Executor
from noetl_serverless.worker.execution.lease import Lease
from noetl_serverless.worker.execution.time_budget import Budget
from noetl_serverless.worker.execution.toolbox import Toolbox

Behave = Callable[[ToolCall, ToolContext], ToolOutcome | Awaitable[ToolOutcome]]


class FakeTool:
    """Answers from a script: an outcome, an exception, or a function of call and context; the last one repeats."""

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
        return await given if isinstance(given, Awaitable) else given

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


def rule(do: str, when: str | None = None, *, set: Mapping[str, Any] | None = None, **more: Any) -> Rule:
    assignments = []
    for name, value in (set or {}).items():
        scope, _, key = name.partition(".")
        assignments.append(Assignment(scope, key, tree(value)))
    return Rule(Template(when) if when else None, do, tuple(assignments), **more)


def task(
    name: str,
    *rules: Rule,
    kind: str | None = None,
    config: Any = None,
    timeout: float | None = None,
    line: int = 10,
    output: Any = None,
) -> Task:
    return Task(name, kind or name, tree(config or {}), rules, timeout, output or {}, Place(line, 5))


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
        has_router=False,
        admit=(),
        reads={},
        parks=False,
        place=Place(7, 3),
    )


def loop(
    mode: str = "parallel", items: str = "{{ workload.items }}", iterator: str = "item", best_effort: bool = False
) -> Loop:
    return Loop(Template(items), iterator, mode, 8, best_effort)


def plan(*steps: Step) -> Plan:
    return Plan("h", "p", "p", {}, steps[0].name, None, False, {each.name: each for each in steps})


def ok(data: Any = None, **extra: Any) -> ToolOutcome:
    return ToolOutcome("ok", data=data, extra=extra)


def failed(code: str = "boom", data: Any = None, *, retryable: bool = True, **extra: Any) -> ToolOutcome:
    error = {"kind": "fake", "code": code, "retryable": retryable, "message": f"it went {code}"}
    return ToolOutcome("error", data=data, error=error, extra=extra)


class Bench:
    """An executor over fake tools, an in-memory store and a budget."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
        self.resolver = Resolver(self.store)
        self.tools: dict[str, FakeTool] = {}
        self.budget = Budget(60.0)
        self.lease = Lease()
        self.scratch = tmp_path
        # the version of the protocol that the control plane speaks
        self.wire = VERSION

    def tool(self, name: str, *script: Any) -> FakeTool:
        self.tools[name] = FakeTool(*script)
        return self.tools[name]

    @property
    def executor(self) -> Executor:
        async def credential(name: str) -> Credential:
            return Credential(name, "fake", {"password": "s3cr3t-value", "user": "ann"})

        load: Any = self.tools.__getitem__
        python: Any = None
        toolbox = Toolbox(
            load,
            python,
            credential,
            self.store,
            self.resolver,
            self.scratch,
            speaks=lambda version: self.wire >= version,
        )
        return Executor(toolbox, "w-1")

    def command(self, each: Step, **more: Any) -> ClaimedCommand:
        values: dict[str, Any] = {
            "execution_id": "42",
            "command_id": f"{each.name}#1@1",
            "step": each.name,
            "generation": 1,
            "kind": "step",
            "attempt": 1,
            "delivery": 1,
            "fence": 1,
            "lease_until": "2026-01-01T00:00:00Z",
            "plan": "h",
            "path": "p",
            "workload": {},
            "scope": {"ctx": {}, "steps": {}},
            **more,
        }
        return ClaimedCommand(**values)

    async def run(self, each: Step, *, ctx: Any = None, steps: Any = None, **more: Any) -> Any:
        command = self.command(each, scope={"ctx": ctx or {}, "steps": steps or {}}, **more)
        return await self.executor.run(command, plan(each), self.budget, self.lease)

    async def frame(
        self, each: Step, items: Sequence[Any], /, concurrency: int = 1, start: int = 0, **more: Any
    ) -> Any:
        frame = Frame(index=0, start=start, end=start + len(items), concurrency=concurrency)
        more = {"count": start + len(items), "items": list(items), **more}
        return await self.run(each, kind="frame", frame=frame, **more)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def make() -> SimpleNamespace:
    """The builders of plans and outcomes."""
    return SimpleNamespace(
        rule=rule, task=task, step=step, loop=loop, plan=plan, ok=ok, failed=failed, tree=tree, FakeTool=FakeTool
    )
