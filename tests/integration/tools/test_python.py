from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.eventually import eventually

from noetl_serverless.tools.fair_queue import Share
from noetl_serverless.tools.port import ToolOutcome
from noetl_serverless.tools.python_pool import PythonPool
from noetl_serverless.tools.python_process import PythonProcess

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]


def error_of(outcome: ToolOutcome) -> dict[str, Any]:
    assert outcome.error is not None
    return outcome.error


@pytest.fixture
def python(run: Run) -> Run:
    async def python(code: str, timeout: float | None = None, **given: Any) -> ToolOutcome:
        return await run("python", {"code": code}, given, timeout)

    return python


async def gone(pid: int) -> bool:
    """Whether a process ends, soon."""
    for _ in range(200):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("result = {'sum': a + b}", {"sum": 3}),
        ("def main(a, b):\n    return a - b", -1),
        ("async def main(a, b):\n    import asyncio\n    await asyncio.sleep(0)\n    return [a, b]", [1, 2]),
        ("def main(a, b):\n    return 1\nresult = 2", 2),
        ("x = a", None),
        ("from __future__ import annotations\nresult = __name__", "__main__"),
        ("import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\nresult = P(a)", {"x": 1}),
        ("import pickle\nclass C: pass\nresult = type(pickle.loads(pickle.dumps(C()))).__name__", "C"),
        (
            "import decimal, uuid, datetime\nresult = [decimal.Decimal('1.5'), datetime.date(2024, 1, 2)]",
            [1.5, "2024-01-02"],
        ),
        ("result = {1: 'int', None: (1, 2)}", {"1": "int", "null": [1, 2]}),
        ("return a + b", 3),
        ("result = 1\nif a:\n    return", None),
        ("result = 1\nif not a:\n    return 2", 1),
        ("if not a:\n    return 2", None),
        ("def main(a, b):\n    return a\nif not a:\n    return 2", 1),
        ("a: int = a + b\nreturn [a for b in (1, 2)] + [b]", [3, 3, 2]),
        ("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return a\nresult = await f()", 1),
        ("return input_data", {"a": 1, "b": 2}),
        ("result = [input_data['a'], args.get('b'), input_data is args]", [1, 2, False]),
        ("def main(input_data):\n    return input_data['b']", 2),
        ("def main(a, args):\n    return [a, args['b']]", [1, 2]),
        ("def main(args, **more):\n    return [args, more]", [{"a": 1, "b": 2}, {"a": 1, "b": 2}]),
        ("args = []\nresult = args", []),
        ("import enum\nclass E(enum.Enum):\n    A = 'a'\nresult = [E.A, None]", ["a", None]),
        ("import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\nresult = [P(a), None]", [{"x": 1}, None]),
    ],
)
async def test_the_result_is_what_the_code_leaves(python: Run, code: str, expected: Any) -> None:
    outcome = await python(code, a=1, b=2)
    assert (outcome.status, outcome.error, outcome.data) == ("ok", None, expected)


async def test_an_input_named_result_is_not_taken_for_the_result(python: Run) -> None:
    assert (await python("def main(result):\n    return result + 1", result=1)).data == 2
    assert (await python("result = result + 1", result=1)).data == 2


async def test_an_input_named_input_data_is_meant_itself(python: Run) -> None:
    assert (await python("result = input_data", input_data={"x": 1}, n=2)).data == {"x": 1}


async def test_code_that_is_too_long_to_compile_ahead_means_the_same(python: Run) -> None:
    long = "x = 1\n" * 5_000
    assert (await python(f"{long}return input_data['n']", n=2)).data == 2
    assert (await python(f"{long}result = n", n=3)).data == 3
    failed = await python(f"{long}yield n", n=3)
    assert error_of(failed)["message"].startswith("SyntaxError: 'yield' outside function")
    assert (failed.extra["py"]["line"], "python_body" in failed.extra["py"]["traceback"]) == (5_001, False)


async def test_an_exception_in_the_body_of_a_function_is_reported_with_its_line(python: Run) -> None:
    outcome = await python("if a:\n    return 1\n\nreturn 1 / a", a=0)
    assert (outcome.extra["py"]["line"], error_of(outcome)["message"]) == (4, "ZeroDivisionError: division by zero")
    assert 'File "<code>", line 4, in <module>' in outcome.extra["py"]["traceback"]
    assert "python_child" not in outcome.extra["py"]["traceback"]


