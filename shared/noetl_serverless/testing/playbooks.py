"""Runs a playbook to its end in this process, for tests: no database, no message bus, and no waiting."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.events import Event
from ..engine.state import State
from ..engine.variables import values_of
from ..playbook.scope import build_scope
from ..playbook.template import Template
from ..playbook.template_error import TemplateError
from ..tools import registry
from ..tools.plans import load_plan
from ..tools.port import Tool, ToolCall
from ..tools.python_pool import PythonPool
from ..tools.resources import kind_of
from ..worker.execution.rendering import ReferenceLoader
from .engine import MemoryEngine
from .tools import PYTHON_MEMORY_MB, FakeCall, FakeTool, credentials_of

PYTHON_PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class PlaybookRun:
    """`status`: "completed", "failed", or "running" if the playbook waits for something that does not happen.
    `result`: the value of the last step. `outcomes`: by step, its latest outcome: `status`, and `data`, `ref` or
    `error`. `calls`: every call of a fake tool, in order. `values`: those of the expressions at the end, a
    TemplateError for one that cannot be evaluated. `waited`: the seconds of all delays, which took no time here."""

    status: str
    result: Any
    error: dict[str, Any] | None
    outcomes: Mapping[str, Mapping[str, Any]]
    events: Sequence[Event]
    calls: Sequence[ToolCall]
    values: Mapping[str, Any]
    waited: float


async def run_playbook(
    text: str,
    workload: Mapping[str, Any] | None = None,
    *,
    tools: Mapping[str, Tool | FakeCall] | None = None,
    playbooks: Sequence[str] = (),
    credentials: Mapping[str, Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
    expressions: Sequence[str] = (),
    stop: Callable[[], bool] = lambda: False,
) -> PlaybookRun:
    """Run a playbook with the engine's own decisions, templates, rules and retries; delays take no time.

    `tools`: by kind, a tool or a function that replaces it; other kinds run for real. `playbooks`: the texts of
    sub-playbooks, and of tools of the catalog that are called. `credentials`: by name, their data; secrets of a
    keychain are their names. `variables`: what a user sets once it has begun. `expressions`, such as "ctx.total", are
    evaluated at the end. `stop` is called between commands: if it returns true, the run goes no further. Raises
    InvalidPlaybook, NotFound for a tool that is not given, and InvalidRequest for a workload that does not fit."""
    with tempfile.TemporaryDirectory(prefix="noetl-test-") as folder:
        scratch = Path(folder)
        python = PythonPool(PYTHON_PROCESSES, PYTHON_MEMORY_MB, scratch)
        calls: list[ToolCall] = []
        replaced = {kind: FakeTool(tool, calls) if callable(tool) else tool for kind, tool in (tools or {}).items()}
        loaded: dict[str, Tool] = {}

        def load_tool(kind: str) -> Tool:
            if kind not in loaded:
                loaded[kind] = replaced.get(kind) or registry.load(kind)
            return loaded[kind]

        engine = MemoryEngine(
            load_tool,
            scratch,
            python=python,
            credential=credentials_of(credentials or {}),
            # whole seconds, so that the milliseconds of events show how long delays were
            now=(began := float(int(time.time()))),
            allow_private_http=True,
        )
        try:
            # tools before the playbooks, which call them
            for other in sorted(playbooks, key=lambda one: kind_of(one) is None):
                engine.catalog.register(other)
            entry = engine.catalog.register(text)
            id = await engine.start(entry.path, dict(workload or {}))
            if variables:
                await engine.orchestrator.controls.set_variables(id, variables)
            await engine.run_until_idle(stop)
            state = (await engine.event_store.load([id]))[id].state
            return PlaybookRun(
                status=state.status,
                result=await _result(engine, state),
                error=state.error,
                outcomes=state.outcomes,
                events=await engine.event_store.events(id),
                calls=calls,
                values=await _values(engine, state, entry.content, expressions),
                waited=engine.now - began,
            )
        finally:
            await asyncio.gather(*(tool.close() for tool in loaded.values()), python.close())


async def _result(engine: MemoryEngine, state: State) -> Any:
    last = state.outcomes.get(state.last or "", {})
    return await engine.resolver.load(last["ref"]) if "ref" in last else last.get("data")


async def _values(engine: MemoryEngine, state: State, text: str, expressions: Sequence[str]) -> dict[str, Any]:
    loops = load_plan(text).loops if expressions else frozenset()
    return {expression: await _value(engine, state, loops, expression) for expression in expressions}


async def _value(engine: MemoryEngine, state: State, loops: frozenset[str], expression: str) -> Any:
    """The value of an expression, or the TemplateError why it has none."""
    try:
        template = Template("{{ " + expression + " }}")
        return await ReferenceLoader(engine.resolver).render(
            lambda fetch: template.render(
                build_scope(
                    workload=state.workload,
                    ctx=state.ctx,
                    ctx_refs=state.ctx_refs,
                    steps=state.outcomes,
                    loops=loops,
                    execution_id=state.execution_id,
                    variables=values_of(state.variables),
                    fetch=fetch,
                    error=state.error,
                )
            )
        )
    except TemplateError as error:
        return error
