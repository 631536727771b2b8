"""A page may have fewer rows than were asked for: whoever reads a list goes on until there are none."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from noetl_serverless.cli.client import Client
from noetl_serverless.cli.commands.diff import _executions
from noetl_serverless.cli.commands.executions import _next_page
from noetl_serverless.cli.failure import Failure
from noetl_serverless.cli.recordings import _remaining_rows, all_events

TIME = "2026-01-01T00:00:00Z"
# rows of every page, whatever is asked for
FEW = 2


class Lists(Client):
    """A control plane whose pages end early."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__("http://nowhere", "")
        self.rows = rows
        self.payload = b""

    def get(self, path: str, /, timeout: float = 60.0, **query: Any) -> Any:
        if path.endswith("/payload"):
            part = self.payload[query["offset"] : query["offset"] + 7]
            return {"data": base64.b64encode(part).decode()}
        if path.endswith("/results"):
            rows = [row for row in self.rows if row["key"] > query["after"]]
            return {"items": rows[:FEW], "next": rows[FEW - 1]["key"] if len(rows) > FEW else None}
        if "after" in query:
            return [row for row in self.rows if row["seq"] > query["after"]][:FEW]
        if "offset" in query:
            page = self.rows[query["offset"] :][:FEW]
            end = query["offset"] + len(page)
            return {"items": page, "next": end if end < len(self.rows) else None}
        before = int(query.get("before") or 10**9)
        limit = min(FEW, query["page_size"])
        return [row for row in self.rows if int(row["execution_id"]) < before][:limit]


def execution(number: int) -> dict[str, Any]:
    return {"execution_id": str(number), "path": "a/b", "start_time": TIME}


def event(seq: int, **more: Any) -> dict[str, Any]:
    row = {"seq": seq, "event_type": "call.done", "timestamp": TIME, "cause": None, "step": "a", "generation": 1}
    return {**row, "command_id": "a#1", "payload": {"n": seq}, **more}


def test_a_list_by_offset_is_read_to_its_end() -> None:
    rows = [{"name": str(number)} for number in range(5)]
    assert Lists(rows).items("/api/credentials") == rows


def test_executions_are_read_until_there_are_as_many_as_wanted() -> None:
    client = Lists([execution(number) for number in range(9, 0, -1)])
    entries: list[dict[str, Any]] = []
    while len(entries) < 5 and (page := _next_page(client, entries, 5, {"path": "a/b"})):
        entries += page
    assert [entry["execution_id"] for entry in entries] == ["9", "8", "7", "6", "5"]


def test_all_recent_executions_are_compared() -> None:
    client = Lists([execution(number) for number in range(5, 0, -1)])
    found = _executions(client, "a/b", datetime(2025, 1, 1, tzinfo=UTC))
    assert [entry["execution_id"] for entry in found] == ["5", "4", "3", "2", "1"]


def test_a_log_is_read_to_its_head_with_what_its_lists_leave_out() -> None:
    payload = {"data": "x" * 50}
    text = json.dumps(payload).encode()
    client = Lists([event(1), event(2), event(3, payload={}, payload_bytes=len(text)), event(4)])
    client.payload = text
    assert [found.payload for found in all_events(client, "7", 4)] == [{"n": 1}, {"n": 2}, payload, {"n": 4}]


def test_a_payload_that_cannot_be_read_to_its_end_is_a_failure() -> None:
    client = Lists([event(1, payload={}, payload_bytes=99)])
    with pytest.raises(Failure):
        all_events(client, "7", 1)


def test_the_rows_for_which_a_recording_has_no_room_are_read() -> None:
    rows = [{"key": str(number)} for number in range(7)]
    client, beside = Lists(rows), {"results": rows[:3], "more_results": True}
    assert _remaining_rows(client, beside, "results", "key", "/api/executions/7") == rows[3:]
    assert _remaining_rows(client, {"results": rows}, "results", "key", "/api/executions/7") == []
