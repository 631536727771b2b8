"""Tables in and out of Python code, in real children, forked or started one by one."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import pyarrow as pa
import pytest
import pytest_asyncio
from tests.eventually import eventually
from tests.opened_files import OpenedBy

from noetl_serverless.limits import MIB
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.shared_memory import SharedMemory
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import is_sealed, memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tools.private_folders import is_enforced
from noetl_serverless.tools.python_pool import PythonPool

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
    pytest.mark.asyncio(loop_scope="module"),
]

ROWS = 20_000
MANY = f"import pyarrow as pa\ntable = pa.table({{'n': range({ROWS}), 'text': ['x'] * {ROWS}}})\n"
BOTH = pytest.mark.parametrize("pool", ["forked", "spawned"], indirect=True)
OTHERS = "{'a': 1, 'rows': table, 'b': [None]}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PythonPool]:
    """One for all tests, since most of their time goes into loading pyarrow. Forks, unless a test is of `BOTH`."""
    forks = getattr(request, "param", "forked") == "forked"
    made = PythonPool(2, 1024, tmp_path_factory.mktemp("python"), forks=forks)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def table() -> Table:
    return table_of(pa.table({"n": range(ROWS), "text": ["x"] * ROWS}))


def table_of(content: pa.Table, open_file: Callable[[int], int] = memory_file) -> Table:
    descriptor = open_file(0)
    return Table(MappedFile(descriptor, write_table(descriptor, content).bytes))


def on_disk(size: int) -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


async def replied(pool: PythonPool, code: str, timeout: float | None = 30.0, **options: Any) -> dict[str, Any]:
    """Of the child that has loaded pyarrow, as a rule."""
    known = {name: options.pop(name) for name in ("tables", "files", "inline_bytes", "context") if name in options}
    execution = options.pop("execution", "usual")
    return await pool.run(code, options, timeout, execution=execution, **known)


async def data(pool: PythonPool, code: str, **options: Any) -> Any:
    reply = await replied(pool, code, **options)
    assert reply["status"] == "ok", reply
    return reply["data"]


async def message(pool: PythonPool, code: str, **options: Any) -> tuple[str, str]:
    reply = await replied(pool, code, **options)
    assert reply["status"] == "error", reply
    return reply["error"]["code"], reply["error"]["message"]


def in_memory() -> int:
    gc.collect()
    return sum("memfd" in name for name in open_files())


def open_files(pid: int | str = "self") -> list[str]:
    """What is open, apart from where it is."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}").partition(":")[0])
    return sorted(found)


# -- a table as the result


@BOTH
@pytest.mark.parametrize("open_file", [memory_file, on_disk])
async def test_many_rows_are_a_table_and_few_are_a_list(pool: PythonPool, open_file: Callable[[int], int]) -> None:
    found = await data(pool, f"{MANY}result = {OTHERS}", files=OpenedBy(open_file))
    assert (found["a"], found["b"], type(found["rows"]), len(found["rows"])) == (1, [None], Table, ROWS)
    assert found["rows"][-1] == {"n": ROWS - 1, "text": "x"}
    few = await data(pool, f"{MANY}table = table.slice(0, 2)\nresult = {OTHERS}", files=OpenedBy(open_file))
    assert few == {"a": 1, "rows": [{"n": 0, "text": "x"}, {"n": 1, "text": "x"}], "b": [None]}
    assert list(found) == list(few) == ["a", "rows", "b"], "a field that is a table moves among the others"


@pytest.mark.parametrize(
    "made",
    ["table", "table.to_reader()", "table.combine_chunks().to_batches()[0]", "Exported()", "pl.DataFrame(table)"],
)
async def test_it_may_come_as_anything_that_is_a_table(pool: PythonPool, made: str) -> None:
    exported = (
        "class Exported:\n    def __arrow_c_stream__(self, schema=None):\n        return table.__arrow_c_stream__()\n"
    )
    found = await data(pool, f"{MANY}{exported}{'import polars as pl' if 'pl.' in made else ''}\nreturn {made}")
    assert (type(found), len(found), found[7]) == (Table, ROWS, {"n": 7, "text": "x"})


