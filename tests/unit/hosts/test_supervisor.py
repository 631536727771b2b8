from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from tests.eventually import eventually

from noetl_serverless.hosts.local.process import Process, Program
from noetl_serverless.hosts.local.supervisor import Supervised, Supervisor


def part(name: str, tmp_path: Path, code: str = "import time; time.sleep(600)") -> Supervised:
    return Supervised(name, lambda: Program(name, [sys.executable, "-c", code], tmp_path / f"{name}.log"))


async def test_one_that_dies_is_started_again_and_reported(tmp_path: Path) -> None:
    changes = []
    supervisor = Supervisor(lambda: changes.append(supervisor.pids()))
    supervisor.start([part("a", tmp_path), part("b", tmp_path)])
    before = supervisor.pids()
    watching = asyncio.create_task(supervisor.watch())
    supervisor.groups[0][0].process.kill()  # type: ignore[union-attr]
    await eventually(lambda: changes)
    watching.cancel()
    assert changes[0]["a"] != before["a"]
    assert changes[0]["b"] == before["b"]
    await supervisor.stop()


def test_one_that_keeps_dying_is_started_less_and_less_often(tmp_path: Path) -> None:
    broken = part("broken", tmp_path, "raise SystemExit(1)")
    now = 1000.0
    broken.start(now)
    starts = []
    for step in range(600):
        if broken.process is not None:
            broken.process._popen.wait()
        if broken.restart_if_dead(now + step * 0.1):
            starts.append(step)
    pauses = [later - sooner for sooner, later in pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] <= 51
    if broken.process is not None:
        broken.process.kill()


def test_one_that_cannot_be_prepared_does_not_end_the_watch(tmp_path: Path) -> None:
    def prepare() -> Program:
        raise RuntimeError("the disk is full")

    broken = Supervised("broken", prepare)
    assert broken.restart_if_dead(time.monotonic()) is False


async def test_those_of_a_group_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(lambda: None)
    # of 16 instances, whatever the machine has
    instances = 16
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    supervisor.start([part(str(number), tmp_path) for number in range(instances)])
    meet = threading.Barrier(instances)
    stop = Process.stop

    def wait_for_others(process: Process) -> None:
        meet.wait(20)
        stop(process)

    monkeypatch.setattr(Process, "stop", wait_for_others)
    try:
        await supervisor.stop()
    except threading.BrokenBarrierError:
        supervisor.kill()
        pytest.fail("one was waited for before the next: each that is deaf makes it longer")


async def test_they_stop_in_the_opposite_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    # waited for, not handled: a handler can run just before pause(), which then waits for another
    code = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "print('up', flush=True)\n"
        "signal.sigwait([signal.SIGTERM])\n"
    )
    supervisor = Supervisor(lambda: None)
    for name in ("first", "second"):
        supervisor.start([part(name, tmp_path, f"{code}open({str(order)!r}, 'a').write({name + ' '!r})")])
    await eventually(lambda: all("up" in (tmp_path / f"{name}.log").read_text() for name in ("first", "second")))
    await supervisor.stop()
    assert order.read_text() == "second first "
