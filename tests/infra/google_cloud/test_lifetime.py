"""What the stand-in starts ends with it, however it ends."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.infra.google_cloud.conftest import new_account
from tests.infra.google_cloud.deployer import Deployer
from tests.infra.google_cloud.standin import Standin

PATIENCE = 20.0


@pytest.fixture
def own_standin() -> Iterator[Standin]:
    """One that a test may end."""
    with tempfile.TemporaryDirectory(prefix="noetl-google-") as folder:
        standin = Standin(Path(folder), "--idle", "1")
        yield standin
        standin.stop()


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_standin_ends(own_standin: Standin, number: signal.Signals) -> None:
    cloud = Deployer.of(own_standin, new_account(own_standin, "lifetime"))
    service = cloud.deploy("lifetime", cloud.message(cloud.image()))
    assert cloud.call(service).status == 200
    leader = psutil.Process(own_standin.process.pid)
    started = leader.children(recursive=True)
    # fake-gcs-server, the guard, an instance's server and its worker
    assert len(started) >= 4
    leader.send_signal(number)
    _, left = psutil.wait_procs(started, timeout=PATIENCE)
    assert not left


def test_an_idle_instance_is_stopped_and_another_started_for_the_next_request(own_standin: Standin) -> None:
    cloud = Deployer.of(own_standin, new_account(own_standin, "lifetime"))
    service = cloud.deploy("idle", cloud.message(cloud.image()))
    assert len(cloud.instances(service)) == 1
    eventually(lambda: not cloud.instances(service))
    assert cloud.call(service).status == 200
