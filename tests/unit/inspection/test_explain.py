"""Why: each answer names the events behind it, the condition that decided and what it saw."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, CHILD, WORKFLOWS, answers, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.canonical import canonical
from noetl_serverless.inspection.explain import explain
from noetl_serverless.inspection.failed_items import MAX_ITEMS


def of(run: Any, step: str | None = None) -> dict[str, Any]:
    found = explain("7", run.log, run.plan, None, step)
    canonical(found)
    return found


def step_of(run: Any, step: str) -> dict[str, Any]:
    (found,) = of(run, step)["steps"]
    return found  # type: ignore[no-any-return]


def conditions(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [condition for entry in found["chain"] for condition in entry.get("asked", ())]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_step_of_every_log_has_a_reason_at_any_time(name: str) -> None:
    run = play(Run(WORKFLOWS[name]), 3)
    whole = run.log
    for length in range(1, len(whole) + 1):
        found = explain("7", whole[:length], run.plan)
        assert {entry["step"] for entry in found["steps"]} == set(run.plan.steps)
        assert all(entry["why"] for entry in found["steps"])
        if found["status"] == "running" and whole[length - 1].cause is not None:
            assert found["waits"] or length < len(whole)
        for entry in found["steps"]:
            seqs = [item["seq"] for item in entry["chain"]]
            assert seqs == sorted(seqs)


def test_a_step_that_ran_names_the_condition_that_led_to_it() -> None:
    found = step_of(play(Run(CHAIN), 1), "c")
    assert found["status"] == "ok"
    (condition,) = conditions(found)
    assert condition["when"] == "{{ ctx.x > 0 }}"
    assert (condition["holds"], condition["values"], condition["target"]) == (True, {"ctx.x": 1}, "c")
    assert condition["line"] == 7


def test_a_step_that_was_skipped_names_the_condition_that_did_not_hold() -> None:
    found = step_of(play(Run(CHAIN.replace("ctx.x > 0", "ctx.x > 5")), 1), "c")
    assert found["status"] == "skipped"
    (condition,) = conditions(found)
    assert (condition["holds"], condition["values"]) == (False, {"ctx.x": 1})
    assert "its condition is not met" in found["chain"][0]["text"]


def test_a_step_behind_the_arc_that_was_taken_was_not_asked() -> None:
    found = step_of(play(Run(CHAIN), 1), "d")
    assert found["status"] == "skipped"
    assert (
        "the arc to d is not taken: b#1 leads to c, and only the first matching arc is taken"
        in found["chain"][0]["text"]
    )
    assert (found["chain"][0]["event"], found["chain"][0]["step"]) == (e.CALL_DONE, "b"), "told where b ended"
    assert found["chain"][-1]["text"] == "is skipped: not taken"


def test_a_step_that_was_not_admitted_names_the_rule() -> None:
    found = step_of(play(Run(WORKFLOWS["admission"]), 1), "b")
    assert (found["status"], found["why"]) == ("skipped", "its admission rules rejected it")
    condition = conditions(found)[0]
    assert (condition["about"], condition["values"]) == ("admission", {"a.v": 1})


def test_a_failed_step_says_how_and_after_how_many_attempts() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    error = {"kind": "http", "code": "http.status", "message": "503", "at": 12}
    run.report("a#1", "call.error", error=error, meta={"attempt": 4, "duration_ms": 1500, "worker": "w-3"})
    found = step_of(run, "a")
    assert found["status"] == "failed"
    assert found["why"] == "http.status: 503 (line 12), after 4 attempts"
    text = "fails: http.status: 503 (line 12) (ran for 1.500 s, at attempt 4, on worker w-3)"
    assert text in found["chain"][-2]["text"]


def test_an_arc_that_does_not_ask_about_failures_is_named() -> None:
    run = Run(CHAIN)
    run.error("a")
    found = step_of(run, "b")
    assert found["status"] == "not reached"
    assert (
        "the arc to b is not taken: a#1 ended with call.error, and this arc does not handle that event"
        in found["chain"][0]["text"]
    )


def test_a_condition_that_cannot_be_evaluated_says_what_is_missing() -> None:
    run = play(Run(CHAIN.replace("ctx.x > 0", "ctx.gone > 0")), 1)
    condition = conditions(step_of(run, "b"))[-1]
    assert "holds" not in condition
    assert "no 'gone'" in condition["error"] and "no 'gone'" in condition["values"]["ctx.gone"]


def test_a_deferred_step_waits_for_its_timer() -> None:
    run = Run(CHAIN)
    run.report("a#1", "call.deferred", delay=60, resume={"task": "a", "attempt": 2})
    (wait,) = of(run)["waits"]
    assert (wait["for"], wait["step"]) == ("timer", "a")
    assert wait["due"] - wait["since"] == 60_000
    found = step_of(run, "a")
    assert found["status"] == "delayed"
    assert "continues in 60 s, with attempt 2" in found["chain"][-1]["text"]


def test_a_join_waits_for_what_can_still_reach_it() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split")
    run.done("left")
    found = step_of(run, "join")
    assert found["status"] == "waiting"
    assert found["why"] == "it waits at its join for right, which can still reach it"
    waits = {wait["for"]: wait for wait in of(run)["waits"]}
    assert waits.keys() == {"join", "worker"}
    assert waits["join"] == {"for": "join", "step": "join", "text": "its join waits for right", "steps": ["right"]}
    order = run.issued("right")[0]
    assert waits["worker"] == {
        "for": "worker",
        "step": "right",
        "generation": 1,
        "text": f"command right#1 was queued at event {order.seq}",
        "since": order.at,
        "command_id": "right#1",
    }
    assert of(run, "left")["waits"] == []
    assert [wait["step"] for wait in of(run, "right")["waits"]] == ["right"]


def test_a_parent_waits_for_its_child() -> None:
    run = Run(WORKFLOWS["parent"])
    run.report("call#1", "call.parked", child=CHILD)
    (wait,) = of(run)["waits"]
    assert (wait["for"], wait["child"]) == ("child", next(iter(run.state.children)))
    assert any("starts t/child version 1" in entry["text"] for entry in step_of(run, "call")["chain"])


HOLD = """
    - step: hold
      loop: {in: [1, 2], iterator: n, spec: {mode: parallel}}
      tool: {kind: wait, approval: "a_{{ iter.n }}"}
    """


@pytest.mark.parametrize(
    ("wait", "status"),
    [
        ({"signal": "paid"}, "parked"),
        ({"signal": "paid", "timeout": 60}, "parked"),
        ({"signal": "paid", "approval": True, "timeout": 60}, "parked"),
        ({"delay": 60}, "delayed"),
    ],
)
def test_a_step_that_waits_is_parked_or_until_a_time_delayed(wait: dict[str, Any], status: str) -> None:
    run = Run(CHAIN)
    run.report("a#1", "call.parked", wait=wait, resume=None)
    assert step_of(run, "a")["status"] == status
    loop = Run(HOLD)
    for command in list(loop.state.commands):
        loop.report(command, "call.parked", wait=wait, resume=None)
    assert step_of(loop, "hold")["status"] == status
    run.fact(e.PAUSED)
    assert step_of(run, "a")["status"] == ("parked" if status == "parked" else "paused")


def test_a_pause_says_since_when_why_and_by_whom() -> None:
    run = Run(CHAIN)
    assert of(run)["paused"] is None
    by = {"kind": "user", "name": "ada"}
    run.fact(e.PAUSED, payload={"reason": "a look", "by": by})
    assert of(run)["paused"] == {"since": run.now, "reason": "a look", "by": by}
    run.fact(e.PAUSED, payload={e.IGNORED: "it is paused already"})
    assert of(run)["paused"]["reason"] == "a look"
    run.fact(e.RESUMED)
    assert of(run)["paused"] is None
    run.fact(e.PAUSED)
    assert of(run)["paused"] == {"since": run.now}
    run.fact(e.CANCELLED, payload={"error": {"code": "x"}})
    assert of(run)["paused"] is None


@pytest.mark.parametrize("wait", [{"delay": 60}, {"signal": "paid", "timeout": 60}])
def test_the_time_of_a_wait_stands_still_in_a_pause_and_is_due_later_after_it(wait: dict[str, Any]) -> None:
    run = Run(CHAIN)
    (_, timer) = run.report("a#1", "call.parked", wait=wait, resume=None)
    name, due = timer.payload["timer"], timer.payload["due"]
    assert of(run)["waits"][0]["due"] == due
    run.fact(e.PAUSED, payload={"timers": {name: due}, "reason": "a look"})
    (held,) = of(run)["waits"]
    assert (held["left_ms"], "due" in held) == (due - run.now, False)
    run.fact(e.RESUMED, payload={"timers": {name: due + 9000}})
    assert of(run)["waits"][0]["due"] == due + 9000
    texts = [entry["text"] for entry in step_of(run, "a")["chain"]]
    assert texts[-2:] == ["the execution is paused because: a look", "the execution goes on"]
    assert "goes on" not in str(step_of(run, "b")["chain"]), "it was not under way"


def test_a_wait_until_an_instant_keeps_it_in_a_pause() -> None:
    run = Run(CHAIN)
    run.report("a#1", "call.parked", wait={"due": 1_900_000_000_000}, resume=None)
    run.fact(e.PAUSED)
    assert of(run)["waits"][0]["due"] == 1_900_000_000_000


def test_a_step_comes_with_its_compensation() -> None:
    run = Run("""
        - {step: book, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: pay}]}}
        - {step: pay, tool: {kind: noop}}
        """)
    run.done("book")
    assert [entry["step"] for entry in of(run, "book")["steps"]] == ["book"]
    run.error("pay")
    found = of(run, "book")
    assert [(entry["step"], entry["status"]) for entry in found["steps"]] == [
        ("book", "ok"),
        ("book.compensate", "running"),
    ]
    assert [wait["step"] for wait in found["waits"]] == ["book.compensate"]


def test_what_has_stopped_while_something_is_undone_says_so() -> None:
    run = Run("""
        - step: book
          tool: {kind: noop}
          compensate: {tool: {kind: noop}}
          next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}, {step: long}]}
        - {step: left, tool: {kind: noop}, next: {arcs: [{step: both}]}}
        - {step: right, tool: {kind: noop}, next: {arcs: [{step: both}]}}
        - {step: long, tool: {kind: noop}}
        - {step: both, tool: {kind: noop}}
        """)
    run.done("book")
    run.done("left")
    run.error("right")
    assert run.state.status == "running"
    stopped = {name: step_of(run, name) for name in ("long", "both")}
    assert {name: (entry["status"], entry["why"]) for name, entry in stopped.items()} == {
        "long": ("stopped", "the execution is to fail, and undoes what it has done"),
        "both": ("stopped", "it was waiting at its join when the execution began to undo what it has done"),
    }


def test_a_step_that_may_still_be_reached_says_from_where() -> None:
    found = step_of(Run(CHAIN), "c")
    assert (found["status"], found["why"]) == ("not reached yet", "it may still be reached from a")


def test_a_step_of_a_branch_that_the_end_cut_off_was_stopped() -> None:
    run = Run(WORKFLOWS["failing"])
    run.done("split")
    run.error("bad")
    assert step_of(run, "slow")["status"] == "stopped"


def test_each_run_of_a_step_has_its_own_reasons() -> None:
    found = of(play(Run(WORKFLOWS["again"]), 1), "poll")["steps"]
    assert [entry["generation"] for entry in found] == [1, 2, 3]
    assert [conditions(entry)[-1]["values"] for entry in found] == [{"ctx.n": 1}, {"ctx.n": 2}, {"ctx.n": 3}]


def test_a_loop_s_failed_items_are_shown() -> None:
    def failing(step: str, generation: int, index: int | None) -> Any:
        broken = {"error": {"kind": "tool", "code": "bad", "message": "no"}}
        return broken if (step, index) == ("one", 3) else answers(step, generation, index)

    found = step_of(play(Run(WORKFLOWS["two loops"]), 1, failing, 0.0), "one")
    assert found["status"] == "failed"
    assert any(entry["text"].endswith(("fails: bad: no", "fail; the first: bad: no")) for entry in found["chain"])


def test_a_step_that_there_is_not_is_refused() -> None:
    with pytest.raises(KeyError):
        of(Run(CHAIN), "nowhere")


QUARANTINED = {"type": e.CALL_DONE, "step": "a", "generation": 1, "command": "a#1", "at": 5, "payload": {"n": "big"}}
UNDECIDED = {"kind": "engine", "code": e.UNDECIDABLE, "message": "no idea", "place": "engine/decide.py:1 in finish"}


def set_apart(run: Any) -> None:
    run.fact(e.FAILED, payload={"error": UNDECIDED, e.QUARANTINED: QUARANTINED})


def test_what_is_in_quarantine_says_what_could_not_be_decided_and_waits_for_nobody() -> None:
    run = Run(CHAIN)
    set_apart(run)
    found = of(run)
    assert (found["status"], found["error"]) == ("failed", UNDECIDED)
    assert found["quarantined"] == {name: value for name, value in QUARANTINED.items() if name != "payload"}
    assert found["waits"] == [], "its commands are out no more, though they are kept for a retry"


def test_what_was_under_way_stands_still_in_quarantine() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split")
    run.done("left")
    set_apart(run)
    steps = {step["step"]: step for step in of(run)["steps"]}
    assert (steps["right"]["status"], steps["right"]["why"]) == (
        "stopped",
        "the execution is in quarantine: it continues from here after a retry",
    )
    assert (steps["join"]["status"], steps["more"]["status"]) == ("stopped", "not reached yet")
    assert "it was waiting at its join for right" in steps["join"]["why"]
    assert steps["more"]["why"] == "it may still be reached from right, after a retry"
    assert "the execution goes into quarantine" in steps["right"]["chain"][-1]["text"]
    assert not any("quarantine" in entry["text"] for entry in steps["left"]["chain"]), "it had ended before"


def test_what_was_under_way_in_quarantine_was_stopped_once_it_is_dropped() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split")
    run.done("left")
    set_apart(run)
    run.fact(e.DROPPED, payload={"seq": len(run.log), "by": None})
    steps = {step["step"]: step for step in of(run)["steps"]}
    assert (steps["right"]["status"], steps["right"]["why"]) == (
        "stopped",
        "the execution ended (failed) before it did",
    )
    assert (steps["join"]["status"], steps["join"]["why"]) == (
        "stopped",
        "it was waiting at its join when the execution ended (failed)",
    )
    assert [entry["text"] for entry in steps["join"]["chain"]] == ["left#1 leads to join"]
    assert steps["more"]["why"] == "no step has led to it, and the execution has failed"


def test_what_was_kept_in_quarantine_is_shown_when_it_took_effect() -> None:
    run = Run(CHAIN)
    set_apart(run)
    came = run.now
    run.now += 60_000
    run.fact(e.RETRIED, payload={"seq": len(run.log)})
    out = run.now
    run.now = came
    run.done("a", {"v": 1}, meta={"started_at": "2027-01-15T07:59:00Z"})
    run.now = out
    assert of(run)["retried"] == [{"since": came, "until": out}]
    [wait] = of(run)["waits"]
    assert wait["since"] == out
    chain = step_of(run, "a")["chain"]
    times = [entry["at"] for entry in chain]
    assert times == sorted(times), "it runs backwards"
    assert [entry.get("kept_since") for entry in chain if entry["event"] == e.CALL_DONE] == [came + 1, None]
    assert [entry["text"] for entry in chain if entry["step"] is None][1:] == [
        "the engine cannot decide how to continue; the execution goes into quarantine",
        "the execution leaves quarantine and continues; open commands are queued again",
    ]


def test_the_time_in_quarantine_is_none_in_which_a_command_was_queued() -> None:
    run = Run(CHAIN)
    set_apart(run)
    run.now += 60_000
    run.fact(e.RETRIED, payload={"seq": len(run.log)})
    [wait] = of(run)["waits"]
    assert (wait["since"], wait["text"]) == (run.now, "command a#1 was queued at event 2 and again at event 4")
    started = datetime.fromtimestamp((run.now + 30) / 1000, UTC).isoformat()
    run.done("a", {"v": 1}, meta={"started_at": started, "duration_ms": 1})
    [queued] = [entry for entry in step_of(run, "a")["chain"] if "queued_ms" in entry]
    assert queued["queued_ms"] == 30


def test_what_left_quarantine_is_explained_to_its_end() -> None:
    run = Run(CHAIN)
    set_apart(run)
    run.fact(e.RETRIED, payload={"seq": len(run.log)})
    assert (of(run)["status"], of(run)["quarantined"]) == ("running", None)
    run.done("a", {"v": 1})
    run.done("b")
    run.done("c")
    found = of(run)
    assert (found["status"], found["error"]) == ("completed", None)
    assert [entry["status"] for entry in found["steps"]] == ["ok", "ok", "ok", "skipped"]


def test_the_failed_items_of_a_best_effort_loop_are_named() -> None:
    run = Run(WORKFLOWS["best effort"])
    frames = 0
    while run.state.status == "running":
        command = next(iter(run.state.commands))
        order = run.state.commands[command]
        if order.frame is None:
            run.report(command, data=1)
            continue
        _, first, end, _ = order.frame
        errors = {str(first): {"code": "boom", "message": "it broke", "attempts": 2}} if frames == 0 else {}
        run.frame(command, [None] * (end - first), failed=len(errors), errors=errors)
        frames += 1
    [loop] = [step for step in of(run)["steps"] if "failed_items" in step]
    assert loop["failed_items"]["count"] == 1, loop
    [item] = loop["failed_items"]["first"]
    assert (item["index"], item["error"]["code"], item["attempts"]) == (0, "boom", 2)


def test_what_was_dropped_says_when_and_by_whom_and_is_no_longer_in_quarantine() -> None:
    run = Run(CHAIN)
    set_apart(run)
    assert of(run)["dropped"] is None
    run.fact(e.DROPPED, payload={"seq": len(run.log), "by": {"kind": "user", "name": "ada"}})
    found = of(run)
    assert (found["status"], found["quarantined"], found["error"]) == ("failed", None, UNDECIDED)
    assert found["dropped"] == {"at": run.now, "by": {"kind": "user", "name": "ada"}}


def test_a_cancelled_one_is_no_longer_in_quarantine() -> None:
    run = Run(CHAIN)
    set_apart(run)
    run.fact(e.CANCELLED, payload={"error": {"kind": "engine", "code": "cancelled", "message": "enough"}})
    found = of(run)
    assert (found["status"], found["quarantined"], found["error"]["code"]) == ("cancelled", None, "cancelled")


def test_an_end_that_no_arc_fitted_warns() -> None:
    run = Run(
        "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: '{{ false }}'}]}}\n"
        "- {step: b, tool: {kind: noop}}\n"
    )
    run.done("a")
    assert [(warning["code"], warning["step"]) for warning in of(run)["warnings"]] == [("routing.no_match", "a")]


ATTEMPT = {"attempt": 1, "task": "a", "error": {"code": "http.status", "message": "503"}, "worker": "w-3"}


def test_the_attempts_of_a_step_stand_beside_its_end() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    meta = {"attempt": 2, "duration_ms": 1500, "attempts": [ATTEMPT], "attempts_dropped": 3}
    run.report("a#1", "call.done", data=1, meta=meta)
    [end] = [entry for entry in step_of(run, "a")["chain"] if "attempts" in entry]
    assert (end["event"], end["attempts"], end["attempts_dropped"], end["lost"]) == ("call.done", [ATTEMPT], 3, [])
    assert end["run_ms"] == 1500


def test_the_attempts_of_loop_items_stand_beside_their_frame_however_many_there_are() -> None:
    run = play(Run(WORKFLOWS["loop"]), 1)
    frames = [event for event in run.log if event.type == e.FRAME_COMMITTED]
    assert len(frames) > 5, "they are not told one by one"
    frames[0].payload["meta"]["attempts"] = [{**ATTEMPT, "index": 0}]
    found = step_of(run, "each")
    with_attempts = [entry for entry in found["chain"] if "attempts" in entry]
    assert [(entry["seq"], entry["attempts"][0]["index"]) for entry in with_attempts] == [(frames[0].seq, 0)]
    assert found["why"] == "it completed; failed attempts of its items: 1"


def test_what_comes_after_the_end_is_not_explained() -> None:
    run = play(Run(CHAIN), 1)
    before = of(run)
    run.fact(e.CANCELLED, payload={"error": {"kind": "engine", "code": "cancelled", "message": "late"}})
    after = of(run)
    assert (after["status"], after["error"], after["steps"]) == ("completed", None, before["steps"])


def test_while_it_runs_there_are_no_warnings() -> None:
    found = of(Run(CHAIN))
    assert (found["status"], found["error"], found["warnings"]) == ("running", None, [])


def texts(found: dict[str, Any]) -> list[str]:
    return [entry["text"] for entry in found["chain"]]


def test_the_first_attempt_is_not_worth_a_word() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1}, meta={"attempt": 1, "duration_ms": 1500, "worker": "w-3"})
    found = step_of(run, "a")
    assert found["why"] == "it completed"
    assert "a#1 succeeds (ran for 1.500 s, on worker w-3)" in texts(found)


@pytest.mark.parametrize(("waited", "shown"), [(0.04, False), (4994.0, True)])
def test_the_time_a_worker_only_waited_is_shown_if_there_is_any(waited: float, shown: bool) -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", "call.done", data=1, meta={"attempt": 1, "duration_ms": 2, "waited_ms": waited})
    assert ("a#1 succeeds (ran for 0.002 s, waited for 4.994 s in between)" in texts(step_of(run, "a"))) == shown
    assert ("a#1 succeeds (ran for 0.002 s)" in texts(step_of(run, "a"))) != shown


def test_what_a_step_has_printed_stands_beside_its_end() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", "call.error", error={"code": "x", "message": "m"}, meta={"stdout": "found 3 rows\n"})
    [printed] = [entry["stdout"] for entry in step_of(run, "a")["chain"] if "stdout" in entry]
    assert printed == "found 3 rows\n"


def test_a_report_without_a_word_about_itself() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1})
    assert texts(step_of(run, "a"))[:3] == ["the playbook starts here", "a#1 is queued", "a#1 succeeds"]


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        (None, "a#1 continues in 1.5 s"),
        ({"attempt": 1}, "a#1 continues in 1.5 s"),
        ({"attempt": 2}, "a#1 continues in 1.5 s, with attempt 2"),
    ],
)
def test_a_delay_and_what_comes_of_it(resume: Any, expected: str) -> None:
    run = Run(CHAIN)
    run.report("a#1", e.CALL_DEFERRED, delay=1.5, **({"resume": resume} if resume else {}))
    (timer,) = run.state.timers
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": timer})
    assert texts(step_of(run, "a"))[2:] == [
        expected,
        "the delay has expired",
        "a#1@2 is queued again, after its timer",
    ]


@pytest.mark.parametrize(
    ("ending", "expected", "status"),
    [
        ({"status": "ok"}, "ended with status ok", "ok"),
        ({"status": "error", "error": {"code": "down", "message": "x", "line": 3}}, "down: x (line 3)", "failed"),
    ],
)
def test_a_sub_playbook_and_its_end(ending: dict[str, Any], expected: str, status: str) -> None:
    run = Run(WORKFLOWS["parent"])
    run.report("call#1", e.CALL_PARKED, child=CHILD)
    (child,) = run.state.children
    payload = {"execution_id": child, "resumes": False, **ending}
    run.fact(e.CHILD_ENDED, step="call", generation=1, payload=payload)
    found = step_of(run, "call")
    assert found["status"] == status
    (line,) = [text for text in texts(found) if text.startswith(f"execution {child}")]
    assert line.endswith(expected)


def test_a_few_frames_are_explained_one_by_one_and_many_as_one() -> None:
    def lines(width: int) -> list[str]:
        flow = WORKFLOWS["two loops"].replace("range(9)", f"range({width})")
        run = Run(flow.replace("max_in_flight: 3", "max_in_flight: 50"))
        run.done("split")
        for command in [name for name in run.state.commands if name.startswith("one")]:
            run.frame(command, [1])
        found = texts(step_of(run, "one"))
        assert f"opens a loop of {width} items, 50 at a time" in found
        assert "the loop ends with status ok" in found
        return [text for text in found if text.endswith(("succeed", "succeeds"))]

    assert lines(5) == [f"item {n} succeeds" for n in range(5)]
    assert lines(6) == ["6 items succeed"]


def test_a_sequential_loop_and_an_item_of_it_that_fails() -> None:
    run = Run(WORKFLOWS["two loops"])
    run.done("split")
    run.frame("two#1.0", [None], failed=1, error={"code": "bad", "message": "no", "index": 0})
    found = texts(step_of(run, "two"))
    assert "opens a loop of 5 items, one at a time" in found
    assert "item 0 fails: bad: no" in found
    assert found.count("the loop ends with status error: loop.item_failed: 1 of 5 items failed; the first: no") == 1
    assert not [text for text in found if text.startswith("two#1.0")], "that a frame is queued is not told"


def test_a_worker_that_is_to_render_a_collection() -> None:
    run = Run(
        "- {step: load, tool: {kind: noop}, next: {arcs: [{step: each}]}}\n"
        '- {step: each, loop: {in: "{{ load.rows }}", iterator: row}, tool: {kind: noop}}\n'
    )
    run.report("load#1", ref={"kind": "result_ref", "ref": "noetl://execution/7/result/load/0", "extracted": {}})
    assert "each#1.open is queued to render its collection" in texts(step_of(run, "each"))


def test_a_loop_that_a_worker_opened_was_stopped_by_a_cancel() -> None:
    run = Run(
        "- {step: load, tool: {kind: noop}, next: {arcs: [{step: each}]}}\n"
        '- {step: each, loop: {in: "{{ load.rows }}", iterator: row}, tool: {kind: noop}}\n'
    )
    run.report("load#1", ref={"kind": "result_ref", "ref": "noetl://execution/7/result/load/0", "extracted": {}})
    run.report("each#1.open", data=[1, 2, 3], count=3)
    run.fact(e.CANCELLED, payload={"error": {"kind": "engine", "code": "cancelled", "message": "enough"}})
    found = step_of(run, "each")
    assert "opens a loop of 3 items, one at a time" in texts(found)
    assert found["status"] == "stopped", f"{found['why']}: what opened the loop is not its end"


def test_a_step_that_goes_on_after_its_sub_playbook_was_stopped_by_a_cancel() -> None:
    run = Run(WORKFLOWS["parent"])
    run.report("call#1", e.CALL_PARKED, child=CHILD, resume={"task": "call"})
    (child,) = run.state.children
    payload = {"execution_id": child, "resumes": True, "status": "ok", "data": 1}
    run.fact(e.CHILD_ENDED, step="call", generation=1, payload=payload)
    assert run.state.commands, "the command is given to a worker again"
    run.fact(e.CANCELLED, payload={"error": {"kind": "engine", "code": "cancelled", "message": "enough"}})
    assert step_of(run, "call")["status"] == "stopped", "the end of its sub-playbook is not its end"


def test_a_failure_without_an_error_has_no_reason() -> None:
    run = Run(WORKFLOWS["recovery"])
    run.report("a#1", e.CALL_ERROR)
    assert "a#1 fails: no reason given" in texts(step_of(run, "a"))


def test_a_step_that_was_admitted_says_when_it_was_asked_and_by_which_rule() -> None:
    flow = WORKFLOWS["admission"].replace("a.v > 100", "a.v > 0")
    run = Run(flow)
    run.done("a", {"v": 1})
    run.done("b")
    found = step_of(run, "b")
    (entry,) = [entry for entry in found["chain"] if entry["text"] == "evaluates its admission rules"]
    assert (entry["seq"], entry["event"], entry["step"]) == (3, e.CALL_DONE, "b")
    (condition,) = entry["asked"]
    assert (condition["about"], condition["index"], condition["holds"], condition["values"]) == (
        "admission",
        0,
        True,
        {"a.v": 1},
    )
    assert found["chain"][-1]["text"] == "b#1 leads to no other step"


def test_a_step_behind_an_end_that_failed_the_execution_says_so() -> None:
    flow = """
        - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b, when: "{{ false }}"}, ARC]}}
        - {step: b, tool: {kind: noop}}
        - {step: c, tool: {kind: noop}}
        """
    run = Run(flow.replace("ARC", "{step: c}"), "executor: {spec: {no_next_is_error: true}}\n")
    run.done("a")
    assert step_of(run, "b")["chain"][0]["text"] == "a#1 does not lead to b: its condition is not met"
    run = Run(flow.replace("ARC", '{step: c, when: "{{ false }}"}'), "executor: {spec: {no_next_is_error: true}}\n")
    run.done("a")
    found = step_of(run, "c")
    assert found["why"].startswith("no step has led to it, and the execution has failed")
    assert step_of(run, "a")["status"] == "ok"


def test_of_one_loop_all_the_failed_items_are_shown_that_the_log_names() -> None:
    run = Run(WORKFLOWS["best effort"].replace("range(12)", "range(400)"))
    broken = {"code": "boom", "message": "it broke"}
    while "each" in run.running:
        command = next(iter(run.state.commands))
        _, first, end, _ = run.window(command)
        errors = {str(index): broken for index in range(first, min(end, first + 2))}
        run.frame(command, [None] * (end - first), failed=end - first, errors=errors)
    short, whole = (
        next(found for found in of(run, step)["steps"] if found["step"] == "each")["failed_items"]
        for step in (None, "each")
    )
    assert (short["count"], len(short["first"]), short["unnamed"]) == (400, MAX_ITEMS, [])
    assert len(whole["first"]) > MAX_ITEMS
    assert len(whole["first"]) + sum(frame["failed"] for frame in whole["unnamed"]) == 400


def test_a_step_that_could_not_begin_says_why_and_what_led_to_it() -> None:
    run = Run(WORKFLOWS["admission"].replace("a.v > 100", "ctx.gone > 100"))
    run.done("a", {"v": 1})
    found = step_of(run, "b")
    assert found["status"] == "failed"
    assert found["why"].startswith("it could not start: template.error: there is no 'gone'")
    assert [entry["text"] for entry in found["chain"]] == ["a#1 leads to b"]
    assert step_of(run, "c")["status"] == "not reached"


def test_a_step_whose_code_failed_names_the_line_of_the_code() -> None:
    run = Run(CHAIN)
    error = {"kind": "python", "code": "python.exception", "message": "ValueError: bad", "retryable": False}
    py = {"exception": "ValueError", "traceback": "trace", "line": 3}
    run.report(run.open("a"), e.CALL_ERROR, error=error, extra={"py": py})
    found = step_of(run, "a")
    assert found["why"].startswith("python.exception: ValueError: bad, in line 3 of the code")
    failed = next(entry for entry in found["chain"] if entry["event"] == e.CALL_ERROR)
    assert failed["code_error"] == py


def test_a_wait_names_the_urls_that_answer_it_and_its_end_who_sent_the_signal() -> None:
    head = """\
        keychain:
          - {name: boss, kind: callback, approval: manager}
          - {name: deputy, kind: callback, approval: manager}
          - {name: other, kind: callback, signal: paid}
        """
    run = Run("- {step: ask, tool: {kind: wait, approval: manager}}\n- {step: z, tool: {kind: noop}}", head)
    run.report(run.open("ask"), e.CALL_PARKED, wait={"signal": "manager", "approval": True})
    (wait,) = of(run)["waits"]
    assert (wait["for"], wait["callbacks"]) == ("approval", ["boss", "deputy"])
    assert wait["text"].endswith("'manager', which the URL of keychain.boss or keychain.deputy answers")
    by = {"kind": "callback", "name": "deputy", "id": "abc"}
    run.fact(e.SIGNAL_RECEIVED, payload={"signal": "manager", "data": {"approved": True}, "id": "x", "by": by})
    assert step_of(run, "ask")["chain"][-2]["text"] == (
        "the signal 'manager' has come; sent by somebody with the URL of keychain.deputy"
    )


def test_signals_of_one_name_end_waits_in_their_order() -> None:
    run = Run(
        """\
        - {step: a, tool: {kind: wait, signal: go}, next: {arcs: [{step: b}]}}
        - {step: b, tool: {kind: wait, signal: go}}
        """
    )
    for name in ("ann", "bob"):
        run.fact(e.SIGNAL_RECEIVED, payload={"signal": "go", "by": {"kind": "user", "name": name}})
    for step in ("a", "b"):
        run.report(run.open(step), e.CALL_PARKED, wait={"signal": "go"})
    assert [step_of(run, step)["chain"][-2]["text"] for step in ("a", "b")] == [
        "the signal 'go' has come; sent by user ann",
        "the signal 'go' has come; sent by user bob",
    ]


def test_signals_that_no_wait_has_taken_are_listed_with_a_name_that_was_meant() -> None:
    run = Run("- {step: a, tool: {kind: wait, signal: paid}}")
    assert of(run)["kept_signals"] == []
    for name in ("piad", "paid", "piad"):
        run.fact(e.SIGNAL_RECEIVED, payload={"signal": name})
    advice = "no step of the playbook waits for 'piad'; did you mean 'paid'?"
    assert of(run)["kept_signals"] == [
        {"signal": "piad", "count": 2, "advice": advice},
        {"signal": "paid", "count": 1, "advice": None},
    ]


def test_what_was_sent_to_an_approval_and_is_no_decision_is_listed_as_that() -> None:
    run = Run("- {step: a, tool: {kind: wait, approval: boss}}")
    run.report("a#1", e.CALL_PARKED, wait={"signal": "boss", "approval": True})
    run.fact(e.SIGNAL_RECEIVED, payload={"signal": "boss", "data": "yes"})
    advice = "no decision: the approval 'boss' takes only {approved: true} or {approved: false}"
    assert of(run)["kept_signals"] == [{"signal": "boss", "count": 1, "advice": advice}]


def test_a_step_ends_before_it_leads_anywhere() -> None:
    run = Run("- {step: a, tool: {kind: wait, signal: go}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}")
    run.report("a#1", e.CALL_PARKED, wait={"signal": "go"})
    run.fact(e.SIGNAL_RECEIVED, payload={"signal": "go"})
    assert [entry["text"] for entry in step_of(run, "a")["chain"]][-2:] == [
        "the signal 'go' has come",
        "a#1 leads to b",
    ]
    assert [entry["text"] for entry in step_of(run, "b")["chain"]] == ["a#1 leads to b", "b#1 is queued"]


@pytest.mark.parametrize(
    ("wait", "says"),
    [({"signal": "go", "timeout": 5}, "the time for 'go' is over"), ({"delay": 5}, "its time has come")],
)
def test_what_ends_a_wait_by_its_time_says_what_for(wait: dict[str, Any], says: str) -> None:
    run = Run("- {step: a, tool: {kind: wait, signal: go}}")
    (_, timer) = run.report("a#1", e.CALL_PARKED, wait=wait)
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": timer.payload["timer"]})
    texts = [entry["text"] for entry in step_of(run, "a")["chain"]]
    assert says in texts and "the delay has expired" not in texts


SELECTS = """
- step: load
  tool:
    kind: python
    code: "result = 1"
    output: {select: [{path: $.total, as: total}, {path: $.data.next, as: following}]}
