"""A context to run tools in, and the pool that python tasks share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.tools import registry
from noetl_serverless.tools.port import Credential, ToolCall, ToolContext, ToolOutcome
from noetl_serverless.tools.python_pool import PythonPool

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[PythonPool]:
    made = PythonPool(2, 512, tmp_path / "python")
    yield made
    await made.close()


@pytest.fixture
def credentials() -> dict[str, Credential]:
    return {}


@pytest.fixture
async def run(tmp_path: Path, pool: PythonPool, credentials: dict[str, Credential]) -> AsyncIterator[Run]:
    """run(kind, config, input=None, timeout=None, reads=None, **context) -> ToolOutcome; `reads`: `ToolCall.context`"""

    async def credential(name: str) -> Credential:
        return credentials[name]

    async def run(
        kind: str,
        config: dict[str, Any],
        input: dict[str, Any] | None = None,
        timeout: float | None = None,
        reads: dict[str, Any] | None = None,
        **context: Any,
    ) -> ToolOutcome:
        given = {
            "execution_id": "7",
            "command_id": "c",
            "step": "s",
            "attempt": 1,
            "idempotency_key": "key-1",
            "credential": credential,
            "python": pool,
            "scratch": tmp_path,
            "allow_private_http": True,
            **context,
        }
        call = ToolCall(kind, "task", config, input=input or {}, timeout=timeout, context=reads)
        return await registry.load(kind).run(call, ToolContext(**given))

    yield run
    await registry.close()