@pytest.mark.parametrize(
    ("libs", "code", "expected"),
    [
        ({"j": "json", "dt": "datetime"}, "return j.dumps(str(dt.date(2024, 1, 2)))", '"2024-01-02"'),
        ({"p": "os.path"}, "result = p.join('a', 'b')", "a/b"),
        (["prometheus-client"], "import prometheus_client\nresult = n", 5),
        ({"P": "pathlib.PurePosixPath"}, "result = str(P('a') / 'b')", "a/b"),
        (["json", "os.path"], "result = [json.loads('1'), os.path.join('a', os.sep)]", [1, "/"]),
        ({"np": "json"}, "def main(n):\n    return np.dumps(n)", "5"),
        ({"n": "json"}, "result = n", 5),
        ({}, "result = n", 5),
    ],
)
async def test_libs_are_imported_before_the_code_runs(run: Run, libs: Any, code: str, expected: Any) -> None:
    outcome = await run("python", {"code": code, "libs": libs}, {"n": 5})
    assert (outcome.error, outcome.data) == (None, expected)


async def test_a_module_that_cannot_be_imported_fails_the_task_by_name(run: Run) -> None:
    outcome = await run("python", {"code": "print('begun')", "libs": {"x": "no_such.module"}})
    assert outcome.error == {
        "kind": "python",
        "code": "python.import",
        "retryable": False,
        "message": "the module 'no_such.module' of libs cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such'",
    }
    assert outcome.extra["py"]["exception"] == "ModuleNotFoundError"
    absent = await run("python", {"code": "print('begun')", "libs": ["no-such-thing"]})
    assert "'no-such-thing' of libs is not installed where the worker runs" in error_of(absent)["message"]
    missing = await run("python", {"code": "print('begun')", "libs": {"x": "json.nothing"}})
    assert "No module named 'json.nothing'" in error_of(missing)["message"]
    assert "given_names" not in outcome.extra["py"]["traceback"]
    assert outcome.meta == {}


async def test_what_libs_have_imported_no_other_execution_meets(tmp_path: Path) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    try:
        seen = [
            (await one.run("j.left = 1\nresult = n", {"n": 1}, execution="e", libs={"j": "colorsys"}))["data"],
            (await one.run("result = hasattr(j, 'left')", {}, execution="other", libs={"j": "colorsys"}))["data"],
        ]
        assert seen == [1, False]
    finally:
        await one.close()


async def test_the_context_is_what_the_code_may_read(run: Run) -> None:
    reads = {"workload": {"limit": 3}, "ctx": {"page": 1}, "fetch": {"rows": [1]}, "execution_id": "7"}
    for code, expected in (
        ("return context.get('workload', {}).get('limit')", 3),
        ("result = [context['ctx']['page'], context['page'], context['fetch']['rows']]", [1, 1, [1]]),
        ("return context", {**reads, "limit": 3, "page": 1}),
        ("import json\nreturn json.loads(json.dumps(context['fetch']))", {"rows": [1]}),
        ("return isinstance(context, dict) and 'nope' not in context", True),
        ("def main(context):\n    return context['limit']", 3),
    ):
        outcome = await run("python", {"code": code}, reads=reads)
        assert (outcome.error, outcome.data) == (None, expected), code
    refused = error_of(await run("python", {"code": "context['x'] = 1"}, reads=reads))
    assert refused["message"].startswith("TypeError: context cannot be changed")
    given = await run("python", {"code": "return context"}, {"context": 5}, reads=reads)
    assert given.data == 5


async def test_nothing_is_left_behind_for_the_next_call_of_the_execution(run: Run, tmp_path: Path) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    try:
        dirty = (
            "import os, sys, io\nleft = 1\nos.environ['LEFT'] = '1'\nopen('file', 'w').write('x')\nos.mkdir('d')\n"
            "sys.path.insert(0, '/nowhere')\nos.chdir('/')\nsys.stdout = io.StringIO()"
        )
        look = (
            "import os, sys\nprint('heard')\nresult = ['left' in globals(), 'LEFT' in os.environ, os.listdir('.'), "
            "'/nowhere' in sys.path, os.getpid()]"
        )
        first = await one.run("import os\nresult = os.getpid()", {}, execution="e")
        await one.run(dirty, {}, execution="e")
        after = await one.run(look, {}, execution="e")
        assert after["data"] == [False, False, [], False, first["data"]]
        assert after["stdout"] == "heard\n"
    finally:
        await one.close()


