"""storm: sixteen workers report into one loop at once."""

from __future__ import annotations

from .. import playbooks
from ..metrics import counted, grown
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench
from ..workers import invoked, more_workers

ITEMS = 20_000
WORKERS = 16
# so many that each of the workers has items in hand all the time
IN_FLIGHT = 512


async def storm(bench: Bench) -> list[Result]:
    """`value`: items per second with 16 worker processes; `one_worker`: with one. `conflicts`: commits that lost to
    another writer, over all commits."""
    await bench.client.register(playbooks.fanout("storm", IN_FLIGHT))
    await _run(bench, 500)
    alone = await measure(bench, lambda: _run(bench, ITEMS))
    async with more_workers(bench, WORKERS - 1) as urls, invoked(urls):
        await _run(bench, 2000)
        before = await counted(bench, "control_plane")
        together = await measure(bench, lambda: _run(bench, ITEMS))
        after = await counted(bench, "control_plane")
    lost, good = (grown(before, after, f'noetl_commits_total{{result="{name}"}}') for name in ("lost", "committed"))
    rate, one = median(together.values), median(alone.values)
    extra = {
        "runs": together.values,
        "one_worker": one,
        "over_one_worker": rate / one,
        "conflicts": lost / max(1.0, lost + good),
        "commits": good / len(together.values),
        "max_in_flight": IN_FLIGHT,
        **together.extra(ITEMS * len(together.values), "item"),
    }
    return [Result("storm", rate, "items/s", None, extra)]


async def _run(bench: Bench, items: int) -> float:
    """Items per second."""
    end = await bench.client.run("bench/storm", {"n": items}, pause=0.2)
    if end.result != {"data": {"ok": True, "count": items}}:
        raise RuntimeError(f"the results of {items} items came back wrong: {end.result}")
    return items / end.seconds
