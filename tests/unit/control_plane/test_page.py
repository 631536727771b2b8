"""Lists end before they are too large for an answer, and lead on from there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from noetl_serverless.control_plane.models.executions import EventEntry
from noetl_serverless.control_plane.page import Page, from_offset, truncate_payloads
from noetl_serverless.limits import PAGE_BYTES

MIB = 1024 * 1024


def entry(seq: int, size: int) -> EventEntry:
    return EventEntry(
        execution_id="7",
        seq=seq,
        event_id=str(seq),
        cause=None,
        parent_event_id=None,
        event_type="call.done",
        step="a",
        node_id="a",
        node_name="a",
        generation=1,
        command_id="a#1",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        status="ok",
        duration=None,
        payload={"data": "x" * size},
        payload_bytes=None,
    )


QUERY = [("after", "0"), ("wait", "5"), ("limit", "9")]


def paged(*sizes: int, more: bool = False) -> Page:
    items = [entry(seq, size) for seq, size in enumerate(sizes, 1)]
    return Page(items, more=more, next_parameters=lambda item: {"after": item.seq, "wait": None})


def written(*sizes: int, more: bool = False) -> tuple[list[Any], str | None, int]:
    content, headers = paged(*sizes, more=more).encode(QUERY, bare=True)
    return orjson.loads(content), headers.get("link"), len(content)


@pytest.mark.parametrize(("more", "following"), [(False, None), (True, 2)])
def test_a_list_is_its_items_and_what_to_give_to_go_on(more: bool, following: int | None) -> None:
    content, headers = paged(10, 10, more=more).encode(QUERY)
    document = orjson.loads(content)
    assert [row["seq"] for row in document.pop("items")] == [1, 2]
    assert document == {"next": following}
    assert ("link" in headers) is more


def test_a_page_that_fits_leads_nowhere() -> None:
    rows, link, _ = written(10, 10)
    assert ([row["seq"] for row in rows], link) == ([1, 2], None)
    assert written()[:2] == ([], None)


def test_a_page_leads_on_if_there_is_more_behind_it() -> None:
    assert written(10, more=True)[1] == '<?after=1&limit=9>; rel="next"'


def test_a_page_ends_before_the_row_that_would_be_too_much() -> None:
    rows, link, size = written(MIB, MIB, MIB, MIB, MIB)
    assert [row["seq"] for row in rows] == [1, 2, 3]
    assert link == '<?after=3&limit=9>; rel="next"'
    assert size <= PAGE_BYTES + 2


def test_a_row_that_is_too_large_alone_leaves_out_its_payload_and_says_so() -> None:
    rows, link, _ = written(PAGE_BYTES, 10)
    assert [(row["seq"], row["payload"] == {}, row["payload_bytes"]) for row in rows] == [
        (1, True, PAGE_BYTES + len('{"data":""}')),
        (2, False, None),
    ]
    assert link is None


def test_clipped_rows_are_all_there() -> None:
    rows = truncate_payloads([entry(seq, size) for seq, size in enumerate((MIB, 7 * MIB // 2, 2 * MIB, 10), 1)])
    assert [(row.seq, row.payload_bytes is None) for row in rows] == [(1, True), (2, False), (3, True), (4, True)]


@pytest.mark.parametrize(("more", "sizes", "following"), [(False, 2, None), (True, 2, 12), (False, 6, 13)])
def test_a_page_by_offset_goes_on_from_what_it_had_room_for(more: bool, sizes: int, following: int | None) -> None:
    kept, offset = from_offset([entry(seq, MIB) for seq in range(sizes + more)], sizes, 10)
    assert (len(kept), offset) == (min(sizes, 3), following)
