"""Functions under the real server of the Functions Framework."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.process import Process, Program, wait_until

TIMEOUT_SECONDS = 1
FUNCTION = """
import os
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from noetl_serverless.hosts.assembly.service import Service
from noetl_serverless.hosts.http.framework import serve

function = serve(Service(Starlette(routes=[Route("/", lambda request: JSONResponse({"pid": os.getpid()}))]), ()))
"""


@pytest.fixture
def function(tmp_path: Path) -> Iterator[tuple[Process, str]]:
    """An instance as Cloud Run starts it, and its URL."""
    (tmp_path / "main.py").write_text(FUNCTION)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    process = Process(
        Program(
            name="function",
            argv=[
                *(sys.executable, "-m", "functions_framework", "--asgi", "--target", "function"),
                *("--source", str(tmp_path / "main.py"), "--host", "127.0.0.1", "--port", str(port)),
            ],
            log=tmp_path / "log",
            environment={**os.environ, "CLOUD_RUN_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS)},
            directory=tmp_path,
        )
    )
    try:
        wait_until(lambda: answers(url), process, 60)
        yield process, url
    finally:
        process.stop()


def test_an_instance_that_had_no_cpu_for_longer_than_its_timeout_goes_on(function: tuple[Process, str]) -> None:
    process, url = function
    before = pid_of_server(url)
    # Cloud Run gives an instance no CPU between two requests
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(TIMEOUT_SECONDS + 1)
    os.killpg(process.pid, signal.SIGCONT)
    for _ in range(20):
        assert pid_of_server(url) == before, "its server has taken the pause for a hang, and has ended the process"
        time.sleep(0.1)


def pid_of_server(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(json.load(answer)["pid"])


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return pid_of_server(url) > 0
    return False