async def test_an_exception_is_reported_with_the_users_lines_alone(python: Run) -> None:
    outcome = await python("def f(x):\n    return 1 / x\n\nresult = f(a)", a=0)
    assert outcome.error == {
        "kind": "python",
        "code": "python.exception",
        "retryable": False,
        "message": "ZeroDivisionError: division by zero",
    }
    py = outcome.extra["py"]
    assert (py["exception"], py["line"]) == ("ZeroDivisionError", 2)
    assert "return 1 / x" in py["traceback"]
    assert "python_child" not in py["traceback"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("result = {'a': [object()]}", "data.a[0]: a value of type object is not JSON"),
        ("result = 2 ** 70", "data: an integer does not fit in 64 bits"),
        ("result = b'x'", "data: a value of type bytes is not JSON; encode it as base64"),
        ("result = {'scores': [1.0, 2.0, None, float('nan')]}", "data.scores[3]: NaN is not JSON"),
        ("result = [-float('inf')]", "data[0]: an infinite number is not JSON"),
        ("result = ['a', 'x\\0y']", "data[1]: a string contains a NUL character"),
        ("result = {'k': '\\ud800'}", "data.k: a string contains an unpaired surrogate"),
        ("result = {'\\0': 1}", "data: a string contains a NUL character"),
        ("result = {1: 'a', '1': 'b'}", "data.1: two keys of the object become the same string"),
        ("result = []\nresult.append(result)", "data[0][0]"),
    ],
)
async def test_a_result_that_cannot_be_stored_is_refused_with_its_place(python: Run, code: str, message: str) -> None:
    outcome = await python(code)
    assert outcome.error is not None, f"it was taken, as {outcome.data}"
    assert (error_of(outcome)["kind"], error_of(outcome)["code"]) == ("value", "value.invalid")
    assert error_of(outcome)["retryable"] is False
    assert error_of(outcome)["message"].startswith(f"the result cannot be stored: at {message}")


async def test_an_exception_with_characters_that_cannot_be_stored_is_reported_without_them(python: Run) -> None:
    outcome = await python("raise ValueError('a\\0b\\ud800c')")
    assert error_of(outcome)["message"] == "ValueError: a\ufffdb?c"
    assert "\0" not in outcome.extra["py"]["traceback"]


@pytest.mark.parametrize("code", ["exit(3)", "raise SystemExit", "raise KeyboardInterrupt"])
async def test_leaving_the_code_does_not_end_the_process(python: Run, pool: PythonPool, code: str) -> None:
    await python("pass")
    before = set(pool.pids)
    assert error_of(await python(code))["code"] == "python.exception"
    assert before <= set(pool.pids)


async def test_prints_are_kept_and_bounded(python: Run) -> None:
    outcome = await python("import subprocess\nprint('one')\nsubprocess.run(['echo', 'two'])\nprint('three', end='')")
    assert outcome.meta["stdout"] == "one\ntwo\nthree"
    loud = await python("for i in range(200000): print('x' * 50)")
    assert loud.status == "ok"
    assert len(loud.meta["stdout"]) < 9000
    assert loud.meta["stdout"].endswith("more bytes]")


