"""What the engine gives a child, and what it believes of what the child announces."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from tests.eventually import eventually
from tests.opened_files import OpenedBy

from noetl_serverless.results.disk import copy
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.shared_memory import SharedMemory
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import IN_MEMORY, is_in_memory, memory_file
from noetl_serverless.tables.stream import in_field, write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tools.call_files import MAX_JSON_BYTES, CallFiles, WrongFile, close_all
from noetl_serverless.tools.encoding import HoldsTable, NotJson, encode
from noetl_serverless.tools.file_frames import GIVEN, MAX_DESCRIPTORS, ask_for_file, ask_for_room

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    # what an exception that was caught refers to
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before, "a descriptor was left open"


def table(rows: int = 3, **value: Any) -> Table:
    descriptor = memory_file()
    written = write_table(descriptor, pa.table({"n": range(rows)}), **value)
    return Table(MappedFile(descriptor, written.bytes))


async def opened(files: CallFiles) -> int:
    error, descriptors = await files.answer(ask_for_file(10))
    assert (error, len(descriptors)) == (0, 1)
    return descriptors[0]


def test_tables_are_marked_and_announced_once_each() -> None:
    first, second = table(1), table(2)
    fields = {"code": "x", "input": {"a": first, "b": [{"c": second}, first]}, "context": {"step": {"rows": second}}}
    with pytest.raises(HoldsTable):
        encode(fields)
    sent = orjson.loads(CallFiles(IN_MEMORY).put_tables(fields))
    mark = sent["files"]["mark"]
    assert sent["input"] == {"a": {mark: 0}, "b": [{"c": {mark: 1}}, {mark: 0}]}
    assert sent["context"] == {"step": {"rows": {mark: 1}}}
    assert sent["files"]["places"] == [[first.file.size, 0], [second.file.size, 0]]
    assert len(mark) == 32
    assert mark not in CallFiles(IN_MEMORY).put_tables(fields).decode()


def test_what_else_is_no_json_is_named_beside_a_table() -> None:
    with pytest.raises(NotJson, match=r"result\['b'\] is of type object"):
        CallFiles(IN_MEMORY).put_tables({"a": table(), "b": object()})


def test_more_tables_than_one_message_holds_are_refused() -> None:
    one = table()
    copies = [Table(one.file) for _ in range(MAX_DESCRIPTORS + 1)]
    with pytest.raises(NotJson, match="it has 201 tables, and a process is given at most 200"):
        CallFiles(IN_MEMORY).put_tables({"input": copies})


async def test_it_is_given_what_can_only_be_read() -> None:
    files, one = CallFiles(IN_MEMORY), table()
    files.put_tables({"input": one})
    error, descriptors = await files.answer(GIVEN)
    assert (error, len(descriptors)) == (0, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptors[0], b"x")
    again = os.open(f"/proc/self/fd/{descriptors[0]}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.pwrite(again, b"x", 0)
    close_all((again, *descriptors))


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x01x"],
        [b"\x01"],
        [b"\x01t"],
        [b"\x01t123"],
        [ask_for_file(5), ask_for_file(5)],
        [ask_for_room(5)],
        [ask_for_file(5), b"\x01r123"],
        [GIVEN, GIVEN],
    ],
)
async def test_what_it_may_not_ask_for_is_refused(frames: list[bytes]) -> None:
    files = CallFiles(IN_MEMORY)
    *before, last = frames
    for frame in before:
        close_all((await files.answer(frame))[1])
    with pytest.raises(ValueError, match="it "):
        await files.answer(last)
    files.close()


async def test_it_learns_why_no_file_can_be_opened() -> None:
    def full(size: int) -> int:
        raise OSError(errno.ENOSPC, "no room")

    assert await CallFiles(OpenedBy(full)).answer(ask_for_file(5)) == (errno.ENOSPC, ())


async def test_a_file_is_opened_for_about_the_size_that_it_names() -> None:
    sizes: list[int] = []

    def open_file(size: int) -> int:
        sizes.append(size)
        return memory_file()

    files = CallFiles(OpenedBy(open_file))
    os.close(await opened(files))
    assert sizes == [10]
    files.close()


async def test_what_has_no_more_room_goes_on_in_another_file(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path, 1_000)
    files = CallFiles(ResultFiles(tmp_path, memory))
    _, (first,) = await files.answer(ask_for_file(10))
    assert await files.answer(ask_for_room(900)) == (0, [])
    os.write(first, b"first")
    error, (second,) = await files.answer(ask_for_room(1_100))
    assert error == 0
    os.write(second, b" second")
    assert os.pread(second, 100, 0) == b"first second"
    assert await files.answer(ask_for_room(1_200)) == (0, [])
    close_all((first, second))
    files.close()
    memory.close()


async def test_what_is_moved_when_nobody_waits_any_more_takes_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(source: int, target: int, size: int) -> None:
        copy(source, target, size)
        begun.set()
        go_on.wait(10)

    monkeypatch.setattr("noetl_serverless.results.files.copy", slowly)
    open_before = deleted_files()
    memory = SharedMemory(tmp_path, 1_000)
    files = CallFiles(ResultFiles(tmp_path, memory))
    _, (given,) = await files.answer(ask_for_file(10))
    os.write(given, b"first")
    asking = asyncio.ensure_future(files.answer(ask_for_room(1_100)))
    await asyncio.to_thread(begun.wait, 10)
    asking.cancel()
    await asyncio.wait([asking])
    files.close()
    others = [os.open(tmp_path / f"{n}", os.O_RDWR | os.O_CREAT) for n in range(3)]
    before = [os.fstat(other).st_ino for other in others]
    go_on.set()
    await eventually(lambda: deleted_files() == open_before + 1)
    assert [os.fstat(other).st_ino for other in others] == before, "a file that was opened since has been replaced"
    close_all((given, *others))
    memory.close()


def deleted_files() -> int:
    """How many files without a name are open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").endswith("(deleted)")
    return found


