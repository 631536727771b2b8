from __future__ import annotations

from io import StringIO
from itertools import count
from typing import Any

from rich.console import Console

from noetl_serverless.cli.progress import Progress, line

SEQ = count(1)


def event(
    event_type: str, second: float, step: str | None = "load", generation: int = 1, **payload: Any
) -> dict[str, Any]:
    return {
        "event_type": event_type,
        "seq": next(SEQ),
        "timestamp": f"2026-01-01T00:00:{second:09.6f}Z",
        "step": step,
        "generation": generation,
        "command_id": payload.pop("command_id", f"{step}#{generation}"),
        "payload": payload,
    }


def test_a_step_ends_with_its_call() -> None:
    progress = Progress()
    assert progress.apply([event("command.issued", 1, kind="step")]) == []
    [row] = progress.apply([event("call.done", 3.5)])
    assert line(row) == "✓ load  2.50 s"


def test_attempts_of_a_deferred_command_are_counted_and_shown_once() -> None:
    def tries(*numbers: int) -> dict[str, Any]:
        return {"attempts": [{"attempt": number, "task": "load", "started_at": number} for number in numbers]}

    progress = Progress()
    progress.apply([event("command.issued", 1), event("call.deferred", 2, meta=tries(1))])
    progress.apply([event("call.deferred", 4, command_id="load#1@2", meta={**tries(2), "attempts_dropped": 3})])
    [row] = progress.apply(
        [event("call.error", 6, command_id="load#1@3", meta={**tries(1, 2, 6), "attempts_dropped": 3})]
    )
    assert row.failed == 6, "five when it was put off, and one more"
    assert [attempt["attempt"] for run in row.failures for attempt in run.attempts] == [1, 2, 6]


def test_attempts_of_another_command_stay_its_own() -> None:
    meta = {"attempts": [{"attempt": 1, "task": "load", "index": 0, "started_at": 5}]}
    progress = Progress()
    progress.apply([event("loop.opened", 1, count=2), event("call.deferred", 2, command_id="load#1.0", meta=meta)])
    progress.apply([event("frame.committed", 3, command_id="load#1.1", ok=1, failed=0, meta=meta)])
    [row] = progress.rows.values()
    assert row.failed == 2


def test_the_time_a_step_waited_in_its_worker_is_shown_if_there_is_any() -> None:
    def printed(waited: float) -> str:
        progress = Progress()
        meta = {"duration_ms": 2, "waited_ms": waited, "started_at": "2026-01-01T00:00:02Z"}
        progress.apply([event("command.issued", 1), event("call.done", 7, meta=meta)])
        out = StringIO()
        Console(file=out, width=120).print(progress.steps())
        return out.getvalue()

    text = printed(4994.0)
    assert text.index("queued") < text.index("waited") < text.index("ran")
    assert "1.00 s" in text and "4.99 s" in text, text
    assert "waited" not in printed(0.2)


def test_a_loop_that_goes_on_counts_the_items_that_were_done_before() -> None:
    progress = Progress()
    taken = [event("loop.reused", 1, count=5, done=3), event("frame.reused", 1, start=0, end=3, ok=3, failed=0)]
    assert progress.apply([*taken, event("loop.opened", 1, count=5)]) == []
    done = [event("frame.committed", 2, ok=2, failed=0), event("loop.done", 3, status="ok"), event("step.exit", 3)]
    [row] = progress.apply(done)
    assert line(row).startswith("✓ load  5/5 items")


def test_a_failed_loop_says_why() -> None:
    progress = Progress()
    opened = event("loop.opened", 1, count=2)
    done = event("loop.done", 3, status="error", error={"message": "1 of 2 items failed; the first: no such table"})
    [row] = progress.apply([opened, event("frame.committed", 2, ok=1, failed=1), done])
    assert line(row) == "✗ load  2/2 items, 1 failed  2.00 s  1 of 2 items failed; the first: no such table"
    [row] = Progress().apply([event("loop.done", 2, status="error", error={"message": "max_in_flight is no number"})])
    assert line(row).endswith("  max_in_flight is no number")