async def test_a_timeout_kills_the_process_and_its_children(python: Run, pool: PythonPool, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    code = (
        "import os, subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\nprint('working')\ntime.sleep(600)"
    )
    outcome = await python(code, timeout=1.0)
    assert error_of(outcome)["code"] == "python.timeout"
    assert error_of(outcome)["retryable"] is True
    assert outcome.meta["stdout"] == "working\n"
    me, child = map(int, note.read_text().split())
    assert not psutil.pid_exists(me)
    assert await gone(child)
    assert me not in pool.pids
    assert (await python("import os; result = 1")).data == 1


async def test_code_that_never_yields_is_killed_too(python: Run) -> None:
    assert error_of(await python("while True: pass", timeout=0.2))["code"] == "python.timeout"
    ignoring = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"
    assert error_of(await python(ignoring, timeout=0.2))["code"] == "python.timeout"


async def test_cancelling_kills_and_the_pool_goes_on(python: Run) -> None:
    killed = (await python("import os; result = os.getpid()")).data
    task = asyncio.create_task(python("import time; time.sleep(600)"))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(killed), "what was cancelled goes on"
    assert [(await python("import os; result = 1")).data for _ in range(3)] == [1, 1, 1]


async def test_the_memory_limit_holds_and_costs_the_process(python: Run) -> None:
    outcome = await python("x = bytearray(700_000_000)")
    assert error_of(outcome)["code"] == "python.memory"
    assert error_of(outcome)["retryable"] is False
    assert (await python("x = bytearray(100_000_000); result = len(x)")).data == 100_000_000


@pytest.mark.parametrize(
    "code", ["import os; os._exit(3)", "import os; os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)"]
)
async def test_a_process_that_dies_is_an_error_to_retry(python: Run, code: str) -> None:
    outcome = await python(code)
    assert (error_of(outcome)["code"], error_of(outcome)["retryable"]) == ("python.killed", True)
    assert (await python("import os; result = 1")).data == 1


async def test_a_process_left_with_threads_is_replaced(python: Run, pool: PythonPool) -> None:
    code = (
        "import os, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\nresult = os.getpid()"
    )
    pid = (await python(code)).data
    assert pid not in pool.pids
    assert await gone(pid)


async def test_a_forgotten_fork_neither_answers_nor_stays(python: Run) -> None:
    code = "import os\npid = os.fork()\nresult = pid or 'child'"
    outcome = await python(code)
    assert isinstance(outcome.data, int)
    assert await gone(outcome.data)
    assert (await python("import os; result = 1")).data == 1


async def test_the_child_sees_none_of_the_engines_environment(python: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOETL_ENCRYPTION_KEYS", "k1:topsecret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    code = (
        "import os, subprocess\n"
        "result = str(dict(os.environ)) + subprocess.run(['env'], capture_output=True, text=True).stdout"
    )
    outcome = await python(code)
    assert outcome.status == "ok"
    assert "topsecret" not in outcome.data
    assert "NOETL" not in outcome.data


async def test_the_child_cannot_read_its_parents_environment(python: Run) -> None:
    outcome = await python("result = open(f'/proc/{ppid}/environ').read()", ppid=os.getpid())
    assert outcome.error is not None
    assert outcome.extra["py"]["exception"] == "PermissionError"
    again = (
        "import subprocess\nresult = subprocess.run(['cat', f'/proc/{ppid}/environ'], capture_output=True).returncode"
    )
    assert (await python(again, ppid=os.getpid())).data != 0


async def test_the_child_holds_no_other_open_files_of_the_parent(python: Run, tmp_path: Path) -> None:
    code = (
        "import os\nfolder = '/proc/self/fd/'\n"
        "result = [os.readlink(folder + n) for n in os.listdir(folder) if os.path.lexists(folder + n)]"
    )
    with (tmp_path / "held").open("w"):
        listed = (await python(code)).data
    assert not any("held" in entry for entry in listed)


async def test_fifty_megabytes_pass_in_both_directions(python: Run) -> None:
    text = "y" * 50_000_000
    assert (await python("result = len(s)", s=text)).data == len(text)
    assert (await python("result = ['x' * 1000] * 50_000")).data == ["x" * 1000] * 50_000


async def test_calls_run_side_by_side_and_queue_beyond_the_size(python: Run) -> None:
    code = "import os, time\ntime.sleep(0.05)\nresult = [n, os.getpid()]"
    outcomes = await asyncio.gather(*(python(code, n=n) for n in range(12)))
    assert [outcome.data[0] for outcome in outcomes] == list(range(12))
    assert len({outcome.data[1] for outcome in outcomes}) == 2


async def test_calls_of_a_playbook_hold_up_no_other_playbook(run: Run, pool: PythonPool) -> None:
    ended: list[str] = []

    async def call(playbook: str) -> None:
        await run("python", {"code": "import time; time.sleep(0.05)"}, share=Share(playbook))
        ended.append(playbook)

    many = [asyncio.create_task(call("many")) for _ in range(16)]
    await asyncio.sleep(0)
    await asyncio.gather(*many, call("one"))
    # those that run, and those whose turn it is beside it
    assert ended.index("one") <= 4, "it waited behind all calls of another playbook"


async def test_a_playbook_of_more_weight_has_the_processes_more_often(run: Run, pool: PythonPool) -> None:
    ended: list[str] = []

    async def call(share: Share) -> None:
        await run("python", {"code": "import time; time.sleep(0.02)"}, share=share)
        ended.append(share.key)

    await asyncio.gather(*(call(share) for share in (Share("heavy", 30), Share("light", 10)) for _ in range(24)))
    heavy = ended[:24].count("heavy")
    assert 16 <= heavy <= 20, (
        f"of the first 24 calls that ended {heavy} are of the playbook that weighs three times as much"
    )


async def test_a_process_goes_to_whoever_waits_not_to_the_next_call_of_whoever_had_it(tmp_path: Path) -> None:
    pool = PythonPool(1, 512, tmp_path / "p")
    ended: list[str] = []

    async def calls(playbook: str, count: int) -> None:
        for _ in range(count):
            await pool.run("import os; result = 1", {}, share=Share(playbook))
            ended.append(playbook)

    try:
        await asyncio.gather(calls("many", 20), calls("one", 1))
    finally:
        await pool.close()
    assert ended.index("one") == 1, "whoever has calls one after another kept the process to itself"


async def test_a_call_that_is_cancelled_as_it_is_given_a_process_passes_it_on(tmp_path: Path) -> None:
    pool = PythonPool(1, 512, tmp_path / "p")
    try:
        first = asyncio.create_task(pool.run("import os; result = 0", {}))
        await asyncio.sleep(0)
        waits, follows = (asyncio.create_task(pool.run(f"import os; result = {number}", {})) for number in (1, 2))
        give_back = pool._give_back

        def then_cancel(child: PythonProcess, reusable: bool, mb: int = 0) -> asyncio.Future[int] | None:
            end = give_back(child, reusable, mb)
            # it is given what the first had, and is not awake yet
            waits.cancel()
            return end

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "_give_back", then_cancel)
            await first
        ended, _ = await asyncio.wait([follows], timeout=10)
        assert ended, "it kept the process that it was given"
        assert (follows.result()["data"], waits.cancelled()) == (2, True)
    finally:
        await pool.close()


async def test_waiting_calls_fail_when_no_process_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = PythonPool(1, 512, tmp_path / "p")
    try:

        def no_more(*given: Any, **options: Any) -> None:
            raise BlockingIOError("no more processes")

        opened = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", no_more)
            replies = await asyncio.wait_for(
                asyncio.gather(*(pool.run("import os; result = 1", {}) for _ in range(3))), 30
            )
        errors = [reply["error"] for reply in replies]
        assert [(error["code"], error["retryable"]) for error in errors] == [("python.unavailable", True)] * 3
        # the lock of the pool's folder
        assert len(os.listdir("/proc/self/fd")) <= opened + 1, "what was opened for a process stays open without it"
        assert not list((tmp_path / "p").glob("*/*/")), "the folder of a process stays without it"
        assert (await pool.run("import os; result = 3", {}))["data"] == 3
    finally:
        await pool.close()


async def test_a_waiting_call_that_is_cancelled_gives_up_its_turn(tmp_path: Path) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    try:
        first = asyncio.create_task(one.run("import time; time.sleep(0.2); result = 1", {}))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(one.run("import os; result = 2", {}))
        third = asyncio.create_task(one.run("import os; result = 3", {}))
        await asyncio.sleep(0.05)
        second.cancel()
        assert [(await first)["data"], (await third)["data"]] == [1, 3]
    finally:
        await one.close()


async def test_many_calls_that_are_cancelled_at_once_are_all_cancelled(tmp_path: Path) -> None:
    pool = PythonPool(1, 512, tmp_path / "p")
    calls = [asyncio.create_task(pool.run("import time; time.sleep(600)", {})) for _ in range(5)]
    await asyncio.sleep(0.05)
    # the first one runs, and its end wakes one that is being cancelled too
    for call in calls:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(end) for end in ended] == [asyncio.CancelledError] * 5
    assert (await pool.run("import os; result = 1", {}))["data"] == 1
    await pool.close()


