"""The times of an outcome."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.worker.execution import executor


class Stopped:
    def __init__(self, ran: float, waited: float) -> None:
        self.ran = ran
        self.waited = waited


def test_times_are_milliseconds_and_no_wait_is_not_mentioned() -> None:
    stopped: Any = Stopped(1.5, 0.25)
    assert executor._times(stopped) == {"duration_ms": 1500.0, "waited_ms": 250.0}
    stopped = Stopped(0.0000014, 0.0000004)
    assert executor._times(stopped) == {"duration_ms": 0.001}


async def test_an_outcome_says_when_it_began_to_the_millisecond_in_utc(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_767_225_599_987_654_321)
    bench.tool("a", make.ok())
    outcome = await bench.run(make.step(make.task("a")))
    assert outcome.meta["started_at"] == "2025-12-31T23:59:59.987Z"


async def test_a_step_that_the_playbook_does_not_have_is_an_error(bench: Bench) -> None:
    command = bench.command(make.step(make.task("a"), name="gone"))
    other = make.plan(make.step(make.task("a"), name="there"))
    outcome = await bench.executor.run(command, other, bench.budget, bench.lease)
    assert outcome.error is not None and outcome.error["code"] == "worker.no_step", outcome


async def test_a_frame_of_a_step_without_a_loop_is_an_error(bench: Bench) -> None:
    outcome = await bench.frame(make.step(make.task("a")), [1])
    assert outcome.error["code"] == "worker.no_loop", outcome


async def test_a_frame_command_without_its_frame_is_an_error(bench: Bench) -> None:
    outcome = await bench.run(make.step(make.task("a"), loop=make.loop()), kind="frame")
    assert outcome.error["code"] == "worker.malformed_command", outcome


async def test_an_input_that_is_no_object_fails_the_task(bench: Bench) -> None:
    bench.tool("a", make.ok())
    outcome = await bench.run(make.step(make.task("a", config={"input": [1]})))
    assert outcome.error["code"] == "input.invalid", outcome
    assert outcome.error["message"] == "the input of task 'a' must give an object, not list"
