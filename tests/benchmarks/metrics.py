"""What the functions count, as they tell it to Prometheus."""

from __future__ import annotations

import aiohttp

from .stack import Bench


async def counted(bench: Bench, function: str) -> dict[str, float]:
    """Sample, with its labels -> value."""
    async with aiohttp.ClientSession() as session, session.get(f"{bench.run[f'{function}_url']}/metrics") as response:
        text = await response.text()
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("noetl_")]
    return {name: float(value) for name, value in pairs}


def grown(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)