async def test_start_warms_and_close_ends_every_child(tmp_path: Path) -> None:
    pool = PythonPool(2, 512, tmp_path / "p")
    pool.start()
    assert (await pool.run("import os; result = 1", {}, execution="1"))["data"] == 1
    await eventually(lambda: len(pool.pids) >= 4)
    pids = pool.pids
    assert (await pool.run("import os; result = os.getpid()", {}))["data"] in pids, "it waited for another child"
    await pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert list((tmp_path / "p").iterdir()) == []
    with pytest.raises(RuntimeError, match="closed"):
        await pool.run("import os; result = 1", {})


async def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom noetl_serverless.tools.python_pool import PythonPool\n"
        "async def main():\n"
        "    pool = PythonPool(1, 512, Path(sys.argv[1]))\n"
        "    here = 'import os; result = [os.getpid(), os.getppid()]'\n"
        "    print(*(await pool.run(here, {}, execution='1'))['data'], *pool.pids, flush=True)\n"
        "    await pool.run('import time; time.sleep(600)', {})\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    # that of its zygote among them
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert psutil.pid_exists(pids[0])
    parent.kill()
    await parent.wait()
    assert [await gone(pid) for pid in pids] == [True] * len(pids)


def test_one_pool_serves_one_event_loop_after_another(tmp_path: Path) -> None:
    pool = PythonPool(1, 512, tmp_path / "p")
    pids = [asyncio.run(pool.run("import os; result = os.getpid()", {}, execution="1"))["data"] for _ in range(3)]
    asyncio.run(pool.close())
    assert len(set(pids)) == 1


