"""What a test of a tool needs: a context for its calls, and a tool that answers as the test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from ..tools.config import ToolConfig
from ..tools.port import Credential, ToolCall, ToolContext, ToolFailure, ToolOutcome
from ..tools.python_pool import PythonPool

PYTHON_MEMORY_MB = 512

# takes the call and returns the data of its result; raises ToolFailure for a result with an error
FakeCall = Callable[[ToolCall], Any]


@dataclass(frozen=True, slots=True)
class CallPlace:
    """Where in an execution a tool is called. `generation`: which run of the step; `item`: the index within a loop."""

    step: str
    generation: int
    item: int | None
    task: str


def place_of(call: ToolCall, context: ToolContext) -> CallPlace:
    """Read from the idempotency key, `execution/step/generation[/item]/task/visits`; the task's name may hold a /."""
    begin = f"{context.execution_id}/{context.step}/"
    numbers = context.idempotency_key.removeprefix(begin).split(f"/{call.name}/")[0].split("/")
    return CallPlace(context.step, int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else None, call.name)


def tool_context(scratch: Path, credentials: Mapping[str, Mapping[str, Any]] | None = None) -> ToolContext:
    """The context of the first call of a step. `scratch`: a folder for the tool's files; `credentials`: by name, their
    data."""
    return ToolContext(
        execution_id="1",
        command_id="step#1",
        step="step",
        attempt=1,
        idempotency_key="1/step/1/task/0",
        credential=credentials_of(credentials or {}),
        python=PythonPool(1, PYTHON_MEMORY_MB, scratch),
        scratch=scratch,
        allow_private_http=True,
    )


def credentials_of(credentials: Mapping[str, Mapping[str, Any]]) -> Callable[[str], Awaitable[Credential]]:
    """Looks up a credential by its name, and raises KeyError if there is none."""

    async def credential(name: str) -> Credential:
        return Credential(name, "test", credentials[name])

    return credential


class FakeTool:
    """Answers every call with what a function returns."""

    config: ClassVar[type[BaseModel]] = ToolConfig

    def __init__(self, answer: FakeCall, calls: list[ToolCall]) -> None:
        """`calls`: where each call is added."""
        self._answer = answer
        self._calls = calls

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        self._calls.append(call)
        try:
            return ToolOutcome("ok", data=self._answer(call))
        except ToolFailure as failure:
            return failure.outcome()

    async def close(self) -> None:
        return None
