"""kind: noop. Does nothing: a place for routing, joins and `set`."""

from __future__ import annotations

from typing import ClassVar

from .config import ToolConfig
from .port import ToolCall, ToolContext, ToolOutcome


class NoopConfig(ToolConfig):
    """Takes no fields. Result: {"status": "ok"}."""


class Noop:
    config: ClassVar[type[NoopConfig]] = NoopConfig

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        return ToolOutcome("ok", data={"status": "ok"})

    async def close(self) -> None:
        return None