async def test_installed_packages_can_be_imported(python: Run) -> None:
    outcome = await python("import duckdb, pyarrow\nresult = duckdb.connect().execute('select 41 + 1').fetchone()[0]")
    assert (outcome.error, outcome.data) == (None, 42)


async def test_a_config_that_is_wrong_once_rendered_is_reported(run: Run) -> None:
    outcome = await run("python", {"code": 3})
    assert outcome.error is not None
    assert error_of(outcome)["code"] == "python.config"


async def test_code_may_come_in_base64(run: Run) -> None:
    assert (await run("python", {"code_b64": "cmVzdWx0ID0gNDI="})).data == 42


async def test_a_call_that_has_to_wait_for_a_process_says_so(tmp_path: Path) -> None:
    pool = PythonPool(1, 512, tmp_path)
    waiting = {"first": False, "second": False}

    @contextmanager
    def wait(name: str) -> Iterator[None]:
        waiting[name] = True
        yield
        waiting[name] = False

    go = tmp_path / "go"
    code = f"import os, time\nfor _ in range(3000):\n    if os.path.exists({str(go)!r}): break\n    time.sleep(0.01)"
    try:
        await pool.run("import os; result = 0", {})
        first = asyncio.create_task(pool.run(code, {}, None, partial(wait, "first")))
        second = asyncio.create_task(pool.run("import os; result = 2", {}, None, partial(wait, "second")))
        await asyncio.sleep(0.05)
        assert waiting == {"first": False, "second": True}
        go.touch()
        assert ((await first)["status"], (await second)["data"]) == ("ok", 2)
        assert waiting == {"first": False, "second": False}
    finally:
        await pool.close()


FORGE = """
import os, struct
channel = 3
os.write(channel, struct.pack(">I", len(reply)) + reply.encode())
os._exit(0)
"""


@pytest.mark.parametrize(
    ("reply", "stored"),
    [
        ('{"data": "a"}', True),
        ('{"data": "a\\u0000b", "stored": true}', False),
        ('{"data": ' + "[" * 113 + "]" * 113 + ', "stored": true}', False),
        ('{"data": 1, "stored": "yes"}', True),
    ],
)
async def test_what_a_process_says_of_its_result_is_not_believed(python: Run, reply: str, stored: bool) -> None:
    outcome = await python(FORGE, reply=reply)
    assert (outcome.status, outcome.error) == ("ok", None)
    assert outcome.stored is stored


