from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from noetl_serverless.hosts.local.orphans import kill_found, stop_orphans

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def child(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process in a group of its own that works in `tmp_path`; its parent does not ask for its status."""
    child = subprocess.Popen(SLEEP, cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 30
    while psutil.Process(child.pid).cwd() != str(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return child


def test_an_orphan_that_remains_as_a_zombie_is_not_waited_for(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    stop_orphans([child.pid], tmp_path)
    assert time.monotonic() - began < 5
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert child.wait() == -9


def test_what_has_the_number_of_an_orphan_but_works_elsewhere_is_left_alone(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    stop_orphans([child.pid], tmp_path / "another")
    assert child.poll() is None
    stop_orphans([os.getpgid(0)], tmp_path)
    assert child.poll() is None
    child.kill()
    child.wait()


def test_what_starts_while_others_are_killed_is_killed_too(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    later: list[subprocess.Popen[bytes]] = []

    def find() -> list[psutil.Process]:
        known = [child, *later]
        if not later:
            later.append(subprocess.Popen(SLEEP))
        return [psutil.Process(one.pid) for one in known if one.poll() is None]

    assert kill_found(find) == []
    assert [one.wait() for one in (child, *later)] == [-9, -9]


def test_what_does_not_end_is_returned(child: subprocess.Popen[bytes]) -> None:
    # a zombie, which no signal ends
    found = [psutil.Process(child.pid)]
    assert kill_found(lambda: found, patience=0.05) == found
    assert child.wait() == -9
