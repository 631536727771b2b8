"""The rows that events make."""

from __future__ import annotations

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.store.projections import project


def pool(step: str) -> str:
    return "shared"


def opened(seq: int, count: int) -> Event:
    return Event(e.LOOP_OPENED, 0, seq, step="each", generation=1, payload={"count": count})


def done(seq: int, total: int) -> Event:
    payload = {"status": "ok", "stats": {"total": total, "success": total, "failed": 0}}
    return Event(e.LOOP_DONE, 0, seq, step="each", generation=1, payload=payload)


def test_a_loop_that_opens_and_ends_at_once_is_one_row() -> None:
    rows = project("7", [opened(3, 0), done(4, 0)], pool)

    assert rows.stages == [{"id": "7", "step": "each", "generation": 1, "seq": 3, "count": 0, "status": "ok"}]


def test_a_loop_that_ends_later_writes_its_row_again() -> None:
    assert [row["status"] for row in project("7", [opened(3, 2)], pool).stages] == ["open"]
    assert [row["status"] for row in project("7", [done(9, 2)], pool).stages] == ["ok"]