@pytest.mark.parametrize(
    "reply",
    [
        "[1]",
        "1",
        "null",
        "x",
        "",
        '{"error": "text"}',
        '{"error": null}',
        '{"file": {"bytes": 1, "rows": 1}}',
        "{}",
        '{"error": {}, "py": [1]}',
        '{"data": 1e400}',
    ],
)
async def test_a_reply_that_is_none_fails_the_call_and_costs_the_process(
    python: Run, pool: PythonPool, reply: str
) -> None:
    # which goes on after it
    outcome = await python(FORGE.replace("os._exit(0)", "import time\ntime.sleep(600)"), reply=reply)
    assert outcome.error is not None
    assert error_of(outcome)["code"] == "python.killed"
    async with asyncio.timeout(20.0):
        others = await asyncio.gather(*(python("import os; result = 1") for _ in range(4)))
    assert [other.error for other in others] == [None] * 4


# what it has started ends while another call runs, or while its process is put in order
HANDLER = """
import os, signal
def ended(*_):
    raise SystemExit("a child has ended")
signal.signal(signal.SIGCHLD, ended)
if not os.fork():
    import time
    time.sleep(0.05)
    os._exit(0)
"""


@pytest.mark.parametrize(
    "code",
    [
        "import os, shutil\nshutil.rmtree(os.getcwd())",
        "import sys\nsys.stdout.close()",
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.05)",
        "import sys\nsys.setrecursionlimit(60)",
        HANDLER,
    ],
    ids=["folder", "stdout", "alarm", "recursion", "handler"],
)
async def test_what_code_has_broken_fails_no_other_call(tmp_path: Path, code: str) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    other = "import re, time\ntime.sleep(0.1)\ndef f(n):\n    return n and f(n - 1)\nf(200)\nresult = 1"
    try:
        for _ in range(3):
            assert (await one.run(f"{code}\nresult = 2", {}, execution="1")).get("data") == 2
            assert (await one.run(other, {}, execution="1")).get("data") == 1
    finally:
        await one.close()


async def test_code_that_ends_its_process_is_not_run_again(tmp_path: Path) -> None:
    pool = PythonPool(3, 512, tmp_path / "pool")
    mark = tmp_path / "mark"
    try:
        await asyncio.gather(*(pool.run("import time\ntime.sleep(0.1)", {}) for _ in range(3)))
        for status in (0, 1, 97):
            code = f"import os\nopen({str(mark)!r}, 'a').write('x')\nos._exit({status})"
            reply = await pool.run(code, {}, 10.0)
            assert reply["error"]["code"] == "python.killed"
            assert mark.read_text() == "x", f"code that ended with status {status} was run more than once"
            mark.unlink()
    finally:
        await pool.close()


LEAVES_A_PROCESS = """
import os, shutil, time
result = os.fork()
if not result:
    # it has what this process has, its channel too
    time.sleep(60)
    os._exit(0)
"""


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("end", ["shutil.rmtree(os.getcwd())", "os.getppid()"], ids=["broken", "in order"])
async def test_what_a_process_has_started_holds_up_no_call(tmp_path: Path, end: str, at_once: bool) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    try:
        first = asyncio.create_task(one.run(LEAVES_A_PROCESS + end, {}, 10.0, execution="1"))
        other = asyncio.create_task(one.run("import os; result = 2", {}, 5.0, execution="1")) if at_once else None
        left = (await first)["data"]
        reply = await (other or one.run("import os; result = 2", {}, 5.0, execution="1"))
        assert reply.get("data") == 2, reply
    finally:
        await one.close()
    assert await gone(left), "what was left behind goes on"


async def test_what_is_left_behind_by_a_process_that_ended_is_ended(tmp_path: Path) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    try:
        kept = tmp_path / "left"
        code = f"{LEAVES_A_PROCESS}open({str(kept)!r}, 'w').write(str(result))\nos.kill(os.getpid(), 9)"
        # it holds the channel, by which the end would show
        reply = await one.run(code, {}, 60.0)
        assert reply["error"]["code"] == "python.killed"
        assert "SIGKILL" in reply["error"]["message"]
        assert await gone(int(kept.read_text())), "what was left behind goes on"
    finally:
        await one.close()