async def test_what_it_writes_without_asking_goes_to_disk_when_there_is_no_room(tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path, 2_000)
    files = CallFiles(ResultFiles(tmp_path, memory))
    _, (given,) = await files.answer(ask_for_file(10))
    written = write_table(given, pa.table({"n": range(1_000)}))
    os.close(given)
    found = await files.table({"bytes": written.bytes, "rows": 1_000})
    assert found == [{"n": n} for n in range(1_000)]
    assert not is_in_memory(found.file.fileno()), "8 kB are in memory, of which there may be 2"
    memory.close()


def test_a_table_goes_with_the_call_that_was_given_it() -> None:
    gc.collect()
    gc.disable()
    try:
        one = table()
        file = weakref.ref(one.file)
        with suppress(HoldsTable):
            encode({"input": one})
        del one
        assert file() is None, "its file stays until garbage is collected"
    finally:
        gc.enable()


async def test_what_it_has_written_is_the_result() -> None:
    for field, rest in ((None, None), ("rows", {"row_count": 3, "more": ["x"]})):
        files = CallFiles(IN_MEMORY)
        descriptor = await opened(files)
        whole = None if field is None else in_field(field, rest or {})
        written = write_table(descriptor, pa.table({"n": range(3)}), whole)
        os.close(descriptor)
        value = await files.table({"bytes": written.bytes, "rows": 3})
        rows = value if field is None else value["rows"]
        assert isinstance(rows, Table)
        assert rows == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert field is None or {name: item for name, item in value.items() if name != "rows"} == rest
        files.close()


def metadata(value: bytes) -> Callable[[int], None]:
    def write(descriptor: int) -> None:
        with (
            os.fdopen(os.dup(descriptor), "wb") as file,
            pa.ipc.new_stream(file, pa.schema([("n", pa.int64())])) as out,
        ):
            out.write_batch(pa.record_batch([[1, 2, 3]], names=["n"]), custom_metadata={b"noetl.value": value})

    return write


def columns(*names: str) -> Callable[[int], None]:
    def write(descriptor: int) -> None:
        write_table(descriptor, pa.Table.from_arrays([pa.array([1, 2, 3])] * len(names), names=list(names)))

    return write


def nested(levels: int) -> bytes:
    return b'{"tables": [[["rows"], 0]], "rest": {"x": %s1%s}}' % (b"[" * levels, b"]" * levels)