def test_of_a_cursor_only_what_it_has_claimed_is_counted() -> None:
    progress = Progress()
    opened = event("loop.opened", 1, count=0, cursor={"rows": 5, "frames": 9})
    frame = event("frame.committed", 2, start=0, end=3, ok=2, failed=1, errors={"1": {"message": "no"}})
    [row] = progress.apply([opened, frame, event("loop.done", 3, status="ok")])
    assert line(row) == "✓ load  3 items, 1 failed  2.00 s"
    assert [entry["count"] for entry in progress.failed_items()] == [3]


def test_a_failed_step_says_why() -> None:
    progress = Progress()
    [row] = progress.apply([event("command.issued", 1), event("call.error", 2, error={"message": "no such table"})])
    assert line(row) == "✗ load  1.00 s  no such table"


def test_a_loop_counts_its_items_and_ends_once() -> None:
    progress = Progress()
    ended = progress.apply(
        [
            event("command.issued", 0, kind="open", command_id="load#1.open"),
            event("call.done", 1, command_id="load#1.open"),
            event("loop.opened", 1, count=5),
            event("frame.committed", 2, ok=2, failed=0),
            event("frame.committed", 3, ok=1, failed=1),
        ]
    )
    [row] = progress.rows.values()
    assert (ended, row.loop, row.state) == ([], "4/5, 1 failed", "running")
    [row] = progress.apply([event("frame.committed", 4, ok=1, failed=0), event("loop.done", 4), event("step.exit", 5)])
    assert line(row) == "✓ load  5/5 items, 1 failed  4.00 s"


def test_a_step_that_comes_again_has_a_row_of_its_own() -> None:
    progress = Progress()
    progress.apply([event("call.done", 1), event("call.done", 2, generation=2)])
    assert [line(row).split("  ")[0] for row in progress.rows.values()] == ["✓ load", "✓ load (run 2)"]


def test_the_status_follows_the_end() -> None:
    for kind, status in (
        ("playbook.completed", "COMPLETED"),
        ("playbook.failed", "FAILED"),
        ("execution.cancelled", "CANCELLED"),
    ):
        progress = Progress()
        assert progress.status == "RUNNING"
        progress.apply([event(kind, 1, step=None)])
        assert progress.status == status


ATTEMPT = {"attempt": 1, "task": "load", "error": {"code": "x", "message": "m"}}


def statuses(progress: Progress) -> list[tuple[str, str]]:
    return [(row.name, row.label) for row in progress.rows.values()]


def test_queued_and_running_are_distinguished() -> None:
    progress = Progress()
    meta = {"started_at": "2026-01-01T00:00:03Z", "duration_ms": 500, "attempts": [ATTEMPT], "lost": [{}]}
    progress.apply([event("command.issued", 1, kind="step"), event("call.done", 4, meta=meta)])
    [row] = progress.rows.values()
    assert (row.queued_ms, row.run_ms, row.failed) == (2000, 500, 2)
    assert [run.attempts for run in row.failures] == [[ATTEMPT]]


def test_the_commands_of_a_loop_are_taken_together() -> None:
    progress = Progress()
    progress.apply([event("loop.opened", 0, count=2)])
    for number in (1, 2):
        meta = {"started_at": f"2026-01-01T00:00:0{number}Z", "duration_ms": 100, "attempts": [ATTEMPT]}
        name = f"load#1:{number}"
        progress.apply([event("command.issued", 0, kind="frame", command_id=name)])
        progress.apply([event("frame.committed", 3, command_id=name, ok=1, failed=0, meta=meta)])
    [row] = progress.rows.values()
    assert (row.queued_ms, row.run_ms, row.failed) == (3000, 200, 2)


def test_a_step_that_is_put_off_is_not_running() -> None:
    progress = Progress()
    for kind, status in (("command.issued", "running"), ("timer.set", "delayed"), ("child.started", "parked")):
        progress.apply([event(kind, 1)])
        assert statuses(progress) == [("load", status)]


def test_where_a_step_stands_is_as_the_engine_says() -> None:
    progress = Progress()
    progress.apply([event("command.issued", 1)])
    progress.set_statuses(
        [
            {"step": "load", "generation": 1, "status": "queued"},
            {"step": "join", "generation": None, "status": "waiting"},
        ]
    )
    assert statuses(progress) == [("load", "queued"), ("join", "waiting")]
    progress.apply([event("call.done", 2)])
    assert statuses(progress)[0] == ("load", "done")


