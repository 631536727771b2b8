"""history: one execution that goes round and round a back-edge; a step must not cost more for what came before."""

from __future__ import annotations

import asyncio

from .. import playbooks
from ..client import Ended, instant
from ..quiet import measure
from ..result import Result
from ..stack import Bench

WATCH = 0.5


async def history(bench: Bench) -> list[Result]:
    return [await _measured(bench, "history", "step")]


async def history_pipelined(bench: Bench) -> list[Result]:
    return [await _measured(bench, "history_pipelined", "pipelined")]


async def _measured(bench: Bench, name: str, durability: str) -> Result:
    """`value`: ms per step; `last_first`: the last 1,000 steps (or a quarter of all) against the first."""
    steps = int(bench.options.get("steps") or 2000)
    await bench.client.register(playbooks.back_edge(name, durability))
    await bench.client.run(f"bench/{name}", {"n": 50})
    measured = await measure(bench, lambda: _run(bench, f"bench/{name}", steps), 1)
    end, state_bytes = measured.values[0]
    if end.result != {"data": {"i": steps}}:
        raise RuntimeError(f"{name} gave {end.result}")
    done = await bench.client.events(end.execution_id, "call.done")
    at = [instant(event["timestamp"]) for event in done if event["step"] == "turn"]
    part = min(1000, steps // 4)
    first, last = 1000 * (at[part] - at[0]) / part, 1000 * (at[-1] - at[-1 - part]) / part
    extra = {
        "steps": steps,
        "first_ms": first,
        "last_ms": last,
        "last_first": last / first,
        "state_bytes": state_bytes,
        "floor_is": "commit",
        **measured.extra(steps, "step"),
    }
    return Result(name, 1000 * end.seconds / steps, "ms/step", bench.floors.get("commit"), extra)


async def _run(bench: Bench, path: str, steps: int) -> tuple[Ended, int]:
    """How it ended, and the largest state seen on the way."""
    execution_id = await bench.client.execute(path, {"n": steps})
    largest = 0

    async def watch() -> None:
        nonlocal largest
        while True:
            largest = max(largest, _state_bytes(bench, execution_id))
            await asyncio.sleep(WATCH)

    watching = asyncio.ensure_future(watch())
    try:
        await bench.client.look(execution_id, WATCH)
    finally:
        watching.cancel()
    return await bench.client.ended(execution_id), largest


def _state_bytes(bench: Bench, execution_id: str) -> int:
    sql = "SELECT octet_length(state::text) FROM noetl.execution WHERE execution_id = :id"
    return int(bench.database.run(sql, id=int(execution_id))[0][0])
