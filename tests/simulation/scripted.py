"""kind: python of the simulation. What it answers follows from what it is asked alone, so that every run of a playbook
sees the same answers, in whatever order and however often it asks."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from noetl_serverless.tools.port import ToolCall, ToolContext, ToolOutcome

from . import edge_values

if TYPE_CHECKING:
    from .world import World


class Scripted:
    """Its input says what to do: `ms` to take, `fail`: the attempts that fail (or the residues of `v`
    that do), `pad`: bytes to add, `give`: the name of a value that hurts, to be given `into` the data or a part of the
    envelope beside it, `rows`: claimed rows that it processes; the rest is what the answer is made from."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        arguments = dict(call.input)
        self._world.heard(context.idempotency_key, _text(arguments))
        for row in arguments.get("rows", ()):
            if not self._world.users.process(context.execution_id, row, context.idempotency_key):
                self._world.log.broken("a row is processed that nobody has claimed", f"{context.execution_id} {row}")
        await asyncio.sleep(arguments.pop("ms", 1) / 1000 * (0.5 + self._world.chance.random()))
        give, into = arguments.pop("give", ""), arguments.pop("into", "data")
        data, error = answer_to(call.name, arguments, context.attempt)
        if error is not None:
            return ToolOutcome("error", error=error)
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


def answer_to(name: str, given: Mapping[str, Any], attempt: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The data, and the error if it fails, of a task that is given no time and nothing that hurts."""
    arguments = dict(given)
    fail, pad = arguments.pop("fail", 0), arguments.pop("pad", 0)
    value = zlib.crc32(_text([name, arguments])) % 1000
    if attempt <= fail if isinstance(fail, int) else value % 3 in fail:
        return {}, {"kind": "python", "code": "scripted", "retryable": True, "message": f"as asked: {value}"}
    kept: dict[str, Any] = {key: arguments[key] for key in ("i", "rows", "list") if key in arguments}
    return {"v": value, **kept, "pad": "x" * pad}, None


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