async def test_a_frame_of_pandas_is_a_table_without_its_index(pool: PythonPool) -> None:
    code = (
        "import pandas as pd\nframe = pd.DataFrame({'n': range(rows), 'x': [None, 1.5] * (rows // 2)})\n"
        "frame.index += 5\nresult = frame"
    )
    few = await data(pool, code, rows=2, execution="pandas")
    assert few == [{"n": 0, "x": None}, {"n": 1, "x": 1.5}]
    many = await data(pool, code, rows=ROWS, execution="pandas")
    assert (type(many), many[:2]) == (Table, few)
    mixed = await data(pool, "import pandas as pd\nresult = pd.DataFrame({'n': [1, 'a'] * 9000})", execution="pandas")
    assert mixed == [{"n": 1}, {"n": "a"}] * 9000, "what is no table of Arrow is JSON, as any other value is"


async def test_a_lazy_frame_is_collected(pool: PythonPool) -> None:
    code = "import polars as pl\nresult = pl.LazyFrame({'n': range(rows)}).select(pl.col('n') * 2)"
    assert await data(pool, code, rows=2) == [{"n": 0}, {"n": 2}]
    many = await data(pool, code, rows=ROWS)
    assert (type(many), many[3]) == (Table, {"n": 6})


async def test_the_limit_of_what_goes_as_json_is_that_of_the_call(pool: PythonPool) -> None:
    code = "import pyarrow as pa\nresult = pa.table({'n': [1, 2, 3]})"
    size = len(orjson.dumps([{"n": n} for n in (1, 2, 3)]))
    assert type(await data(pool, code, inline_bytes=size)) is list
    assert type(await data(pool, code, inline_bytes=size - 1)) is Table
    assert type(await data(pool, code)) is list, "the limit of another call is still in force"


async def test_of_two_tables_the_second_is_json(pool: PythonPool) -> None:
    found = await data(pool, f"{MANY}result = {{'one': table, 'two': table.select(['n']).slice(0, 2)}}")
    assert (type(found["one"]), found["two"]) == (Table, [{"n": 0}, {"n": 1}])


async def test_what_is_beside_a_table_is_of_the_domain_of_values(pool: PythonPool) -> None:
    code = f"{MANY}import datetime\nresult = {{'day': datetime.date(2026, 1, 2), 'rows': table}}"
    assert (await data(pool, code))["day"] == "2026-01-02"
    refused = await message(pool, f"{MANY}result = {{'x': [b'bytes'], 'rows': table}}")
    assert refused[0] == "value.invalid" and "at data.x[0]: a value of type bytes" in refused[1]


async def test_batches_are_written_as_they_are_made(pool: PythonPool) -> None:
    code = (
        "import pyarrow as pa\ndef batch():\n"
        "    numbers = pa.Array.from_buffers(pa.int64(), 125_000, [None, pa.py_buffer(bytes(1_000_000))])\n"
        "    return pa.record_batch({'n': numbers})\n"
        "result = pa.RecordBatchReader.from_batches(batch().schema, (batch() for _ in range(200)))"
    )
    before = await data(pool, "import resource\nresult = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024")
    found = await data(pool, code)
    after = await data(pool, "import resource\nresult = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024")
    assert (len(found), found.file.size > 200_000_000) == (25_000_000, True)
    assert after - before < 120, f"200 MB took {after - before} MB of memory"


@BOTH
async def test_a_stream_goes_on_on_disk_when_shared_memory_is_full(pool: PythonPool, tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path, 20 * MIB)
    files = ResultFiles(tmp_path, memory)
    code = (
        f"{MANY}def batches():\n    for n in range(count):\n"
        "        yield pa.record_batch([pa.array(range(n * 125_000, (n + 1) * 125_000))], names=['n'])\n"
        "result = pa.RecordBatchReader.from_batches(pa.schema([('n', pa.int64())]), batches())"
    )
    in_memory_at_once = await data(pool, code, count=12, files=files, execution="streams")
    on_disk = await data(pool, code, count=40, files=files, execution="streams")
    assert is_sealed(in_memory_at_once.file.fileno()), "12 MB have no room in 20 MiB"
    assert not is_sealed(on_disk.file.fileno()), "40 MB are in memory, of which there may be 20 MiB"
    for table, count in ((in_memory_at_once, 12), (on_disk, 40)):
        found = pa.concat_arrays([batch.column(0) for batch in table.batches()])
        assert found.equals(pa.array(range(count * 125_000)))
    memory.close()


