"""concurrent: 200 executions of 5 steps, started at once through the API, one worker process. concurrent_impure: the
same with code that gets a process for each execution."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .. import playbooks
from ..client import ENDED, instant
from ..quiet import measure
from ..result import Result, median, percentile
from ..stack import Bench

EXECUTIONS = 200
STEPS = 5
PAUSE = 0.1


async def concurrent(bench: Bench) -> list[Result]:
    """`value`: steps per second from the first submission to the last end. Durations are of executions, from their
    own start (p50, p95) and from the first submission (from_submit)."""
    return await _measure(bench, "concurrent", playbooks.chain("concurrent", STEPS))


async def concurrent_impure(bench: Bench) -> list[Result]:
    return await _measure(
        bench, "concurrent_impure", playbooks.chain("concurrent_impure", STEPS, before="import math\n")
    )


async def _measure(bench: Bench, name: str, playbook: str) -> list[Result]:
    await bench.client.register(playbook)
    path = f"bench/{name}"
    await _run(bench, path, 20)
    measured = await measure(bench, lambda: _run(bench, path, EXECUTIONS))
    runs = measured.values
    extra = {
        "runs": [run["rate"] for run in runs],
        **{name: median([run[name] for run in runs]) for name in runs[0] if name != "rate"},
        "floor_is": "commits8",
        **measured.extra(EXECUTIONS * STEPS * len(runs), "step"),
    }
    return [Result(name, median([run["rate"] for run in runs]), "steps/s", bench.floors.get("commits8"), extra)]


async def _run(bench: Bench, path: str, count: int) -> dict[str, float]:
    started = time.time()
    ids = await asyncio.gather(*(bench.client.execute(path) for _ in range(count)))
    submitted = time.time()
    found = await _all_ended(bench, path, set(ids))
    ends = [instant(item["end_time"]) for item in found]
    durations = [instant(item["end_time"]) - instant(item["start_time"]) for item in found]
    return {
        "rate": count * STEPS / (max(ends) - started),
        "p50_s": percentile(durations, 0.5),
        "p95_s": percentile(durations, 0.95),
        "from_submit_p95_s": percentile([end - started for end in ends], 0.95),
        "submit_s": submitted - started,
        "total_s": max(ends) - started,
    }


async def _all_ended(bench: Bench, path: str, ids: set[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 300
    while True:
        recent = await bench.client.recent(path, len(ids))
        found = [item for item in recent if item["execution_id"] in ids]
        if len(found) == len(ids) and all(item["status"] in ENDED for item in found):
            break
        if time.monotonic() > deadline:
            raise TimeoutError("the executions have not ended after 300 s")
        await asyncio.sleep(PAUSE)
    bad = [item for item in found if item["result"] != {"data": {"n": STEPS}}]
    if bad:
        raise RuntimeError(f"{len(bad)} executions went wrong: {bad[0]}")
    return found
