"""A call for a tool that knows no tables: lists of rows in their place."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ...tables.listed import listed
from ...tools.port import Tool, ToolCall


async def plain_call(tool: Tool, call: ToolCall) -> ToolCall:
    """`call`, as `tool` can take it. Raises TableTooLarge, and InvalidTable."""
    if not call.has_tables or getattr(tool, "takes_tables", False):
        return call
    return await asyncio.to_thread(lambda: replace(call, config=listed(call.config), input=listed(call.input)))
