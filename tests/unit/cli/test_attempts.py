from __future__ import annotations

from typing import Any

from noetl_serverless.cli.attempts import failed_items, lines

START = 1_767_225_600_000
ATTEMPT = {
    "attempt": 2,
    "task": "load",
    "error": {"code": "http.status", "message": "503"},
    "started_at": START,
    "ended_at": START + 200,
    "worker": "w-1",
}


def test_an_attempt_shows_its_error_its_time_and_its_worker() -> None:
    assert list(lines({"attempts": [ATTEMPT]})) == [
        "attempt 2 of load failed: http.status: 503 (2026-01-01T00:00:00.000Z, 0.200 s, on worker w-1)"
    ]


def test_an_attempt_of_a_loop_item_names_it() -> None:
    [line] = lines({"attempts": [{**ATTEMPT, "index": 0}]})
    assert line.startswith("attempt 2 of load, item 0, failed")


def test_those_that_are_not_kept_are_counted() -> None:
    assert list(lines({"attempts": [], "attempts_dropped": 7}))[-1].startswith("7 failed attempts")


def test_a_lost_lease_shows_who_had_it() -> None:
    lost = {"worker": "w-0", "delivery": 1, "claimed_at": START, "lease_until": START + 30_000}
    [line] = lines({"lost": [lost]})
    assert "w-0 claimed it at 2026-01-01T00:00:00.000Z" in line
    assert "2026-01-01T00:00:30.000Z" in line


def test_a_released_command_shows_who_had_it_until_then() -> None:
    lost = {"worker": "w-0", "delivery": 1, "claimed_at": START, "lease_until": START + 30_000}
    [line] = lines({"lost": [{**lost, "given_back_at": START + 2_000}]})
    assert "w-0 claimed it at 2026-01-01T00:00:00.000Z, and released it at 2026-01-01T00:00:02.000Z" in line


def test_what_is_not_known_does_no_harm() -> None:
    assert list(lines({})) == []
    assert "an unknown time" in next(lines({"attempts": [{}]}))


def test_an_item_that_failed_is_named_with_its_error() -> None:
    error = {"code": "http.status", "message": "503", "at": 12}
    items: list[dict[str, Any]] = [
        {"index": 7, "error": error, "attempts": 3},
        {"index": None, "error": error, "attempts": 1},
    ]
    assert list(failed_items(items, [{"start": 100, "end": 132, "failed": 22}])) == [
        "item 7 failed after 3 attempts: http.status: 503 (line 12)",
        "an item failed: http.status: 503 (line 12)",
        "22 more of the items 100 to 131 failed; the log does not keep their errors",
    ]
