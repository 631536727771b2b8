from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from noetl_serverless.hosts.local.process import Process, Program, wait_until

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep({life})
"""


def start(code: str, tmp_path: Path, **more: object) -> Process:
    return Process(Program("it", [sys.executable, "-c", code], tmp_path / "it.log", **more))  # type: ignore[arg-type]


def first_line(process: Process) -> str:
    wait_until(lambda: "\n" in process.program.log.read_text(), process, 30)
    return process.program.log.read_text().splitlines()[0]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while not gone(pid):
        assert time.monotonic() < deadline, f"{pid} is still there"
        time.sleep(0.02)


def test_stopping_it_ends_its_children_too(tmp_path: Path) -> None:
    process = start(PARENT.format(life=600), tmp_path)
    child = int(first_line(process))
    process.stop()
    wait_gone(child)
    assert not process.alive


def test_the_children_of_one_that_died_are_killed(tmp_path: Path) -> None:
    process = start(PARENT.format(life=0), tmp_path)
    child = int(first_line(process))
    deadline = time.monotonic() + 30
    while process.alive and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not gone(child)
    process.kill()
    wait_gone(child)


def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    process = start(code, tmp_path, stop_timeout=0.2)
    first_line(process)
    process.stop()
    assert process.returncode == -9


def test_it_is_asked_to_stop_once(tmp_path: Path) -> None:
    code = """
import signal, time
asked = []
signal.signal(15, lambda *_: asked.append(1))
print("up", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.5)
print(len(asked), flush=True)
"""
    process = start(code, tmp_path)
    first_line(process)
    process.send_stop_signal()
    time.sleep(0.1)
    process.stop()
    times = process.program.log.read_text().split()[1]
    assert times == "1", f"it got the signal {times} times, and the second may mean something else"


def test_it_gets_the_environment_it_was_given_and_no_other(tmp_path: Path) -> None:
    process = start("import os; print(sorted(os.environ), flush=True)", tmp_path, environment={"ONE": "1"})
    names = first_line(process)
    process.stop()
    assert "ONE" in names
    assert "PATH" not in names


def test_one_that_dies_while_starting_says_why(tmp_path: Path) -> None:
    start("print('luck')", tmp_path).stop()
    process = start("raise SystemExit('no such luck')", tmp_path)
    with pytest.raises(RuntimeError) as raised:
        wait_until(lambda: False, process, 30)
    assert str(raised.value) == (
        f"it stopped while starting, with exit status 1; {tmp_path / 'it.log'} has its log, which says of this start:\n"
        "no such luck"
    )


def test_one_that_dies_without_a_word_is_reported_with_its_signal(tmp_path: Path) -> None:
    start("print('said before')", tmp_path).stop()
    process = start("import os; os.kill(os.getpid(), 9)", tmp_path)
    with pytest.raises(RuntimeError) as raised:
        wait_until(lambda: False, process, 30)
    assert str(raised.value) == (
        f"it stopped while starting, by signal 9; {tmp_path / 'it.log'} has its log, without a word of this start"
    )


def test_one_that_is_not_ready_in_time_says_what_it_does(tmp_path: Path) -> None:
    process = start("import time; print('I take my time', flush=True); time.sleep(600)", tmp_path)
    first_line(process)
    with pytest.raises(RuntimeError, match=r"^it is not ready after 0.05 s; .*it\.log has its log.*:\nI take my time$"):
        wait_until(lambda: False, process, 0.05)
    process.stop()


def test_a_log_that_has_grown_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.hosts.local.process.LOG_BYTES", 3)
    (tmp_path / "it.log").write_text("long ago")
    start("", tmp_path).stop()
    assert (tmp_path / "it.log.1").read_text() == "long ago"
    assert (tmp_path / "it.log").read_text() == ""


def test_it_does_not_outlive_its_parent(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from noetl_serverless.hosts.local.process import Process, Program
argv = [sys.executable, "-c", "import time; time.sleep(600)"]
process = Process(Program("it", argv, Path({str(tmp_path / "x.log")!r})))
print(process.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_gone(child)