async def test_what_fails_as_it_is_read_is_the_error_of_the_code(pool: PythonPool) -> None:
    code = (
        f"{MANY}def batches():\n    yield from table.to_batches()\n    raise KeyError('missing')\n"
        "result = pa.RecordBatchReader.from_batches(table.schema, batches())"
    )
    reply = await replied(pool, code)
    assert (reply["error"]["code"], reply["error"]["message"]) == ("python.exception", "KeyError: 'missing'")
    assert (reply["py"]["line"], "child_tables" in reply["py"]["traceback"]) == (5, False)
    assert type(await data(pool, f"{MANY}result = table")) is Table


@BOTH
async def test_a_file_that_cannot_be_opened_or_is_too_large_fails_the_call(pool: PythonPool) -> None:
    def full(size: int) -> int:
        raise OSError(28, "No space left on device")

    assert await message(pool, f"{MANY}result = table", files=OpenedBy(full)) == (
        "python.file",
        "the table that is returned cannot be kept: no file can be opened: No space left on device",
    )
    limited = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n{MANY}result = table"
    assert await message(pool, limited, execution="limited") == (
        "python.file",
        "the table that is returned cannot be kept: File too large, the limit is 8 GiB",
    )


@BOTH
async def test_code_cannot_raise_the_limit_of_its_files(pool: PythonPool) -> None:
    code = (
        "import resource\nresult = list(resource.getrlimit(resource.RLIMIT_FSIZE))\n"
        "try:\n    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n    result.append('raised')\n"
        "except ValueError:\n    pass"
    )
    assert await data(pool, code) == [8 << 30, 8 << 30]


# -- tables in the input


@BOTH
async def test_code_finds_a_list_of_dicts_as_for_few_rows(pool: PythonPool, table: Table) -> None:
    code = "result = [type(rows).__name__, len(rows), rows[3], len(deep['x'][0]), context['step']['rows'][-1]['n']]"
    found = await data(pool, code, rows=table, deep={"x": [table]}, context={"step": {"rows": table}})
    assert found == ["list", ROWS, {"n": 3, "text": "x"}, ROWS, ROWS - 1]
    assert await data(pool, "def main(rows):\n    return [type(rows).__name__, rows[3]]", rows=table) == [
        "list",
        {"n": 3, "text": "x"},
    ]
    assert await data(pool, "result = len(input_data['rows'])", rows=table) == ROWS


COUNT = {
    "pa.Table": "rows.num_rows",
    "pa.RecordBatchReader": "sum(batch.num_rows for batch in rows)",
    "pl.DataFrame": "rows.height",
    "pl.LazyFrame": "rows.collect().height",
    "pd.DataFrame": "len(rows)",
}


@pytest.mark.parametrize("declared", COUNT)
@pytest.mark.parametrize("future", [False, True])
async def test_main_gets_what_it_declares(pool: PythonPool, table: Table, declared: str, future: bool) -> None:
    library, _, name = declared.partition(".")
    module = {"pa": "pyarrow", "pl": "polars", "pd": "pandas"}[library]
    code = (
        f"{'from __future__ import annotations' if future else ''}\nimport {module} as {library}\n"
        f"def main(rows: {declared} | None, n):\n"
        f"    return None if rows is None else [type(rows).__name__, {COUNT[declared]}, n]"
    )
    execution = "pandas" if library == "pd" else "usual"
    for rows, count in ((table, ROWS), ([{"n": 1}, {"m": 2}], 2), ([], 0)):
        assert await data(pool, code, rows=rows, n=5, execution=execution) == [name, count, 5]
    assert await data(pool, code, rows=None, n=5, execution=execution) is None


async def test_a_result_as_a_whole_is_refused_where_its_rows_are_declared(pool: PythonPool, table: Table) -> None:
    code = "import pyarrow as pa\ndef main(fetch: pa.Table):\n    return 1"
    assert await message(pool, code, fetch={"rows": table, "row_count": 5}) == (
        "python.input",
        "main declares 'fetch' as pyarrow.Table, and an object is given; give it 'rows' of that: {{ step.rows }}",
    )