def test_the_end_of_an_execution_is_no_run_of_the_step_that_it_names() -> None:
    progress = Progress()
    progress.apply([event("call.error", 1), {**event("playbook.failed", 1), "generation": None}])
    assert statuses(progress) == [("load", "failed")]


def test_a_sub_playbook_ends_the_step_that_waits_for_it_alone() -> None:
    progress = Progress()
    progress.apply([event("command.issued", 1), event("child.started", 2)])
    assert progress.rows["load", 1].label == "parked"
    [row] = progress.apply([event("child.ended", 4, resumes=False, status="ok")])
    assert (row.label, line(row)) == ("done", "✓ load  3.00 s")
    progress.apply([event("command.issued", 5, "two"), event("child.started", 6, "two")])
    assert progress.apply([event("child.ended", 7, "two", resumes=True, status="ok")]) == []


def test_what_was_under_way_in_quarantine_was_stopped_by_its_end_once_it_is_dropped() -> None:
    progress = Progress()
    progress.apply([event("command.issued", 1), event("playbook.failed", 3, None, quarantined={"type": "call.done"})])
    assert progress.dropped is None
    progress.apply([event("execution.dropped", 50, None, by={"kind": "user", "name": "ada"})])
    row = progress.rows["load", 1]
    assert (row.label, row.duration(100.0)) == ("stopped", 2.0)
    assert progress.dropped is not None and progress.dropped["payload"]["by"]["name"] == "ada"


def test_what_was_under_way_when_an_execution_ended_is_stopped_unless_it_may_go_on() -> None:
    progress = Progress()
    progress.apply([event("command.issued", 1), event("playbook.failed", 2, None, quarantined={"type": "call.done"})])
    row = progress.rows["load", 1]
    assert (row.label, row.mark) == ("stopped", "■"), "in quarantine nothing runs"
    progress.apply([event("execution.retried", 3, None)])
    assert (row.label, row.mark) == ("running", "…")
    progress.apply([event("execution.cancelled", 4, None)])
    assert (row.label, row.duration(100.0)) == ("stopped", 3.0)


def test_what_was_kept_in_quarantine_is_shown_when_it_took_effect() -> None:
    progress = Progress()
    progress.apply([event("command.issued", 1), event("playbook.failed", 3, None, quarantined={"type": "timer.fired"})])
    progress.apply([event("execution.retried", 40, None), event("call.done", 3), event("command.issued", 3, "next")])
    assert (progress.last % 60, progress.rows["load", 1].duration(0)) == (40.0, 39.0)
    progress.apply([event("call.done", 42, "next", meta={"started_at": "2026-01-01T00:00:41Z", "duration_ms": 1})])
    assert progress.rows["next", 1].queued_ms == 1000, "it was issued when the execution went on"


def test_a_command_that_was_out_before_quarantine_was_not_queued_in_it() -> None:
    progress = Progress()
    progress.apply([event("command.issued", 1), event("playbook.failed", 3, None, quarantined={"type": "timer.fired"})])
    meta = {"started_at": "2026-01-01T00:00:41Z", "duration_ms": 1}
    progress.apply([event("execution.retried", 40, None), event("call.done", 42, meta=meta)])
    assert progress.rows["load", 1].queued_ms == 1000


def failed(step: str, **more: Any) -> dict[str, Any]:
    error = {"code": "template.error", "message": "there is no 'gone'", "line": 7, "step": step}
    return {**event("playbook.failed", 3, step, error=error, **more), "generation": None}


def test_a_step_whose_arcs_or_set_cannot_be_evaluated_has_failed() -> None:
    progress = Progress()
    [row] = progress.apply([event("command.issued", 1), event("call.done", 2), failed("load")])
    assert line(row) == "✗ load  1.00 s  template.error: there is no 'gone' (line 7)"
    progress = Progress()
    assert [row.label for row in progress.apply([event("command.issued", 1), event("call.done", 2)])] == ["done"]
    assert [row.label for row in progress.apply([failed("load")])] == ["failed"], (
        "its end may come on a page of its own"
    )


