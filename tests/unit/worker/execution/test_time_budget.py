from __future__ import annotations

import pytest

from noetl_serverless.worker.execution.time_budget import TimeBudget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_is_open_then_closing_then_over(clock: Clock) -> None:
    budget = TimeBudget(20, clock=clock)
    states = []
    for clock.now in (100.0, 115.9, 116.1, 117.9, 118.1):
        states.append((budget.is_closing, budget.is_over))
    assert states == [(False, False), (False, False), (True, False), (True, False), (True, True)]


def test_of_a_long_budget_only_some_is_kept_back(clock: Clock) -> None:
    budget = TimeBudget(900, clock=clock)
    assert budget.until_closing() == 890
    assert budget.until_over() == 895
    assert budget.left() == 900


def test_stopping_closes_at_once_and_is_over_after_the_grace(clock: Clock) -> None:
    budget = TimeBudget(900, grace=5, clock=clock)
    budget.stop()
    assert (budget.is_closing, budget.is_over, budget.is_stopped) == (True, False, True)
    assert budget.until_closing() == 0
    clock.now += 5.1
    assert budget.is_over
    assert 0 < budget.left() < 6


def test_stopping_gives_no_time_that_was_not_there(clock: Clock) -> None:
    budget = TimeBudget(2, grace=60, clock=clock)
    budget.stop()
    assert budget.until_over() < 2


def test_running_commands_get_some_seconds_unless_the_host_says_otherwise(clock: Clock) -> None:
    budget = TimeBudget(900, clock=clock)
    budget.stop()
    assert budget.until_over() == 5.0