@pytest.mark.parametrize(
    ("kind", "name"), [("arrow", "Table"), ("polars", "DataFrame"), ("pandas", "DataFrame"), ("rows", "list")]
)
async def test_a_task_says_what_tables_are_where_nothing_is_declared(
    pool: PythonPool, table: Table, kind: str, name: str
) -> None:
    execution = "pandas" if kind == "pandas" else "usual"
    code = "result = [type(x).__name__ for x in (large, few, none, numbers, deep['rows'])]"
    options = {"large": table, "few": [{"n": 1}], "none": [], "numbers": [1], "deep": {"rows": table}}
    assert await data(pool, code, tables=kind, execution=execution, **options) == [name, name, name, "list", name]
    code = "def main(large, few, **more):\n    return [type(x).__name__ for x in (large, few, more['deep']['rows'])]"
    assert await data(pool, code, tables=kind, execution=execution, **options) == [name, name, name]
    # no rows are a frame as well: code that knows frames does not find a list now and then
    code = "def main(none, **more):\n    return [type(none).__name__, len(none)]"
    assert await data(pool, code, tables=kind, execution=execution, **options) == [name, 0]


async def test_a_table_passes_from_call_to_call_without_a_copy(pool: PythonPool, table: Table) -> None:
    code = (
        "import pyarrow as pa\nbefore = pa.total_allocated_bytes()\ndef main(rows: pa.Table):\n"
        "    return [rows.num_rows, pa.total_allocated_bytes() - before < 1000]"
    )
    assert await data(pool, code, rows=table) == [ROWS, True]


async def test_a_table_that_is_returned_as_it_came_is_a_table(pool: PythonPool, table: Table) -> None:
    code = "import pyarrow as pa\ndef main(rows: pa.Table):\n    return {'rows': rows}"
    found = await data(pool, code, rows=table)
    assert (type(found["rows"]), found["rows"] == table) == (Table, True)


async def test_pure_code_that_has_tables_leaves_nothing_to_other_executions(pool: PythonPool, table: Table) -> None:
    assert await data(pool, "result = len(rows)", rows=table) == ROWS
    assert await data(pool, "def main(rows: 'pyarrow.Table'):\n    return rows", rows=[{"n": 1}]) == [{"n": 1}]
    reply = await pool.run("import sys\nresult = 'pyarrow' in sys.modules", {}, 30.0)
    assert reply["data"] is False
    for child in pool._idle_for_any:
        assert "pyarrow" not in str(psutil.Process(child.pid).memory_maps()), "a child for any execution has pyarrow"


async def test_a_table_whose_bytes_are_wrong_is_an_error(pool: PythonPool) -> None:
    descriptor = memory_file()
    os.write(descriptor, b"no stream" * 100)
    code, why = await message(pool, "result = len(rows)", rows=Table(MappedFile(descriptor, 900)))
    assert (code, why.partition(":")[0]) == ("python.input", "a table of the input cannot be read")


# -- what code could do to the files


async def test_code_cannot_change_a_table_that_others_read(pool: PythonPool, table: Table) -> None:
    code = (
        "import glob, mmap, os\nfound = []\n"
        "def main(rows: 'pyarrow.Table'):\n"
        "    for path in glob.glob('/proc/self/fd/*'):\n"
        "        if not os.path.lexists(path) or 'memfd' not in os.readlink(path): continue\n"
        "        number = int(path.rpartition('/')[2])\n"
        "        for change in (lambda: os.pwrite(number, b'x', 0), lambda: os.ftruncate(number, 0),\n"
        "                       lambda: mmap.mmap(number, 4096),\n"
        "                       lambda: os.pwrite(os.open(path, os.O_RDWR), b'x', 0),\n"
        "                       lambda: os.truncate(path, 0)):\n"
        "            try:\n                change()\n                found.append('changed')\n"
        "            except OSError:\n                found.append('refused')\n"
        "    return found"
    )
    before = bytes(table.file.view)
    found = await data(pool, code, rows=table, execution="hostile")
    assert (set(found), len(found) >= 5) == ({"refused"}, True)
    assert bytes(table.file.view) == before


