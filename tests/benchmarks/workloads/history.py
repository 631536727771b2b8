"""history: one execution that goes round and round a back-edge; a step must not cost more for what came before."""

from __future__ import annotations

from .. import playbooks
from ..client import instant
from ..quiet import measure
from ..result import Result
from ..stack import Bench


async def history(bench: Bench) -> list[Result]:
    return [await _measured(bench, "history", "step")]


async def history_pipelined(bench: Bench) -> list[Result]:
    return [await _measured(bench, "history_pipelined", "pipelined")]


async def _measured(bench: Bench, name: str, durability: str) -> Result:
    """`value`: ms per step; `last_first`: the last 1,000 steps (or a quarter of all) against the first."""
    steps = int(bench.options.get("steps") or 2000)
    await bench.client.register(playbooks.back_edge(name, durability))
    await bench.client.run(f"bench/{name}", {"n": 50})
    measured = await measure(bench, lambda: bench.client.run(f"bench/{name}", {"n": steps}, pause=0.5), 1)
    end = measured.values[0]
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
        "state_bytes": _state_bytes(bench, end.execution_id),
        "floor_is": "commit",
        **measured.extra(steps, "step"),
    }
    return Result(name, 1000 * end.seconds / steps, "ms/step", bench.floors.get("commit"), extra)


def _state_bytes(bench: Bench, execution_id: str) -> int:
    sql = "SELECT octet_length(state::text) FROM noetl.execution WHERE execution_id = :id"
    return int(bench.database.run(sql, id=int(execution_id))[0][0])