@pytest.mark.parametrize(
    "write",
    [
        lambda descriptor: os.write(descriptor, b"no stream at all"),
        lambda descriptor: os.write(descriptor, struct.pack("<iI", -1, 2**31 - 1) + b"x" * 50),
        metadata(b"no json"),
        metadata(b"[1]"),
        metadata(b'{"tables": [[["rows"], 0]]}'),
        metadata(b'{"tables": [[["rows"], 0]], "rest": [1]}'),
        metadata(b'{"tables": [[[0], 0]], "rest": [1]}'),
        metadata(b'{"tables": [[["rows"], 1]], "rest": {}}'),
        metadata(b'{"tables": [], "rest": {}}'),
        metadata(b'{"tables": [[["ro\\u0000ws"], 0]], "rest": {}}'),
        metadata(b'{"tables": [[["rows"], 0]], "rest": {"x": "\\u0000"}}'),
        metadata(nested(112)),
        metadata(nested(1_000)),
        columns("n", "n"),
    ],
)
async def test_what_is_no_result_is_refused(write: Callable[[int], None]) -> None:
    files = CallFiles(IN_MEMORY)
    descriptor = await opened(files)
    write(descriptor)
    size = os.fstat(descriptor).st_size
    os.close(descriptor)
    with pytest.raises(ValueError):  # noqa: PT011
        await files.table({"bytes": size, "rows": 3})
    files.close()


async def test_a_deep_but_allowed_field_is_no_fault() -> None:
    files = CallFiles(IN_MEMORY)
    descriptor = await opened(files)
    metadata(nested(110))(descriptor)
    size = os.fstat(descriptor).st_size
    os.close(descriptor)
    assert len((await files.table({"bytes": size, "rows": 3}))["rows"]) == 3


@pytest.mark.parametrize(
    "claim",
    [
        None,
        "x",
        {},
        {"bytes": 1},
        {"bytes": "1", "rows": 3},
        {"bytes": -1, "rows": 3},
        {"bytes": True, "rows": 3},
        {"bytes": 10**18, "rows": 3},
        {"bytes": 0, "rows": 0},
        {"rows": 4},
    ],
)
async def test_what_it_announces_has_to_be_there(claim: Any) -> None:
    files = CallFiles(IN_MEMORY)
    descriptor = await opened(files)
    written = write_table(descriptor, pa.table({"n": range(3)}))
    os.close(descriptor)
    if claim == {"rows": 4}:
        claim = {"bytes": written.bytes, "rows": 4}
    with pytest.raises(ValueError, match="announced"):
        await files.table(claim)
    files.close()


async def test_a_file_that_was_not_asked_for_is_none() -> None:
    with pytest.raises(ValueError, match="has not asked for"):
        await CallFiles(IN_MEMORY).table({"bytes": 1, "rows": 1})


# -- results as JSON


async def written_json(content: bytes, claim: Any) -> tuple[Any, MappedFile | None]:
    """What the engine makes of a file with this content."""
    files = CallFiles(IN_MEMORY)
    try:
        descriptor = await opened(files)
        os.write(descriptor, content)
        os.close(descriptor)
        return await files.json(claim)
    finally:
        files.close()


async def test_a_result_that_was_written_comes_with_its_file() -> None:
    content = b'{"a":[1,2.5,"x"]}'
    value, file = await written_json(content, len(content))
    assert value == {"a": [1, 2.5, "x"]}
    assert file is not None
    assert file.read() == content
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(file.fileno(), b"other")


@pytest.mark.parametrize("content", [b'{"a":"\\u0000"}', b"[" * 113 + b"]" * 113], ids=["NUL", "too deep"])
async def test_a_result_that_is_not_in_its_stored_form_comes_without_its_file(content: bytes) -> None:
    value, file = await written_json(content, len(content))
    assert (value, file) == (orjson.loads(content), None)


@pytest.mark.parametrize(
    ("content", "claim"),
    [
        (b"[1]", None),
        (b"[1]", "3"),
        (b"[1]", True),
        (b"[1]", 2),
        (b"[1]", 4),
        (b"", 0),
        (b"[1]", MAX_JSON_BYTES + 1),
        (b"[1", 2),
        (b"[NaN]", 5),
        (b'"\xff"', 3),
    ],
)
async def test_json_that_is_not_as_announced_is_refused(content: bytes, claim: Any) -> None:
    with pytest.raises(ValueError, match=r"announced|unexpected|UTF-8"):
        await written_json(content, claim)


async def test_json_in_a_file_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(WrongFile, match="has not asked for"):
        await CallFiles(IN_MEMORY).json(3)
