"""Tables are written as Arrow streams, to the end or not at all."""

from __future__ import annotations

import errno
import gc
import io
import os
from pathlib import Path

import pyarrow as pa
import pytest

from noetl_serverless.tables import stream
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import StreamWriter

SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    return os.open(tmp_path / "own", os.O_CREAT | os.O_RDWR)


def break_off(writer: StreamWriter) -> None:
    """Once something is in the buffer of its file."""
    with writer:
        for number in range(stream._MAX_PENDING):
            writer.write(pa.record_batch([[number]], schema=SCHEMA))
        raise LookupError


def fill(descriptor: int) -> None:
    """Nothing more can be written there."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, descriptor)
    os.close(full)


def test_what_is_broken_off_is_not_written_to_what_has_its_number_later(tmp_path: Path, descriptor: int) -> None:
    writer = StreamWriter(descriptor, SCHEMA)
    with pytest.raises(LookupError):
        break_off(writer)
    os.close(descriptor)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    assert other == descriptor, "the test needs the same number"
    del writer
    gc.collect()
    size = os.fstat(other).st_size
    os.close(other)
    assert size == 0, f"{size} bytes were written into the file of somebody else"


def test_what_breaks_it_off_is_raised_although_nothing_more_can_be_written(descriptor: int) -> None:
    writer = StreamWriter(descriptor, SCHEMA)
    fill(descriptor)
    with pytest.raises(LookupError):
        break_off(writer)
    os.close(descriptor)


def test_a_disk_that_is_full_at_the_end_is_reported(descriptor: int) -> None:
    with StreamWriter(descriptor, SCHEMA) as writer:
        fill(descriptor)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            writer.finish()
    os.close(descriptor)


def test_few_batches_wait_to_be_joined() -> None:
    descriptor = memory_file()
    count = 3 * stream._MAX_PENDING
    with StreamWriter(descriptor, SCHEMA) as writer:
        for number in range(count):
            writer.write(pa.record_batch([[number]], schema=SCHEMA))
        size = writer.finish().bytes
    content = os.pread(descriptor, size, 0)
    os.close(descriptor)
    batches = list(pa.ipc.open_stream(io.BytesIO(content)))
    assert len(batches) == 3, "each that waits keeps its file mapped"
    assert pa.Table.from_batches(batches)["n"].to_pylist() == list(range(count))