def test_a_step_that_led_on_has_not_failed_by_what_comes_after_it() -> None:
    progress = Progress()
    routes = [{"step": "load", "generation": 1, "arcs": ["load"]}]
    progress.apply([event("command.issued", 1), event("call.done", 2), failed("load", routes=routes)])
    assert statuses(progress) == [("load", "done")], "it is the next turn that could not begin"
    progress = Progress()
    progress.apply([event("command.issued", 1), event("call.done", 2), failed("next")])
    assert statuses(progress) == [("load", "done")]


def test_the_failed_items_of_each_run_of_a_loop_are_counted_and_shown() -> None:
    for limit, shown in ((20, 1), (None, 2)):
        progress = Progress(limit and 1)
        errors = {str(index): {"code": "x", "message": "m"} for index in (0, 1)}
        progress.apply([event("loop.opened", 0, count=5)])
        progress.apply([event("frame.committed", 2, start=0, end=5, ok=1, failed=4, errors=errors)])
        [found] = progress.failed_items()
        assert (found["step"], found["generation"], found["count"], found["failed"]) == ("load", 1, 5, 4)
        assert len(found["items"]) == shown
        assert found["unnamed"] == ([] if limit else [{"start": 0, "end": 5, "failed": 2}])


def text_of(progress: Progress, *, whole: bool = False) -> list[str]:
    console = Console(width=160, file=StringIO())
    console.print(progress.steps(whole=whole))
    assert isinstance(console.file, StringIO)
    return [line for line in console.file.getvalue().splitlines() if "load" in line]


def test_thousands_of_turns_are_a_few_lines_unless_all_are_wanted() -> None:
    progress = Progress()
    attempts = [{"attempt": 1, "task": "load", "error": {"code": "boom", "message": "it broke"}}]
    for turn in range(1, 3001):
        meta = {"duration_ms": 1000, "attempts": attempts} if turn == 7 else {"duration_ms": 1000}
        progress.apply([event("command.issued", 1, generation=turn), event("call.done", 2, generation=turn, meta=meta)])
    first, rest, last = text_of(progress)
    assert "load (run 3000)" in last and "run" not in first
    assert [part.strip() for part in rest.split("  ") if part.strip()] == [
        "⋮",
        "load (runs 2 to 2999)",
        "2998 done",
        "2998.00 s",
        "2998.00 s",
        "1",
    ]
    assert len(text_of(progress, whole=True)) == 3000


def test_a_step_that_could_not_begin_has_failed() -> None:
    progress = Progress()
    routes = [{"step": "load", "generation": 1, "arcs": ["next"]}]
    progress.apply([event("command.issued", 1), event("call.done", 2)])
    [row] = progress.apply([failed("next", routes=routes)])
    assert (line(row), statuses(progress)) == (
        "✗ next  0.00 s  template.error: there is no 'gone' (line 7)",
        [("load", "done"), ("next", "failed")],
    )
    progress = Progress()
    assert [row.label for row in progress.apply([failed("first")])] == ["failed"], "nor could the first step"


def test_the_time_limit_of_an_execution_is_no_step_and_that_of_a_step_delays_nothing() -> None:
    progress = Progress()
    limit: dict[str, Any] = {"timer": "deadline", "due": 5, "timeout": 5}
    progress.apply([event("timer.set", 1, generation=0, command_id=None, **limit)])
    progress.apply([event("command.issued", 1)])
    of_step: dict[str, Any] = {"timer": "load#1!deadline", "due": 5, "timeout": 5}
    progress.apply([event("timer.set", 1, command_id=None, **of_step)])
    assert [(row.title, row.label) for row in progress.rows.values()] == [("load", "running")]
    progress.apply([event("call.done", 2), event("timer.fired", 5, generation=0, command_id=None, timer="deadline")])
    assert [(row.title, row.label) for row in progress.rows.values()] == [("load", "done")]


def test_a_step_keeps_what_its_python_code_failed_with() -> None:
    py = {"exception": "ValueError", "traceback": "...", "line": 3}
    progress = Progress()
    progress.apply([event("command.issued", 1), event("call.error", 2, error={"message": "bad"}, extra={"py": py})])
    progress.apply([event("command.issued", 3, step="after"), event("call.done", 4, step="after", extra={"py": py})])
    assert progress.code_error({"step": "load"}) == py
    assert [progress.code_error(error) for error in ({"step": "after"}, {"step": "other"}, None)] == [None] * 3
