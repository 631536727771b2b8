"""Runs a playbook to its end in this process, for tests: no database, no message bus, and no waiting."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.events import Event
from ..tools import registry
from ..tools.port import Tool, ToolCall
from ..tools.python_pool import PythonPool
from .engine import MemoryEngine
from .tools import PYTHON_MEMORY_MB, FakeCall, FakeTool, credentials_of

PYTHON_PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class PlaybookRun:
    """`status`: "completed", "failed", or "running" if the playbook waits for something that does not happen.
    `result`: the value of the last step. `outcomes`: by step, its latest outcome: `status`, and `data`, `ref` or
    `error`. `calls`: every call of a fake tool, in order."""

    status: str
    result: Any
    error: dict[str, Any] | None
    outcomes: Mapping[str, Mapping[str, Any]]
    events: Sequence[Event]
    calls: Sequence[ToolCall]


async def run_playbook(
    text: str,
    workload: Mapping[str, Any] | None = None,
    *,
    tools: Mapping[str, Tool | FakeCall] | None = None,
    playbooks: Sequence[str] = (),
    credentials: Mapping[str, Mapping[str, Any]] | None = None,
) -> PlaybookRun:
    """Run a playbook with the engine's own decisions, templates, rules and retries; delays take no time.

    `tools`: by kind, a tool or a function that replaces it; other kinds run for real. `playbooks`: the texts of
    sub-playbooks. `credentials`: by name, their data. Raises InvalidPlaybook."""
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
            now=time.time(),
            allow_private_http=True,
        )
        try:
            path = engine.catalog.register(text).path
            for other in playbooks:
                engine.catalog.register(other)
            id = await engine.start(path, dict(workload or {}))
            await engine.run_until_idle()
            return await _finished(engine, id, calls)
        finally:
            await asyncio.gather(*(tool.close() for tool in loaded.values()), python.close())


async def _finished(engine: MemoryEngine, id: str, calls: Sequence[ToolCall]) -> PlaybookRun:
    state = (await engine.event_store.load([id]))[id].state
    last = state.outcomes.get(state.last or "", {})
    return PlaybookRun(
        status=state.status,
        result=await engine.resolver.load(last["ref"]) if "ref" in last else last.get("data"),
        error=state.error,
        outcomes=state.outcomes,
        events=await engine.event_store.events(id),
        calls=calls,
    )
