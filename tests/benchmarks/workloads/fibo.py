"""fibo: Windmill's public benchmark: 40 light and 10 heavy python steps in a row, beside plain Python."""

from __future__ import annotations

import subprocess
import sys

from .. import playbooks
from ..quiet import measure
from ..result import Result, median
from ..stack import Bench

CASES = (("fibo_light", 10, 40), ("fibo_heavy", 33, 10))
PLAIN = (
    playbooks.FIB
    + "import time\nt = time.perf_counter()\nfor _ in range({times}): fib({number})\nprint(time.perf_counter() - t)"
)


async def fibo(bench: Bench) -> list[Result]:
    """`value`: seconds of the execution; the floor is the same work in a loop of plain Python."""
    return [await _case(bench, name, number, times) for name, number, times in CASES]


async def _case(bench: Bench, name: str, number: int, times: int) -> Result:
    await bench.client.register(playbooks.fibo(name, number, times))
    await bench.client.run(f"bench/{name}")

    async def once() -> tuple[float, float]:
        end = await bench.client.run(f"bench/{name}", pause=0.2)
        return end.seconds, _plain(number, times)

    measured = await measure(bench, once)
    seconds, plain = [run[0] for run in measured.values], [run[1] for run in measured.values]
    extra = {
        "runs": seconds,
        "fib": number,
        "steps": times,
        "ms_per_step_over_plain": 1000 * (median(seconds) - median(plain)) / times,
        "others_cores": measured.others,
    }
    return Result(name, median(seconds), "s", median(plain), extra)


def _plain(number: int, times: int) -> float:
    code = PLAIN.format(times=times, number=number)
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
