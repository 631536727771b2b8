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

from . import edge_values

# told of each call: what was asked under which key
Heard = Callable[[str, bytes], None]


class Scripted:
    """kind: python. Its input says what to do: `ms` to take, `fail`: the attempts that fail (or the residues of `v`
    that do), `pad`: bytes to add, `give`: the name of a value that hurts, to be given `into` the data or a part of the
    envelope beside it; the rest is what the answer is made from."""

    def __init__(self, heard: Heard, draw: Callable[[], float]) -> None:
        self._heard = heard
        self._draw = draw

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        arguments = dict(call.input)
        self._heard(context.idempotency_key, _text(arguments))
        await asyncio.sleep(arguments.pop("ms", 1) / 1000 * (0.5 + self._draw()))
        fail, pad = arguments.pop("fail", 0), arguments.pop("pad", 0)
        give, into = arguments.pop("give", ""), arguments.pop("into", "data")
        value = zlib.crc32(_text([call.name, arguments])) % 1000
        bad = context.attempt <= fail if isinstance(fail, int) else value % 3 in fail
        if bad:
            error = {"kind": "python", "code": "scripted", "retryable": True, "message": f"as asked: {value}"}
            return ToolOutcome("error", error=error)
        data = {"v": value, **({"i": arguments["i"]} if "i" in arguments else {}), "pad": "x" * pad}
        if not give:
            return ToolOutcome("ok", data=data)
        if into == "error":
            error = {"kind": "python", "code": "spoiled", "retryable": False, "message": "as asked", "w": hurting(give)}
            return ToolOutcome("error", error=error)
        if into != "data":
            beside: dict[str, Any] = {into: {"w": hurting(give)}}
            return ToolOutcome("ok", data=data, **beside)
        return ToolOutcome("ok", data={**data, "w": hurting(give)})

    async def close(self) -> None:
        return None


def hurting(name: str) -> Any:
    if name == "large":
        return 10**9
    kind, _, keys = name.partition(":")
    if kind == "order":
        return {key: index for index, key in enumerate(keys.split(","))}
    return edge_values.yielded(name).make()


def _text(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return repr(value).encode("utf-8", "backslashreplace")


def loader(heard: Heard, draw: Callable[[], float]) -> Callable[[str], Any]:
    tools = {"noop": Noop(), "playbook": SubPlaybook(), "python": Scripted(heard, draw)}
    return tools.__getitem__
