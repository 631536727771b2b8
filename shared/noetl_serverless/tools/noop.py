"""kind: noop. Does nothing: a place for routing, joins and `set`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from .config import ToolConfig
from .port import ToolCall, ToolContext, ToolOutcome


class NoopConfig(ToolConfig):
    """Does nothing."""

    result: Any = Field(default=None, description='Its result; by default, {"status": "ok"}.')


class Noop:
    config: ClassVar[type[NoopConfig]] = NoopConfig
    # it gives back what it is given
    takes_tables: ClassVar[bool] = True

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        return ToolOutcome("ok", data=call.config.get("result", {"status": "ok"}))

    async def close(self) -> None:
        return None
