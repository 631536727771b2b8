"""The tools of the simulation. What one answers follows from what it is asked alone, so that every run of a playbook
sees the same answers, in whatever order and however often it asks."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import orjson

from noetl_serverless.tools.noop import Noop
from noetl_serverless.tools.playbook import SubPlaybook
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolOutcome

# told of each call: what was asked under which key
Heard = Callable[[str, bytes], None]


class Scripted:
    """kind: python. Its input says what to do: `ms` to take, `fail`: the attempts that fail (or the residues of `v`
    that do), `pad`: bytes to add; the rest is what the answer is made from."""

    def __init__(self, heard: Heard, draw: Callable[[], float]) -> None:
        self._heard = heard
        self._draw = draw

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        asked = dict(call.input)
        content = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        self._heard(context.idempotency_key, content)
        await asyncio.sleep(asked.pop("ms", 1) / 1000 * (0.5 + self._draw()))
        fail, pad = asked.pop("fail", 0), asked.pop("pad", 0)
        value = zlib.crc32(orjson.dumps([call.name, asked], option=orjson.OPT_SORT_KEYS)) % 1000
        bad = context.attempt <= fail if isinstance(fail, int) else value % 3 in fail
        if bad:
            error = {"kind": "python", "code": "scripted", "retryable": True, "message": f"as asked: {value}"}
            return ToolOutcome("error", error=error)
        return ToolOutcome("ok", data={"v": value, **({"i": asked["i"]} if "i" in asked else {}), "pad": "x" * pad})

    async def close(self) -> None:
        return None


def loader(heard: Heard, draw: Callable[[], float]) -> Callable[[str], Any]:
    tools = {"noop": Noop(), "playbook": SubPlaybook(), "python": Scripted(heard, draw)}
    return tools.__getitem__
