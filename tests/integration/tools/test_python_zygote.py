"""The process that forks the Python children: what it is, what its children have of it, and what its end means."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from tests.eventually import eventually

from noetl_serverless.tools import python_forks
from noetl_serverless.tools.private_folders import PrivateFolders
from noetl_serverless.tools.python_child import MemoryLimit, Runner
from noetl_serverless.tools.python_pool import PythonPool
from noetl_serverless.tools.python_zygote import Zygote

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are forked only on Linux")

PID = "import os; result = os.getpid()"
# in a session and a group of its own, without a parent that knows it
DAEMON = """
import os, time
read, write = os.pipe()
if not os.fork():
    os.setsid()
    if not os.fork():
        os.write(write, str(os.getpid()).encode())
        time.sleep(600)
    os._exit(0)
result = int(os.read(read, 20))
"""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[PythonPool]:
    made = PythonPool(2, 512, tmp_path / "python")
    await made.run("import os; result = 1", {}, execution="first")
    yield made
    await made.close()


def zygote_of(pool: PythonPool) -> psutil.Process:
    (pid,) = {psutil.Process(pid).ppid() for pid in pool.pids}
    return psutil.Process(pid)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_it_has_one_thread_and_nothing_that_makes_a_fork_slow(pool: PythonPool) -> None:
    assert zygote_of(pool).num_threads() == 1, "a fork would copy the locks of other threads"
    reply = await pool.run("import sys; result = sorted(sys.modules)", {})
    assert not {"threading", "logging", "asyncio"}.intersection(reply["data"]), (
        "each of these runs its own code after every fork"
    )


async def test_it_has_nothing_of_the_engines_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOETL_ENCRYPTION_KEYS", "k1:topsecret")
    pool = PythonPool(1, 512, tmp_path)
    try:
        await pool.run("import os; result = 1", {}, execution="1")
        assert "topsecret" not in str(zygote_of(pool).cmdline())
        # where no rules separate processes, it is closed to all who are not root
        with contextlib.suppress(psutil.AccessDenied):
            assert "topsecret" not in str(zygote_of(pool).environ())
    finally:
        await pool.close()


async def test_a_child_has_its_output_and_one_socket_and_no_other_descriptor(pool: PythonPool) -> None:
    code = (
        "import os\nfolder = '/proc/self/fd/'\n"
        "result = {n: os.readlink(folder + n).split(':')[0] for n in os.listdir(folder) if os.path.exists(folder + n)}"
    )
    reply = await pool.run(code, {})
    assert reply["data"] == {"0": "/dev/null", "1": "pipe", "2": "pipe", "3": "socket"}


async def test_a_child_can_neither_signal_nor_trace_another(pool: PythonPool) -> None:
    if not PrivateFolders([]).separates_processes:
        pytest.skip("the kernel has no Landlock that restricts signals (Linux 6.12 or later)")
    other = (await pool.run(PID, {}, execution="other"))["data"]
    code = (
        "import ctypes, os\nresult = []\n"
        "for look in (lambda: os.kill(other, 0), lambda: open(f'/proc/{other}/mem', 'rb'),\n"
        "             lambda: open(f'/proc/{other}/environ').read()):\n"
        "    try:\n        result.append(str(look()))\n"
        "    except PermissionError:\n        result.append('refused')\n"
        "result.append(ctypes.CDLL(None).ptrace(16, other, 0, 0))"
    )
    assert (await pool.run(code, {"other": other}))["data"] == ["refused", "refused", "refused", -1]


async def test_a_child_of_pure_code_that_has_grown_is_not_kept(pool: PythonPool) -> None:
    await pool.run("result = 0", {})
    assert len(pool._idle_for_any) == 1
    reply = await pool.run("result = len([0] * 10_000_000)", {})
    assert (reply["data"], pool._idle_for_any) == (10_000_000, []), "the memory of a large value stays taken"


async def test_what_leaves_the_group_of_a_child_ends_with_it(pool: PythonPool) -> None:
    daemon = (await pool.run(DAEMON, {}, execution="1"))["data"]
    assert (await pool.run(f"import os; os.kill({daemon}, 0); result = 'there'", {}, execution="1"))["data"] == "there"
    await pool.run("import os; os._exit(0)", {}, execution="1")
    await eventually(lambda: is_gone(daemon))


async def test_when_it_dies_its_children_do_and_others_take_over(pool: PythonPool) -> None:
    before = pool.pids
    running = asyncio.create_task(pool.run("import time; time.sleep(600)", {}, execution="1"))
    await eventually(lambda: pool._busy)
    zygote_of(pool).kill()
    reply = await running
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("python.killed", True)
    await eventually(lambda: all(map(is_gone, before)))
    after = [(await pool.run(PID, {}, execution=str(n)))["data"] for n in range(3)]
    assert not set(after) & set(before)


async def test_calls_that_wait_for_a_child_get_it_from_the_next(pool: PythonPool) -> None:
    zygote_of(pool).send_signal(signal.SIGSTOP)
    calls = [asyncio.create_task(pool.run(PID, {})) for _ in range(12)]
    await asyncio.sleep(0.2)
    zygote_of(pool).kill()
    replies = await asyncio.wait_for(asyncio.gather(*calls), 60)
    assert [reply["status"] for reply in replies[-4:]] == ["ok"] * 4, "calls that had not begun were lost"


async def test_one_that_hangs_is_replaced(pool: PythonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_forks, "_END_SECONDS", 0.3)
    zygote_of(pool).send_signal(signal.SIGSTOP)
    reply = await pool.run("import time; time.sleep(600)", {}, 0.1, execution="first")
    assert reply["error"]["code"] == "python.timeout"
    assert (await pool.run("import os; result = 1", {}))["data"] == 1


async def test_one_that_cannot_start_fails_the_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_forks, "_ZYGOTE", "noetl_serverless.missing")
    pool = PythonPool(1, 512, tmp_path / "p")
    try:
        replies = await asyncio.wait_for(asyncio.gather(*(pool.run("import os; result = 1", {}) for _ in range(3))), 60)
        errors = [reply["error"] for reply in replies]
        assert [(error["code"], error["retryable"]) for error in errors] == [("python.unavailable", True)] * 3
        monkeypatch.undo()
        # what was requested ahead has failed, too
        await eventually(lambda: not pool._requested)
        assert (await pool.run("import os; result = 1", {}))["data"] == 1
    finally:
        await pool.close()


async def test_a_folder_serves_one_child_after_another_empty(pool: PythonPool) -> None:
    where = "import os\nresult = [os.getcwd(), os.listdir()]\nopen('left', 'w').close()\nos.mkdir('d')"
    found = []
    for _ in range(30):
        found.append((await pool.run(where, {}))["data"])
    assert [listed for _, listed in found if listed] == [], "a child has files of another"
    assert len({folder for folder, _ in found}) < 20, "each child gets a folder of its own, and none is used again"


def test_a_fork_that_fails_is_reported_and_costs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def no_more() -> int:
        raise BlockingIOError(11, "no more processes")

    with ours, theirs:
        zygote = Zygote(theirs, Runner(MemoryLimit(512)), str(tmp_path), PrivateFolders([]))
        opened = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(os, "fork", no_more)
        for _ in range(3):
            zygote._obey({"fork": 2})
            assert json.loads(ours.recv(1000)) == {"failed": 2, "why": "[Errno 11] no more processes", "errno": 11}
        # the rules of its folders
        assert len(os.listdir("/proc/self/fd")) <= opened + 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
