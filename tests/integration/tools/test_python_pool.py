"""What a pool of Python children promises, wherever its children come from: forked, or started one by one."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pyarrow as pa
import pytest
from tests.eventually import eventually
from tests.opened_files import OpenedBy

from noetl_serverless.tables.json_text import JsonText
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tools.python_pool import PythonPool

PID = "import os; result = os.getpid()"


@pytest.fixture(params=["forked", "spawned"])
async def pool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PythonPool]:
    made = PythonPool(2, 512, tmp_path / "python", forks=request.param == "forked")
    yield made
    await made.close()


async def data(pool: PythonPool, code: str, execution: str | None = None, **input: Any) -> Any:
    reply = await pool.run(code, input, 30.0, execution=execution)
    assert reply["status"] == "ok", reply
    return reply["data"]


async def test_an_execution_keeps_its_child_and_no_other_gets_it(pool: PythonPool) -> None:
    first = await data(pool, PID, "1")
    others = [await data(pool, PID, execution) for execution in ("2", "3", None, None)]
    assert await data(pool, PID, "1") == first, "a step of the same execution met a child that is not warm"
    assert len({first, *others}) == 5, "code of one execution ran in a child of another"


async def test_what_one_execution_changes_no_other_meets(pool: PythonPool) -> None:
    spoil = (
        "import builtins, json, sys\n"
        "json.dumps = lambda *_, **__: 'forged'\nsys.modules['left'] = 'behind'\n"
        "frame = sys._getframe()\nwhile 'self' not in frame.f_locals: frame = frame.f_back\n"
        "frame.f_locals['self'].encode = lambda *_: b'{\"data\":\"forged\"}'\nbuiltins.sorted = lambda _: 13\n"
    )
    assert (await pool.run(spoil, {}, 30.0, execution="1"))["data"] == "forged"
    look = "import json, sys\nresult = [json.dumps([n]), sorted('a'), 'left' in sys.modules]"
    assert [await data(pool, look, f"other {n}", n=n) for n in range(4)] == [[f"[{n}]", ["a"], False] for n in range(4)]


async def test_a_child_killed_while_it_is_sent_much_is_one_error(pool: PythonPool) -> None:
    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    child = await data(pool, PID, "1")
    os.kill(child, signal.SIGSTOP)
    call = asyncio.create_task(pool.run(PID, {"much": "x" * 10_000_000}, 30.0, execution="1"))
    await eventually(lambda: pool._busy)
    os.kill(child, signal.SIGKILL)
    assert (await call)["error"]["code"] == "python.killed"
    del call
    gc.collect()
    assert not unhandled, "the end of the child was told twice: to the call, and to the log"
    assert await data(pool, "import os\nresult = len(much)", "1", much="x" * 10_000_000) == 10_000_000


async def test_pure_code_spends_no_child(pool: PythonPool) -> None:
    await data(pool, "result = 0", "0")
    await eventually(lambda: not pool._requested)
    before = pool.pids
    results = [await data(pool, "result = n + 1", str(n) if n % 2 else None, n=n) for n in range(30)]
    assert results == [n + 1 for n in range(30)]
    assert pool.pids == before, "a call of pure code has cost a child"


async def test_pure_code_meets_nothing_of_other_code_not_even_of_its_execution(pool: PythonPool) -> None:
    for n in range(4):
        await data(pool, "import builtins; builtins.abs = lambda _: 13; result = 1", str(n))
    assert [await data(pool, "result = abs(-1)", str(n)) for n in range(8)] == [1] * 8


async def test_a_warning_in_pure_code_shows_no_code_of_another_execution(pool: PythonPool) -> None:
    failed = await pool.run("key = 'SECRET'\nresult = {'x': 1}[n]", {"n": 2}, 30.0, execution="1")
    assert "result = {'x': 1}[n]" in failed["py"]["traceback"]
    warned = "result = str(bytes('\\\\d', 'ascii'), 'unicode_escape')"
    for _ in range(2):
        reply = await pool.run(warned, {}, 30.0, execution="2")
        assert (reply["data"], "SECRET" in reply["stdout"]) == ("\\d", False)


async def test_pure_code_leaves_no_memory_taken(pool: PythonPool) -> None:
    await data(pool, "held = [bytes(500 << 20)]\nheld.append(held)\nresult = 1", "1")
    assert await data(pool, "result = len([0] * 5_000_000)", "2") == 5_000_000


# for a spawned one the memory of the process that started it counts as its own: growth below that is not seen
@pytest.mark.parametrize("pool", ["forked"], indirect=True)
async def test_a_child_that_pure_code_has_made_large_is_ended(pool: PythonPool) -> None:
    await data(pool, "result = 1")
    [child] = pool._idle_for_any
    assert await data(pool, "result = len([0] * 10_000_000)") == 10_000_000
    assert child not in pool._idle_for_any, "it keeps its memory for good"
    await eventually(lambda: child.pid not in pool.pids)


async def test_a_child_in_which_pure_code_has_looked_for_codecs_runs_no_other(pool: PythonPool) -> None:
    await data(pool, "result = 1")
    before = set(pool._idle_for_any)
    assert await data(pool, "result = 'x'.encode('cp1140') == b'x'") is False
    assert before.isdisjoint(pool._idle_for_any), "what is not found while there is no memory is never found again"
    assert await data(pool, "result = list('ä'.encode() + 'ä'.encode('latin-1'))") == [195, 164, 228]
    assert pool._idle_for_any, "the codecs that are always there cost a child"


async def test_an_input_that_is_not_json_is_an_error(pool: PythonPool) -> None:
    reply = await pool.run("result = 1", {"n": object()})
    assert (reply["status"], reply["error"]["code"]) == ("error", "python.not_json")


async def test_pure_calls_that_run_at_once_share_no_child(pool: PythonPool) -> None:
    longer = "n = 0\nfor _ in range(300_000):\n    n += 1\nresult = n + m"
    assert await asyncio.gather(*(data(pool, longer, str(m), m=m) for m in range(6))) == [300_000 + m for m in range(6)]


async def test_the_calls_of_an_execution_that_run_at_once_share_no_child(pool: PythonPool) -> None:
    code = "import os, time; time.sleep(0.1); result = os.getpid()"
    assert len(set(await asyncio.gather(*(data(pool, code, "1") for _ in range(2))))) == 2


async def test_a_call_has_its_output_and_the_place_of_its_error(pool: PythonPool) -> None:
    reply = await pool.run("print('seen')\nraise ValueError('why')", {}, 30.0, execution="1")
    assert (reply["stdout"], reply["py"]["line"]) == ("seen\n", 2)
    assert reply["error"]["message"] == "ValueError: why"


async def test_a_call_beyond_its_time_is_killed(pool: PythonPool) -> None:
    pid = await data(pool, PID, "1")
    reply = await pool.run("while True: pass", {}, 0.2, execution="1")
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("python.timeout", True)
    await eventually(lambda: not psutil.pid_exists(pid))
    assert await data(pool, PID, "1") != pid


async def test_a_child_that_dies_fails_its_call_alone(pool: PythonPool) -> None:
    other = asyncio.create_task(data(pool, "import time; time.sleep(0.3); result = 'mine'", "2"))
    reply = await pool.run("import os; os._exit(3)", {}, 30.0, execution="1")
    assert (reply["error"]["code"], reply["error"]["retryable"]) == ("python.killed", True)
    assert "exit status 3" in reply["error"]["message"]
    assert await other == "mine"


async def test_a_child_that_dies_between_two_calls_fails_none(pool: PythonPool) -> None:
    pid = await data(pool, PID, "1")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: pid not in pool.pids)
    assert await data(pool, PID, "1") != pid


async def test_the_limit_of_memory_holds_and_costs_the_child(pool: PythonPool) -> None:
    reply = await pool.run("x = bytearray(700_000_000)", {}, 30.0, execution="1")
    assert reply["error"]["code"] == "python.memory"
    assert await data(pool, "result = len(bytearray(100_000_000))", "1") == 100_000_000


async def test_random_numbers_are_different_in_each_child(pool: PythonPool) -> None:
    code = "import random, secrets, tempfile, uuid\nresult = [random.random(), secrets.token_hex(), str(uuid.uuid4())]"
    drawn = [await data(pool, code) for _ in range(4)]
    assert len({str(value) for values in drawn for value in values}) == 12, "two children have drawn the same"


async def test_nothing_is_left_once_it_is_closed(pool: PythonPool, tmp_path: Path) -> None:
    pids = [await data(pool, PID, str(execution)) for execution in range(3)]
    pids += pool.pids
    await pool.close()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == [], "children go on"
    assert list((tmp_path / "python").iterdir()) == [], "files are left behind"


# -- large results and inputs, which go as files

LONG = "x" * 1_200_000


async def test_a_large_result_comes_with_the_file_that_has_it_as_json(pool: PythonPool) -> None:
    code = "result = {'b': 'x' * 1_200_000, 'a': [1, None, 'é']}"
    reply = await pool.run(code, {}, 30.0, execution="1")
    assert (reply["status"], reply["stored"]) == ("ok", True)
    assert reply["data"] == {"b": LONG, "a": [1, None, "é"]}
    assert reply["written"].read() == orjson.dumps(reply["data"])
    assert "written" not in await pool.run("result = 'x' * 1_000_000", {}, 30.0, execution="1")


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("result = {'f': float('nan'), 't': 'x' * 1_200_000}", None),
        ("result = {'t': 'x' * 1_200_000 + chr(0)}", None),
        ("result = 'x' * 1_200_000", LONG),
        (r"result = {'t': 'x' * 1_200_000 + r'\u0000'}", {"t": LONG + r"\u0000"}),
        ("print('much'); result = [{'n': n, 't': 'x' * 500} for n in range(3000)]", ...),
    ],
    ids=["NaN", "NUL", "text", "as if NUL", "rows"],
)
async def test_a_large_result_is_what_a_small_one_would_be(pool: PythonPool, code: str, data: Any) -> None:
    reply = await pool.run(code, {}, 30.0)
    if data is None:
        assert reply["error"]["code"] == "value.invalid"
    elif data is ...:
        assert reply["data"] == [{"n": n, "t": "x" * 500} for n in range(3000)]
        assert reply["stdout"] == "much\n"
    else:
        assert reply["data"] == data


async def test_a_large_result_for_which_there_is_no_file_is_sent(pool: PythonPool) -> None:
    def no_room(size: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    reply = await pool.run("result = 'x' * 1_200_000", {}, 30.0, execution="1", files=OpenedBy(no_room))
    assert (reply["status"], reply["data"], reply.get("written")) == ("ok", LONG, None)


async def test_a_result_that_is_announced_and_not_written_is_no_result(pool: PythonPool) -> None:
    forge = (
        "import sys\nframe = sys._getframe()\nwhile 'self' not in frame.f_locals: frame = frame.f_back\n"
        "frame.f_locals['self'].encode = lambda *_: b'{\"json\":5}'\n"
    )
    reply = await pool.run(forge, {}, 30.0, execution="1")
    assert (reply["error"]["code"], reply["error"]["message"]) == ("python.killed", "the process sent an invalid reply")


def in_file(content: bytes, start: int, end: int) -> JsonText:
    descriptor = memory_file()
    os.write(descriptor, content)
    return JsonText(MappedFile(descriptor, len(content)), start, end)


async def test_inputs_that_are_in_files_are_read_there(pool: PythonPool) -> None:
    given = {"first": 1, "text": "é" * 10, "escaped": 'a "quoted" \n', "whole": {"rows": [1, {"x": None}]}, "last": 2}
    texts = {}
    for name in ("whole", "text", "escaped"):
        part = orjson.dumps(given[name])
        texts[name] = in_file(b'{"a":' + part + b',"b":2}', 5, 5 + len(part))
    code = "result = [list(input_data), first, text, escaped, whole, last, input_data['text'] is text]"
    reply = await pool.run(code, given, 30.0, execution="1", texts=texts)
    assert reply["data"] == [list(given), *given.values(), True]
    # also by code whose child serves others
    assert (await pool.run("result = text", given, 30.0, texts=texts))["data"] == given["text"]


async def test_tables_go_beside_inputs_that_are_in_files(pool: PythonPool) -> None:
    descriptor = memory_file()
    size = write_table(descriptor, pa.table({"n": [1, 2]})).bytes
    given = {"rows": Table(MappedFile(descriptor, size)), "text": "abc", "n": 3}
    code = "def main(rows, text, n):\n    return [rows, text, n]"
    reply = await pool.run(code, given, 30.0, execution="1", texts={"text": in_file(b'"abc"', 0, 5)})
    assert reply["data"] == [[{"n": 1}, {"n": 2}], "abc", 3]