@pytest.mark.skipif(not is_enforced(), reason="the kernel has no Landlock (Linux 5.19 or later)")
async def test_code_cannot_change_a_table_in_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "tables"
    private.mkdir()

    def in_private(size: int) -> int:
        with tempfile.TemporaryFile(dir=private) as file:
            return os.dup(file.fileno())

    given = table_of(pa.table({"n": range(ROWS)}), in_private)
    code = (
        "import os\ndef main(rows: 'pyarrow.Table'):\n    found = []\n"
        "    for name in os.listdir('/proc/self/fd'):\n"
        "        try:\n            path = f'/proc/self/fd/{name}'\n"
        "            if 'tables' in os.readlink(path):\n"
        "                found.append('tried')\n                os.open(path, os.O_RDWR)\n"
        "                found.append('opened')\n"
        "        except OSError:\n            pass\n"
        "    return found"
    )
    pool = PythonPool(1, 512, tmp_path / "python", private=[private])
    try:
        found = await data(pool, code, rows=given)
        assert found and set(found) == {"tried"}, "code has opened the file of a table for writing"
        kept = (
            f"{MANY}import os\nbefore = set(os.listdir('/proc/self/fd'))\n"
            "class Kept:\n    def __arrow_c_stream__(self, schema=None):\n        return table.__arrow_c_stream__()\n"
            "result = Kept()"
        )
        assert type(await data(pool, kept, files=OpenedBy(in_private))) is Table
    finally:
        await pool.close()


# keeps what it has written to open, as a map or a descriptor, and changes it after the reply
KEEP = (
    MANY + "import mmap, noetl_serverless.tools.child_files as files\n"
    "opened = files.FilesOfParent.open\n"
    "import builtins\n"
    "def keep(files, size):\n"
    "    descriptor = opened(files, size)\n"
    "    builtins.kept = os.dup(descriptor)\n"
    "    return descriptor\n"
    "import os\nfiles.FilesOfParent.open = keep\nresult = table"
)
CHANGE = "import builtins, os\nos.ftruncate(builtins.kept, 0)\nresult = 'cut off'"


@BOTH
async def test_a_writer_that_keeps_its_descriptor_cannot_cut_off_what_is_read(pool: PythonPool) -> None:
    on_a_disk = await data(pool, KEEP, files=OpenedBy(on_disk), execution="keeps on disk")
    assert await data(pool, CHANGE, execution="keeps on disk") == "cut off"
    in_memory = await data(pool, KEEP, execution="keeps in memory")
    assert (await message(pool, CHANGE, execution="keeps in memory"))[1].startswith("PermissionError")
    for found in (on_a_disk, in_memory):
        assert sum(row["n"] for row in found) == ROWS * (ROWS - 1) // 2


# sends frames itself, and receives what it is sent
HOSTILE = """
import os, socket, struct
for name in os.listdir("/proc/self/fd"):
    try:
        if os.readlink(f"/proc/self/fd/{name}").startswith("socket"):
            channel = int(name)
    except OSError:
        pass
def send(frame):
    os.write(channel, struct.pack(">I", len(frame)) + frame)
def ask(frame):
    send(frame)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(channel)) as parent:
        return socket.recv_fds(parent, 1, 10)[1]
def announce(bytes, rows):
    send(b'{"file": {"bytes": %d, "rows": %d}}' % (bytes, rows))
    import time
    time.sleep(60)
FILE = b"\\x01t" + struct.pack(">Q", 10)
"""


@BOTH
@pytest.mark.parametrize(
    "end",
    [
        "send(b'\\x01x'); import time; time.sleep(60)",
        "send(b'\\x01'); import time; time.sleep(60)",
        "ask(FILE)\nfor _ in range(1000): ask(FILE)",
        "ask(b'\\x01g')\nfor _ in range(1000): ask(b'\\x01g')",
        "announce(10, 1)",
        "ask(FILE)\nannounce(10, 1)",
        "[file] = ask(FILE)\nos.write(file, b'x' * 10)\nannounce(10, 1)",
        "[file] = ask(FILE)\nos.ftruncate(file, 1 << 30)\nannounce(1 << 30, 1)",
        "[file] = ask(FILE)\nannounce(1 << 62, 1)",
        "[file] = ask(FILE)\nsend(b'')",
        "[file] = ask(FILE)\nos._exit(0)",
        "send(FILE)\nos._exit(0)",
        "socket.send_fds(socket.socket(fileno=os.dup(channel)), [FILE], [0, 1, 2, channel])\nos._exit(0)",
    ],
)
async def test_a_child_that_does_not_keep_to_the_rules_fails_its_call_alone(pool: PythonPool, end: str) -> None:
    before = in_memory()
    opened: list[int] = []

    def counting(size: int) -> int:
        opened.append(size)
        return memory_file()

    begin = time.monotonic()
    code, _ = await message(pool, f"{HOSTILE}{end}", files=OpenedBy(counting), execution="hostile")
    assert (code, len(opened) <= 1, time.monotonic() - begin < 20) == ("python.killed", True, True)
    assert in_memory() == before, "a file that it asked for was left open"
    assert await data(pool, "result = 1", execution="other") == 1