"""


def test_what_select_names_and_the_result_does_not_have_is_named() -> None:
    run = Run(SELECTS)
    ref: dict[str, Any] = {
        "kind": "result_ref",
        "ref": "noetl://execution/7/result/load/0a1b2c3d",
        "store": "disk",
        "key": "7/load/x",
    }
    ref |= {"meta": {"bytes": 9, "sha256": "0" * 64}, "extracted": {"total": None}}
    run.done("load", None, ref=ref)
    found = step_of(run, "load")
    assert (found["stored"], found["unmatched"]) == (ref, [{"path": "$.data.next", "as": "following"}])
    assert "unmatched" not in step_of(play(Run(CHAIN), 1), "c")


FRAMES = """
- step: drain
  loop:
    iterator: rows
    cursor: {kind: postgres, auth: pg, claim: "UPDATE jobs SET state = 1 RETURNING id"}
    spec: {mode: cursor, max_in_flight: 1, frame: {max_rows: 8, process: PROCESS}}
  tool: {kind: noop}
"""


def test_of_a_loop_over_frames_it_is_said_what_its_items_are() -> None:
    assert step_of(Run(FRAMES.replace("PROCESS", "frame")), "drain")["frame_rows"] == 8
    assert "frame_rows" not in step_of(Run(FRAMES.replace("PROCESS", "row")), "drain")


def test_of_a_loop_it_is_said_what_its_result_is_and_never_that_its_collection_is() -> None:
    run = Run("""
- step: load
  tool: {kind: http, url: "http://x"}
  next: {arcs: [{step: each}]}
- step: each
  loop: {in: "{{ load.rows }}", iterator: row, spec: {mode: parallel, max_in_flight: 2}}
  tool: {kind: noop}
""")
    ref = {"kind": "result_ref", "ref": "noetl://execution/7/result/load/0", "key": "7/load/0.arrow", "extracted": {}}
    run.report("load#1", ref=ref)
    run.report("each#1.open", count=2, ref=ref)
    assert not {"stored", "item_results"} & step_of(run, "each").keys()
    for name in list(run.state.commands):
        run.frame(name, [1])
    assert run.state.status == "completed"
    assert step_of(run, "load")["stored"] == ref
    found = step_of(run, "each")
    assert ("stored" not in found, found["item_results"]) == (True, 2)
