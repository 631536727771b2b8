from __future__ import annotations

from noetl_serverless.worker.execution.stopwatch import Stopwatch


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_wait_all_of_the_time_was_run() -> None:
    clock = Clock()
    stopwatch = Stopwatch(clock)
    clock.now = 3.0
    assert (stopwatch.ran, stopwatch.waited) == (3.0, 0.0)


def test_a_delay_is_no_run_time() -> None:
    clock = Clock()
    stopwatch = Stopwatch(clock)
    clock.now = 1.0
    with stopwatch.paused():
        clock.now = 5.0
        assert (stopwatch.ran, stopwatch.waited) == (1.0, 4.0), "a delay that is not over yet counts as run time"
    clock.now = 6.0
    assert (stopwatch.ran, stopwatch.waited) == (2.0, 4.0)


def test_a_delay_beside_something_that_runs_is_run_time() -> None:
    clock = Clock()
    stopwatch = Stopwatch(clock)
    with stopwatch.paused(), stopwatch.running():
        with stopwatch.running(), stopwatch.paused():
            clock.now = 2.0
        with stopwatch.paused():
            clock.now = 3.0
        clock.now = 7.0
    assert (stopwatch.ran, stopwatch.waited) == (6.0, 1.0)
