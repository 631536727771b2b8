"""Blocks of a log file: any page of any execution from one part of the file."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.archive import log_file
from noetl_serverless.archive.log_file import MAX_CONCURRENT_BLOCKS, LogWriter, events_of, head_of, spans
from noetl_serverless.archive.messages import EventRow


def row(id: str, seq: int, payload: Any = None) -> EventRow:
    at = 1_700_000_000_000_001 + seq
    return (id, seq, seq - 1 or None, "call.done", "a", 1, f"a#{seq}", at, json.dumps(payload or {"n": seq}))


def written(counts: list[int], size: int) -> tuple[bytes, list[list[tuple[int, int, int]]]]:
    """A file of executions with so many events each, in blocks of `size` bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_file, "BLOCK_BYTES", size)
        file = io.BytesIO()
        writer = LogWriter(file)
        blocks = []
        for id, count in enumerate(counts, 1):
            blocks.append(writer.open(json.dumps({"execution": {"execution_id": id}, "results": []})))
            for seq in range(1, count + 1):
                writer.add(row(str(id), seq))
        writer.close()
    return file.getvalue(), blocks


def part(content: bytes, offset: int, length: int) -> bytes:
    return content[offset : offset + length]


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    size=st.integers(1, 2000),
    after=st.integers(0, 45),
    limit=st.integers(1, 45),
)
def test_any_page_comes_from_its_blocks(counts: list[int], size: int, after: int, limit: int) -> None:
    content, blocks = written(counts, size)
    for id, (count, mine) in enumerate(zip(counts, blocks, strict=True), 1):
        assert head_of(part(content, *mine[0][1:]))["execution"]["execution_id"] == id
        read = [part(content, *span) for span in spans(mine, after, after + limit)]
        found = [event.seq for members in read for event in events_of(id, members)]
        wanted = [seq for seq in range(1, count + 1) if after < seq <= after + limit]
        assert set(wanted) <= set(found)
        assert found == sorted(set(found))


def test_a_page_reads_no_more_than_its_blocks() -> None:
    content, [blocks] = written([1000], 2000)
    assert len(blocks) > 20
    [(_, length)] = spans(blocks, 500, 510)
    assert length < len(content) / 10


def test_a_long_log_is_read_a_few_blocks_at_a_time() -> None:
    content, [blocks] = written([1000], 2000)
    read = spans(blocks, 0, 1000)
    few = max(sum(length for _, _, length in blocks[at : at + MAX_CONCURRENT_BLOCKS]) for at in range(len(blocks)))
    assert max(length for _, length in read) <= few < len(content) / 2
    assert b"".join(part(content, *span) for span in read) == content, "all of it, each block once"


def test_the_whole_is_one_gzip_file_of_json_lines() -> None:
    content, _ = written([3, 2], 100)
    lines = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    assert [line.get("seq") for line in lines] == [None, 1, 2, 3, None, 1, 2]


def test_an_event_comes_back_as_it_was() -> None:
    file = io.BytesIO()
    writer = LogWriter(file)
    blocks = writer.open("{}")
    big = '{"n": 123456789012345678901234567890, "text": "a\\nb \\u0001 \\"q\\" é"}'
    writer.add(("7", 1, None, "playbook.initialized", None, None, None, 1_700_000_000_000_001, big))
    writer.close()
    [event] = events_of(7, file.getvalue())
    assert (event.execution_id, event.seq, event.cause, event.step) == (7, 1, None, None)
    assert event.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC) + timedelta(microseconds=1)
    assert event.payload["text"] == 'a\nb \x01 "q" é'
    # the file keeps the digits that a reader's numbers may not
    assert b"123456789012345678901234567890" in gzip.decompress(file.getvalue())
    assert blocks == [(0, 0, len(file.getvalue()))]


def test_the_same_rows_make_the_same_bytes() -> None:
    assert written([5, 9], 300) == written([5, 9], 300)