async def test_descriptors_that_a_child_sends_are_not_kept(pool: PythonPool) -> None:
    code = (
        f"{HOSTILE}socket.send_fds(socket.socket(fileno=os.dup(channel)), [struct.pack('>I', 10) + b'{{\"data\":1}}'],"
        " [os.open('/etc', 0), os.pipe()[0]])\nimport time; time.sleep(5)"
    )
    assert await data(pool, code, execution="sends") == 1
    assert "/etc" not in open_files()


@BOTH
async def test_a_call_that_ends_while_it_writes_leaves_no_file(pool: PythonPool) -> None:
    slow = (
        f"{MANY}import time\ndef batches():\n    for _ in range(1000):\n        yield from table.to_batches()\n"
        "        time.sleep(0.05)\nresult = pa.RecordBatchReader.from_batches(table.schema, batches())"
    )
    opened: list[int] = []

    def counting(size: int) -> int:
        opened.append(memory_file())
        return opened[-1]

    before = in_memory()
    for timeout in (1.5, 6, 24):
        assert (await message(pool, slow, timeout=timeout, files=OpenedBy(counting)))[0] == "python.timeout"
        if opened:
            break
    assert opened, "it was stopped before it wrote"
    cancelled = asyncio.create_task(replied(pool, slow, files=OpenedBy(counting)))
    await eventually(lambda: len(opened) == 2)
    cancelled.cancel()
    with suppress(asyncio.CancelledError):
        await cancelled
    await eventually(lambda: in_memory() == before)


async def test_a_call_that_waits_for_a_file_system_is_stopped_in_time(pool: PythonPool) -> None:
    closed: list[int] = []
    before = in_memory()
    go_on = threading.Event()

    def slow(size: int) -> int:
        go_on.wait(60)
        closed.append(memory_file())
        return closed[-1]

    # what takes time is loaded
    await data(pool, f"{MANY}result = 1")
    assert (await message(pool, f"{MANY}result = table", timeout=3.0, files=OpenedBy(slow)))[0] == "python.timeout"
    assert not closed, "it was waited for"
    go_on.set()
    await eventually(lambda: closed)
    await eventually(lambda: in_memory() == before)


@BOTH
async def test_calls_one_after_the_other_leave_no_file_open_on_either_side(pool: PythonPool, table: Table) -> None:
    code = "import os, pyarrow as pa\ndef main(rows: pa.Table):\n    return {'rows': rows, 'pid': os.getpid()}"
    counts = []
    for _ in range(6):
        found = await data(pool, code, rows=table)
        pid = found.pop("pid")
        assert len(found.pop("rows")) == ROWS
        gc.collect()
        counts.append((open_files(), open_files(pid)))
    assert counts[1:] == counts[:-1], "files add up"


@pytest.mark.parametrize("rows", [3, 30_000], ids=["few", "many"])
async def test_a_frame_has_the_same_values_whatever_its_size(pool: PythonPool, rows: int) -> None:
    code = f"""
import pandas as pd
def main():
    frame = pd.DataFrame({{"float": [1.5, float("nan"), float("inf")], "time": pd.to_datetime([1, None, -1], unit="ns"),
                          "took": pd.to_timedelta([1, 90_000, None], unit="s"), "bytes": [b"a", b"", None]}})
    return pd.concat([frame] * {rows // 3}, ignore_index=True)
"""
    found = list(await data(pool, code, execution="frame"))[:3]
    assert found == [
        {"float": 1.5, "time": "1970-01-01T00:00:00", "took": "0:00:01", "bytes": "YQ=="},
        {"float": None, "time": None, "took": "1 day, 1:00:00", "bytes": ""},
        {"float": None, "time": "1970-01-01T00:00:00", "took": None, "bytes": None},
    ]


@pytest.mark.parametrize("rows", [3, 30_000], ids=["few", "many"])
async def test_two_columns_of_one_name_are_refused(pool: PythonPool, rows: int) -> None:
    code = f"""
import pandas as pd
def main():
    frame = pd.DataFrame({{"n": range({rows}), "m": range({rows})}})
    frame.columns = ["n", "n"]
    return {{"rows": frame}}
"""
    code_and_message = await message(pool, code)
    assert code_and_message[0] == "value.invalid", code_and_message
    assert "two columns of the table have the name 'n'" in code_and_message[1]