async def test_an_idle_process_that_ends_takes_with_it_what_it_started(tmp_path: Path) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    try:
        code = f"{LEAVES_A_PROCESS}import signal\nsignal.signal(signal.SIGUSR1, lambda *_: os._exit(5))"
        left = (await one.run(code, {}, 10.0, execution="1"))["data"]
        (child,) = one._idle
        os.kill(child.pid, signal.SIGUSR1)
        await eventually(lambda: child.status is not None)
        assert (await one.run("import os; result = 2", {}, 5.0, execution="1")).get("data") == 2
        assert await gone(left), "what was left behind goes on"
    finally:
        await one.close()


async def test_the_files_that_a_call_leaves_take_no_time_of_the_next(tmp_path: Path) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    leave = "import os\nfor i in range(60000):\n    os.close(os.open(str(i), os.O_CREAT | os.O_WRONLY))\nresult = 1"
    try:
        first = asyncio.create_task(one.run(leave, {}, 60.0, execution="1"))
        second = asyncio.create_task(one.run("import os; result = 2", {}, 0.25, execution="1"))
        assert (await first).get("data") == 1
        assert (await second).get("data") == 2, (await second).get("error")
    finally:
        await one.close()


async def test_code_that_closes_its_output_keeps_nobody_busy(tmp_path: Path) -> None:
    pool = PythonPool(1, 1024, tmp_path)
    try:
        await pool.run("import os; os.close(1); os.close(2); result = 1", {}, execution="1")
        turns = 0
        loop = asyncio.get_running_loop()
        (child,) = pool._idle
        drain = child._drain

        def counting() -> None:
            nonlocal turns
            turns += 1
            drain()

        child._drain = counting  # type: ignore[method-assign]
        if child._loop is loop:
            loop.add_reader(child._printed, counting)
        await asyncio.sleep(0.2)
        assert turns <= 1
    finally:
        await pool.close()


async def test_a_child_that_ends_while_it_is_idle_is_replaced(tmp_path: Path) -> None:
    pool = PythonPool(1, 1024, tmp_path)
    try:
        pid = (await pool.run("import os; result = os.getpid()", {}, execution="1"))["data"]
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: pid not in pool.pids)
        again = await pool.run("import os; result = os.getpid()", {}, execution="1")
        assert (again["status"], again["data"] != pid) == ("ok", True)
    finally:
        await pool.close()


async def test_what_is_printed_as_a_call_ends_is_not_attributed_to_the_next(tmp_path: Path) -> None:
    one = PythonPool(1, 512, tmp_path / "one")
    code = """
import io, sys
class Late:
    def __del__(self, out=sys.__stdout__):
        out.write("of the first")
        out.flush()
sys.stdout = io.StringIO()
sys.stdout.late = Late()
"""
    try:
        replies = [await one.run(code, {}, execution="1"), await one.run("import os; result = 2", {}, execution="1")]
        assert [reply["stdout"] for reply in replies] == ["of the first", ""]
    finally:
        await one.close()


async def test_a_result_is_made_into_json_within_the_limit_of_memory(tmp_path: Path) -> None:
    small = PythonPool(1, 128, tmp_path / "small")
    try:
        reply = await small.run("result = range(10**7)", {}, 30.0)
        assert reply.get("error", {}).get("code") == "python.memory", "it took more than it may"
    finally:
        await small.close()


async def test_a_long_traceback_begins_with_a_whole_line(python: Run) -> None:
    outcome = await python(
        "def f(n):\n    return f(n - 1) if n else 1 / 0\nf(200)\nraise ValueError('x\\n' * 3000 + 'end')"
    )
    assert len(outcome.extra["py"]["traceback"]) <= 8000
    outcome = await python("raise ValueError('\\n'.join(f'line {n}' for n in range(2000)))")
    lines = outcome.extra["py"]["traceback"].splitlines()
    assert (lines[0].split()[0], lines[-1]) == ("line", "line 1999")


async def test_of_a_line_that_is_too_long_for_a_traceback_the_beginning_is_shown(python: Run) -> None:
    outcome = await python("raise ValueError('begin' + 'x' * 9000 + 'end')")
    traceback = outcome.extra["py"]["traceback"]
    assert traceback.startswith("ValueError: beginxxx") and "end" not in traceback
