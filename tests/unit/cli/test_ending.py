from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.cli.commands.run import show_outcome
from noetl_serverless.cli.ending import principal, status_notes
from noetl_serverless.inspection.event_text import error_text

UNDECIDED = {"code": "engine.undecidable", "message": "no idea", "place": "engine/decide.py:1 in finish"}
WARNING = {"code": "routing.no_match", "step": "a", "message": "no arc of step 'a' was taken"}


def entry(**more: Any) -> dict[str, Any]:
    return {"execution_id": "7", "status": "FAILED", "error": None, **more}


def test_quarantine_says_what_happened_where_and_what_to_do() -> None:
    assert list(status_notes(entry(quarantined=True, error=UNDECIDED))) == [
        "in quarantine: the engine could not decide how to continue; other executions are not affected",
        "  no idea (at engine/decide.py:1 in finish)",
        "  for details, run: noetls quarantine show 7",
    ]


def test_what_was_dropped_from_quarantine_needs_nothing_to_be_done() -> None:
    assert list(status_notes(entry(quarantined=False, error=UNDECIDED))) == []


def test_what_was_undone_and_what_was_not_is_shown() -> None:
    failed = [{"step": "pay", "code": "python.error", "message": "the bank says no"}]
    error = {"code": "x", "message": "m", "compensation": {"done": ["ship", "book"], "failed": failed}}
    assert list(status_notes(entry(error=error))) == [
        "undone: ship, book",
        "not undone: pay: python.error: the bank says no",
    ]
    nothing = {"code": "x", "message": "m", "compensation": {"done": [], "failed": []}}
    assert list(status_notes(entry(error=nothing))) == []


def test_warnings_are_one_line_each() -> None:
    assert (
        list(status_notes(entry(warnings=[WARNING, WARNING])))
        == ["warning: routing.no_match: no arc of step 'a' was taken"] * 2
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [({"kind": "user", "name": "ada"}, "user ada"), ({"kind": "operator"}, "operator"), ({}, ""), (None, "")],
)
def test_a_principal_in_words(found: Any, expected: str) -> None:
    assert principal(found) == expected


def outcome(**more: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "result": None,
        "duration_ms": 1,
        "error": None,
        "quarantined": False,
        "failed_items": [],
    }
    return {"execution_id": "7", "status": "COMPLETED", "warnings": [], **nothing, **more}


def test_a_run_that_ends_in_quarantine_reports_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    show_outcome(outcome(**entry(quarantined=True, error=UNDECIDED)))
    assert capsys.readouterr().out.count("no idea") == 1


def test_an_end_says_how_many_items_of_its_loops_failed(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [{"step": "each", "generation": turn, "count": 1000, "failed": 1000} for turn in (1, 2)]
    show_outcome(outcome(failed_items=[*runs, {"step": "other", "generation": 1, "count": 5, "failed": 1}]))
    output = capsys.readouterr().out
    assert "warning: 2,000 of 2,000 items of the loop 'each' failed; to see which, run: noetls show 7" in output
    assert "warning: 1 of 5 items of the loop 'other' failed" in output


def test_the_end_of_a_run_whose_code_failed_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    py = {"exception": "ValueError", "traceback": 'File "<code>", line 2, in main\nValueError: bad\n', "line": 2}
    error = {"code": "python.exception", "message": "ValueError: bad", "step": "a", "at": 8}
    show_outcome(outcome(status="FAILED", error=error, code_error=py))
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown[1:] == [
        "error: ValueError: bad (step 'a', line 8)",
        "  in line 2 of the code:",
        "    line 2, in main",
        "    ValueError: bad",
    ]


def test_an_error_of_a_template_has_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": "template.error", "message": "there is no 'x'", "step": "a", "at": 8, "line": 8, "column": 12}
    show_outcome(outcome(status="FAILED", error=error))
    assert "error: there is no 'x' (step 'a', line 8, column 12)" in capsys.readouterr().out


def test_an_arc_that_cannot_be_evaluated_after_a_failure_is_named_too(capsys: pytest.CaptureFixture[str]) -> None:
    routing = {"code": "template.error", "message": "there is no 'status'", "line": 12, "column": 30}
    error = {"code": "http.connect", "message": "no such host", "step": "a", "at": 8, "routing": routing}
    show_outcome(outcome(status="FAILED", error=error))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "error: no such host (step 'a', line 8)",
        "and then: there is no 'status' (line 12, column 30)",
    ]
    text = "http.connect: no such host (line 8); and then template.error: there is no 'status' (line 12, column 30)"
    assert error_text(error) == text
