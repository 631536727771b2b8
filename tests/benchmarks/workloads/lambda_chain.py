"""lambda_remote, lambda_direct: a chain under Lambda's runtime client, each step of which invokes the control plane, or
is committed by its worker alone."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import datetime
from pathlib import Path

from tests.infra.deployment import Deployment

from .. import playbooks
from ..lambda_functions import deployed
from ..result import Result, median
from ..stack import Bench

LENGTH = 100
# no kind in it runs users' code, so that its workers may be direct
POOL = "calls"


async def lambda_chain(bench: Bench) -> list[Result]:
    """`value`: ms per step by the timestamps of the events, from the end of the first step, whose worker is invoked by
    a queue, to that of the last. The ratio of `lambda_direct` is to `lambda_remote`. On servers of their own."""
    remote = await asyncio.to_thread(_measured, bench.runs, direct=False)
    direct = await asyncio.to_thread(_measured, bench.runs, direct=True)
    floor = median(remote)
    return [
        Result("lambda_remote", floor, "ms/step", None, {"runs": remote}),
        Result("lambda_direct", median(direct), "ms/step", floor, {"runs": direct, "floor_is": "lambda_remote"}),
    ]


def _measured(runs: int, *, direct: bool) -> list[float]:
    """The first run starts the functions, and is left out."""
    with (
        tempfile.TemporaryDirectory(prefix="noetl-bench-") as folder,
        deployed(Path(folder), pools={POOL: ["noop"]}, direct=[POOL] if direct else []) as deployment,
    ):
        deployment.start()
        return [_run(deployment) for _ in range(runs + 1)][1:]


def _run(deployment: Deployment) -> float:
    execution_id = deployment.begin(playbooks.noops("noops", LENGTH))
    ended = deployment.wait(execution_id, pause=0.5)
    if ended["status"] != "COMPLETED":
        raise RuntimeError(f"the chain ended {ended['status']}: {ended.get('error')}")
    ends = [
        datetime.fromisoformat(event["timestamp"])
        for event in deployment.events(execution_id)
        if event["event_type"] == "call.done"
    ]
    if len(ends) != LENGTH:
        raise RuntimeError(f"{len(ends)} steps of {LENGTH} have an outcome")
    return 1000 * (ends[-1] - ends[0]).total_seconds() / (LENGTH - 1)
