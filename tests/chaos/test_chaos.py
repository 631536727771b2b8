"""The short form of `make chaos`: the same work, the same faults, the same audit."""

from __future__ import annotations

import pytest

from .run import chaos
from .stack import chaos_stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# in these seconds these seeds bring kills, pauses, cut wires and full disks
SEEDS = {"separate": 1201, "together": 1200}
SECONDS = 18.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("processes", "seed"), SEEDS.items())
def test_whatever_breaks_nothing_is_lost_doubled_stuck_or_left_over(processes: str, seed: int) -> None:
    with chaos_stack(instances=1, processes=processes) as stack:
        command = f"make chaos MINUTES=0.3 SEED={seed} INSTANCES=1 PROCESSES={processes}"
        report = chaos(stack, seed, SECONDS, rate=6.0, command=command, say=print)
    assert not report.findings, report.markdown()
    assert report.survived >= {"kill", "stop", "cut", "fill the disk of"}
    assert len(report.executions) > 10
