"""The short form of `make chaos`: the same work, the same faults, the same audit."""

from __future__ import annotations

import pytest

from .run import chaos
from .stack import chaos_stack

pytestmark = pytest.mark.e2e

# in these seconds this seed brings kills, pauses, cut wires and full disks
SEED = 1201
SECONDS = 18.0


@pytest.mark.timeout(900)
def test_whatever_breaks_nothing_is_lost_doubled_stuck_or_left_over() -> None:
    with chaos_stack(instances=1) as stack:
        report = chaos(stack, SEED, SECONDS, rate=6.0, command=f"make chaos MINUTES=0.3 SEED={SEED}", say=print)
    assert not report.findings, report.markdown()
    assert report.survived >= {"kill", "stop", "cut", "fill the disk of"}
    assert len(report.executions) > 10
