from __future__ import annotations

from collections.abc import Sequence

import pytest

from .faults import (
    CUTS,
    DISKS,
    DISKS_TOGETHER,
    KILLS,
    KILLS_TOGETHER,
    RESTART,
    STOPS,
    STOPS_TOGETHER,
    listing,
    plan,
)


def test_a_seed_always_plans_the_same() -> None:
    assert plan(7, 300) == plan(7, 300)
    assert plan(7, 300) != plan(8, 300)


@pytest.mark.parametrize(
    ("together", "kills", "stops", "disks"),
    [(False, KILLS, STOPS, DISKS), (True, KILLS_TOGETHER, STOPS_TOGETHER, DISKS_TOGETHER)],
)
def test_five_minutes_bring_every_fault(
    together: bool, kills: Sequence[str], stops: Sequence[str], disks: Sequence[str]
) -> None:
    faults = plan(7, 300, together=together)
    assert {fault.target for fault in faults if fault.kind == "kill"} == set(kills)
    assert {fault.target for fault in faults if fault.kind == "stop"} == set(stops)
    assert {fault.target for fault in faults if fault.kind == "fill the disk of"} == set(disks)
    assert {fault.how for fault in faults if fault.kind == "cut"} == set(CUTS)
    assert len([fault for fault in faults if fault.kind == "restart"]) > 3
    assert len(listing(faults).splitlines()) == len(faults)


def test_a_restart_has_its_time_to_itself() -> None:
    for seed in range(200):
        faults = plan(seed, 120)
        assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
        for restart in (fault for fault in faults if fault.kind == "restart"):
            others = [fault for fault in faults if fault is not restart]
            assert all(fault.at + fault.seconds < restart.at or fault.at >= restart.at + RESTART for fault in others), (
                seed
            )
