"""What a log does not say of a command: whether a worker has taken it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from noetl_serverless.cli.client import Client
from noetl_serverless.cli.commands.explain import (
    MAX_COMMANDS,
    MAX_LINES,
    _cause_lines,
    _items,
    _lease,
    _lease_text,
    _lines,
    _place,
    add_unavailable,
)
from noetl_serverless.cli.failure import Refused

RUN = {"step": "a", "generation": 1, "status": "running", "why": "it is in progress"}


def wait(row: dict[str, Any] | None, step: str = "a") -> dict[str, Any]:
    return {"for": "worker", "step": step, "generation": 1, "text": "command a#1 is out", **_lease(row)}


def row(status: str) -> dict[str, Any]:
    worker = "w-1" if status == "running" else None
    return {"status": status, "worker": worker, "deliveries": 1, "lease_until": None}


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (["queued"], "queued"),
        (["running"], "running"),
        (["queued", "running"], "running"),
        (["queued", "queued"], "queued"),
        ([], "running"),
    ],
)
def test_a_step_is_queued_until_a_worker_has_one_of_its_commands(rows: list[str], status: str) -> None:
    assert _place(RUN, [wait(row(name)) for name in rows])[0] == status


def test_the_commands_of_other_steps_do_not_count() -> None:
    assert _place({**RUN, "status": "delayed"}, [wait(row("running"), step="b")]) == ("delayed", "it is in progress")


def test_what_is_queued_and_what_runs_is_shown() -> None:
    assert "queued: no worker has it yet" in _lease_text(wait(row("queued")))
    assert "it runs at w-1" in _lease_text(wait(row("running")))
    assert _lease_text(wait(None)) == ""


def test_why_a_step_runs_names_the_worker_and_of_many_commands_a_few() -> None:
    assert _place(RUN, [wait(row("running"))])[1].startswith("command a#1 is out; it runs at w-1")
    why = _place(RUN, [wait(row("running"))] * (MAX_COMMANDS + 7))[1]
    assert (why.count("w-1"), why.endswith("; and 7 more")) == (MAX_COMMANDS, True)


def explained(**more: Any) -> list[str]:
    nothing: dict[str, Any] = {"error": None, "quarantined": None, "dropped": None, "retried": [], "warnings": []}
    nothing["kept_signals"] = []
    document = {"execution_id": "7", "status": "running", "waits": [], "steps": [], **nothing, **more}
    return [line.strip() for line, _ in _lines(document, "7", whole=False)]


def test_only_what_no_worker_has_waits_for_one() -> None:
    _, runs = explained(waits=[wait(row("running"))])
    assert runs.startswith("runs at a worker: a: command a#1 is out; it runs at w-1")
    _, waits = explained(waits=[wait(row("queued"))])
    assert waits == "waits for a worker: a: command a#1 is out; queued: no worker has it yet"


def test_what_a_limit_keeps_waiting_waits_for_the_limit() -> None:
    used = {"unit": "command", "kind": "concurrency", "key": "api", "limit": 1, "used": 1}
    _, waits = explained(waits=[wait({**row("queued"), "limits": [used]})])
    assert waits == (
        "waits for a limit: a: command a#1 is out; queued: concurrency of key api: 1 of 1 commands running"
    )
    _, free = explained(waits=[wait({**row("queued"), "limits": []})])
    assert free == "waits for a worker: a: command a#1 is out; queued: no worker has it yet"


def test_of_a_wide_loop_a_few_commands_of_each_kind_are_shown_and_the_rest_counted() -> None:
    out = [wait(row("running"))] * 2 + [wait(row("queued"))] * (MAX_COMMANDS + 1997) + [wait(row("queued"), "b")]
    lines = explained(waits=out)[1:]
    assert len(lines) == 2 + MAX_COMMANDS + 1 + 1, f"{len(lines)} lines"
    assert "waits for a worker: a: and 1,997 more like these; use --json to show them" in lines
    assert lines[-1].startswith("waits for a worker: b: command")


def test_a_period_in_quarantine_is_shown_of_an_execution_that_went_on() -> None:
    assert explained(retried=[{"since": 0, "until": 1500}])[1] == (
        "was in quarantine from 1970-01-01T00:00:00.000Z to 1970-01-01T00:00:01.500Z, then continued"
    )


def test_where_a_loop_is_shortened_it_says_what_shows_the_rest_of_its_items() -> None:
    item = {"index": 1, "error": {"code": "x", "message": "m"}, "attempts": 1}
    run = {"step": "each", "failed_items": {"count": 2000, "first": [item] * 20, "unnamed": []}}
    *_, last = _items("7", run, whole=False)
    assert last[0] == "  and 1997 more items failed; to see them, run: noetls explain 7 each"
    assert len(list(_items("7", run, whole=True))) == 20, "nothing is left to point to"


def test_a_loop_that_only_waits_stands_as_in_show() -> None:
    timer = {"for": "timer", "step": "a", "generation": 1, "text": "it continues when its delay ends", "due": 1500}
    child = {"for": "child", "step": "a", "generation": 1, "text": "its sub-playbook runs as execution 8"}
    looping = {**RUN, "status": "looping"}
    status, why = _place(looping, [child, *[timer] * (MAX_COMMANDS + 1)])
    assert (status, why.endswith("; and 2 more")) == ("delayed", True)
    assert "its delay ends at 1970-01-01T00:00:01.500Z" in why
    assert _place(looping, [child])[0] == "parked"
    assert _place(looping, [timer, wait(row("queued"))])[0] == "queued"


def test_what_a_pause_holds_back_is_paused() -> None:
    timer = {"for": "timer", "step": "a", "generation": 1, "text": "it continues when its delay ends", "due": 1500}
    del timer["due"]
    held = [{**timer, "status": "paused", "left_ms": 2500}, wait(row("paused"))]
    status, why = _place(RUN, held)
    assert (status, why) == (
        "paused",
        "it continues when its delay ends; paused with the execution, 2.500 s before its time; "
        "command a#1 is out; paused with the execution",
    )
    assert _place(RUN, [*held, wait(row("running"))])[0] == "running"
    since = {"since": 1500, "by": {"kind": "user", "name": "ada"}, "reason": "a look"}
    assert explained(paused=since)[0].endswith("running (paused)"), "as show says it"
    assert explained(paused=since)[1] == "paused since 1970-01-01T00:00:01.500Z by user ada because: a look"
    assert explained(paused={"since": 1500})[1] == "paused since 1970-01-01T00:00:01.500Z"


@pytest.mark.parametrize(("kind", "article"), [("approval", "an"), ("signal", "a")])
def test_a_wait_for_a_signal_or_an_approval_is_parked_until_its_time_limit(kind: str, article: str) -> None:
    held = {"for": kind, "step": "a", "generation": 1, "text": f"it waits for the {kind} 'x'", "signal": "x"}
    assert _place({**RUN, "status": "looping"}, [held])[0] == "parked"
    limited = {**held, "due": 1500}
    assert explained(waits=[limited])[1] == (
        f"waits for {article} {kind}: a: it waits for the {kind} 'x' until 1970-01-01T00:00:01.500Z"
    )


def test_what_limits_several_commands_is_said_once() -> None:
    limit = {"unit": "command", "kind": "concurrency", "key": "k", "limit": 1, "used": 1}
    held = [{**wait(row("queued")), "limits": [limit]}] * 3
    why = _place(RUN, held)[1]
    assert why.count("concurrency of key k") == 1 and why.count("queued: by the same") == 2, why
    assert sum("concurrency of key k" in line for line in explained(waits=held)) == 1


def test_what_a_step_has_printed_is_shown_and_of_much_the_first_lines() -> None:
    entry = {"seq": 3, "at": 0, "step": "a", "text": "a#1 ends well"}
    lines = [line.strip() for line, _ in _cause_lines([{**entry, "stdout": "one\ntwo\n"}])]
    assert lines[1:] == ["prints: one", "prints: two"]
    much = "".join(f"{number}\n" for number in range(MAX_LINES + 7))
    lines = [line.strip() for line, _ in _cause_lines([{**entry, "stdout": much}])]
    assert (len(lines), lines[-1]) == (1 + MAX_LINES + 1, "prints: and 7 more lines; use --json to show them")
    assert len(list(_cause_lines([entry]))) == 1


def test_the_traceback_of_code_is_shown_below_its_event() -> None:
    py = {"traceback": 'File "<code>", line 2, in main\nValueError: bad\n', "line": 2}
    chain: list[Any] = [{"seq": 3, "at": 0, "event": "call.error", "step": "a", "text": "a#1 fails", "code_error": py}]
    shown = [text.strip() for text, _ in _cause_lines(chain)]
    assert shown[1:] == ["in line 2 of the code:", "line 2, in main", "ValueError: bad"]


def test_signals_that_no_wait_has_taken_are_shown_with_what_may_be_wrong_with_them() -> None:
    kept = [
        {"signal": "piad", "count": 2, "advice": "no step waits for it"},
        {"signal": "x", "count": 1, "advice": None},
    ]
    assert explained(kept_signals=kept)[1:] == [
        "keeps signals that no wait has taken: 'piad' 2 times, 'x'",
        "no step waits for it",
    ]


class Results:
    """Answers for a result as the API does."""

    def __init__(self, problem: dict[str, Any] | None) -> None:
        self._problem = problem
        self.asked: list[str] = []

    def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        if self._problem is not None:
            raise Refused(404, self._problem)
        return {}


def stored_run(generation: int = 1) -> dict[str, Any]:
    ref = {"kind": "result_ref", "ref": "noetl://execution/7/result/make/x", "meta": {"bytes": 70_000}}
    return {"step": "make", "generation": generation, "status": "ok", "why": "it completed", "chain": [], "stored": ref}


def whole(run: dict[str, Any]) -> str:
    document = {"execution_id": "7", "status": "completed", "error": None, "quarantined": None, "dropped": None}
    lists: dict[str, Any] = {"retried": [], "warnings": [], "kept_signals": [], "waits": [], "steps": [run]}
    return "\n".join(line for line, _ in _lines({**document, **lists}, "7", whole=True))


def test_of_a_result_that_is_gone_it_does_not_say_how_to_read_it() -> None:
    problem = {"code": "REFERENCE_NOT_AVAILABLE", "detail": "it does not exist any more: it has expired"}
    results, earlier, run = Results(problem), stored_run(), stored_run(2)
    add_unavailable(cast(Client, results), "7", [earlier, run, {"step": "b"}])
    assert results.asked == ["/api/result/7/make"], "only of the last run of each step it can be asked"
    assert "its result cannot be read: it does not exist any more: it has expired" in whole(run)
    assert "noetls result get" not in whole(run)


@pytest.mark.parametrize("problem", [None, {"code": "auth.forbidden", "detail": "no"}])
def test_of_any_other_result_it_says_how_to_read_it(problem: dict[str, Any] | None) -> None:
    run = stored_run()
    add_unavailable(cast(Client, Results(problem)), "7", [run])
    assert "noetls result get noetl://execution/7/result/make/x" in whole(run)
