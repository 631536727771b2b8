from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.protocol import ChildRequest
from noetl_serverless.telemetry.masking import masking
from noetl_serverless.tools.port import ToolOutcome
from noetl_serverless.worker.execution.attempts import ERROR_BYTES, FIRST_ATTEMPTS, LAST_ATTEMPTS, Attempts
from noetl_serverless.worker.execution.time_budget import TimeBudget

ERROR = "{{ output.status == 'error' }}"
PARENT = {"status": "error", "error": {"code": "x", "message": "m"}, "execution_id": "77"}


def attempts_of(outcome: Any) -> list[tuple[int, str, str]]:
    return [(entry["attempt"], entry["task"], entry["error"]["code"]) for entry in outcome.meta.get("attempts", [])]


# -- of a step


async def test_a_success_at_once_reports_no_attempts(bench: Bench) -> None:
    bench.tool("a", make.ok())
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR))))
    assert not {"attempts", "attempts_dropped", "delivery", "waited_ms"} & outcome.meta.keys()


async def test_the_attempts_before_a_success_are_reported_with_error_times_and_worker(bench: Bench) -> None:
    bench.tool("a", make.failed("first"), make.failed("second"), make.ok({"n": 1}))
    before = time.time_ns() // 1_000_000
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, attempts=3))))
    assert (outcome.status, outcome.meta["attempt"]) == ("done", 3)
    assert attempts_of(outcome) == [(1, "a", "first"), (2, "a", "second")]
    first, second = outcome.meta["attempts"]
    assert first["error"] == {
        "kind": "fake",
        "code": "first",
        "retryable": True,
        "message": "it went first",
        "at": 10,
    }
    assert before <= first["started_at"] <= first["ended_at"] <= second["started_at"] <= second["ended_at"]
    assert first["worker"] == "w-1"
    assert "index" not in first


async def test_the_attempt_that_fails_the_step_is_reported_too(bench: Bench) -> None:
    bench.tool("a", make.failed("first"), make.failed("last"))
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, attempts=2))))
    assert outcome.status == "error"
    assert attempts_of(outcome) == [(1, "a", "first"), (2, "a", "last")]


async def test_an_attempt_that_timed_out_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.worker.execution.toolbox.OVERTIME_SECONDS", 0.0)
    bench.tool("a", lambda call, context: asyncio.sleep(60), make.ok())
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR), timeout=0.01)))
    assert (outcome.status, attempts_of(outcome)) == ("done", [(1, "a", "tool.timeout")])


async def test_an_attempt_that_a_jump_follows_is_reported(bench: Bench) -> None:
    bench.tool("a", make.ok())
    bench.tool("b", make.failed("jumped"), make.ok())
    outcome = await bench.run(make.step(make.task("a"), make.task("b", make.rule("jump", ERROR, to="a"))))
    assert (outcome.status, attempts_of(outcome)) == ("done", [(1, "b", "jumped")])


async def test_an_error_that_a_rule_goes_on_from_is_no_failed_attempt(bench: Bench) -> None:
    bench.tool("a", make.failed("expected"))
    bench.tool("b", make.ok())
    outcome = await bench.run(make.step(make.task("a", make.rule("continue")), make.task("b")))
    assert (outcome.status, attempts_of(outcome)) == ("done", [])


async def test_waiting_for_something_to_be_ready_is_no_failed_attempt(bench: Bench) -> None:
    bench.tool("a", make.ok({"ready": False}), make.ok({"ready": True}))
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", "{{ not output.data.ready }}"))))
    assert (outcome.status, outcome.meta["attempt"], attempts_of(outcome)) == ("done", 2, [])


async def test_the_first_and_the_last_are_reported_and_the_rest_are_counted(bench: Bench) -> None:
    bench.tool("a", *(make.failed(f"e{n}") for n in range(1, 31)), make.ok())
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, attempts=50))))
    assert [number for number, _, _ in attempts_of(outcome)] == [*range(1, 11), *range(21, 31)]
    assert outcome.meta["attempts_dropped"] == 10


async def test_a_long_error_is_cut(bench: Bench) -> None:
    long = ToolOutcome("error", error={"code": "long", "message": "é\u0001" * 5000, "more": ["x" * 900] * 50})
    bench.tool("a", long, make.ok())
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR))))
    (entry,) = outcome.meta["attempts"]
    assert len(orjson.dumps(entry["error"])) <= ERROR_BYTES
    assert (entry["error"]["code"], entry["error"]["at"]) == ("long", 10)
    assert entry["error"]["message"].endswith("…")


async def test_secrets_are_masked_in_attempts(bench: Bench) -> None:
    masking.register("tops3cret-attempt")
    bench.tool("a", ToolOutcome("error", error={"message": "with tops3cret-attempt"}), make.ok())
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR))))
    assert outcome.meta["attempts"][0]["error"]["message"] == "with ***"


async def test_attempts_leave_room_for_what_else_is_known_of_the_run(bench: Bench) -> None:
    failures = [ToolOutcome("error", error={"code": f"e{n}", "message": "x" * 3000}) for n in range(25)]
    bench.tool("a", *failures, ToolOutcome("ok", meta={f"stdout{n}": "y" * 7000 for n in range(4)}))
    outcome = await bench.run(make.step(make.task("a", make.rule("retry", ERROR, attempts=50))))
    assert outcome.status == "done"
    assert len(orjson.dumps(outcome.meta)) <= 64 * 1024
    kept = [number for number, _, _ in attempts_of(outcome)]
    assert (kept[0], kept[-1]) == (1, 25)
    assert outcome.meta["attempts_dropped"] == 25 - len(kept)


# -- across suspensions


async def test_attempts_before_a_deferral_are_reported_at_once_and_again_at_the_end(bench: Bench) -> None:
    each = make.step(make.task("a", make.rule("retry", ERROR, attempts=4, backoff="fixed", delay=600)))
    bench.tool("a", make.failed("one"), make.failed("two"), make.ok())
    first = await bench.run(each)
    assert (first.status, attempts_of(first)) == ("deferred", [(1, "a", "one")])
    second = await bench.run(each, resume=first.resume)
    assert (second.status, attempts_of(second)) == ("deferred", [(2, "a", "two")])
    last = await bench.run(each, resume=second.resume)
    assert (last.status, attempts_of(last)) == ("done", [(1, "a", "one"), (2, "a", "two")])


async def test_what_was_left_out_is_counted_across_a_deferral(bench: Bench) -> None:
    short = make.rule("retry", "{{ output.error.code != 'long' }}", attempts=99)
    long = make.rule("retry", ERROR, attempts=99, backoff="fixed", delay=600)
    codes = ["e"] * 24 + ["long"] + ["e"] * 6
    bench.tool("a", *(make.failed(code) for code in codes), make.ok())
    each = make.step(make.task("a", make.rule("continue", "{{ output.status == 'ok' }}"), short, long))
    deferred = await bench.run(each)
    assert (deferred.status, deferred.meta["attempts_dropped"]) == ("deferred", 5)
    outcome = await bench.run(each, resume=deferred.resume)
    assert [number for number, _, _ in attempts_of(outcome)] == [*range(1, 11), *range(22, 32)]
    assert outcome.meta["attempts_dropped"] == 11


async def test_a_resume_of_a_worker_that_kept_no_attempts_is_taken_up(bench: Bench) -> None:
    each = make.step(make.task("a", make.rule("retry", ERROR, attempts=4, backoff="fixed", delay=600)))
    bench.tool("a", make.failed(), make.ok())
    resume = (await bench.run(each)).resume
    del resume["locals"]["data"]["attempts"]
    assert (await bench.run(each, resume=resume)).status == "done"


async def test_the_attempt_of_a_sub_playbook_begins_where_it_was_parked(bench: Bench) -> None:
    bench.tool("a", make.failed("early"), make.ok())
    bench.tool("sub", ToolOutcome("ok", child=ChildRequest(path="demo/child")))
    each = make.step(make.task("a", make.rule("retry", ERROR)), make.task("sub"))
    parked = await bench.run(each)
    assert (parked.status, attempts_of(parked)) == ("parked", [(1, "a", "early")])
    await asyncio.sleep(0.005)
    resumed = time.time_ns() // 1_000_000
    outcome = await bench.run(each, resume={**parked.resume, "child": PARENT})
    assert attempts_of(outcome) == [(1, "a", "early"), (1, "sub", "x")]
    assert outcome.meta["attempts"][1]["started_at"] < resumed <= outcome.meta["attempts"][1]["ended_at"]


# -- of loop items


async def test_the_attempts_of_items_are_reported_with_their_index(bench: Bench) -> None:
    def sometimes(call: Any, context: Any) -> Any:
        return make.failed(f"e{call.config['i']}") if call.config["i"] % 2 and context.attempt == 1 else make.ok()

    bench.tool("a", sometimes)
    each = make.step(make.task("a", make.rule("retry", ERROR), config={"i": "{{ item }}"}), loop=make.loop())
    outcome = await bench.frame(each, [0, 1, 2, 3], start=8, concurrency=2)
    assert outcome.status == "done"
    found = {(entry["index"], entry["attempt"], entry["error"]["code"]) for entry in outcome.meta["attempts"]}
    assert found == {(9, 1, "e1"), (11, 1, "e3")}


async def test_a_frame_reports_no_more_attempts_than_a_step(bench: Bench) -> None:
    bench.tool("a", make.failed())
    each = make.step(make.task("a"), loop=make.loop(best_effort=True))
    outcome = await bench.frame(each, list(range(100)))
    assert [entry["index"] for entry in outcome.meta["attempts"]] == [*range(10), *range(90, 100)]
    assert outcome.meta["attempts_dropped"] == 80


async def test_a_frame_that_is_deferred_remembers_the_attempts_of_all_items(bench: Bench) -> None:
    def behave(call: Any, context: Any) -> Any:
        return make.failed("early") if call.config["i"] == 0 and context.attempt < 3 else make.ok()

    bench.tool("a", behave)
    retry = make.rule("retry", ERROR, attempts=4, backoff="fixed", delay=600)
    each = make.step(make.task("a", retry, config={"i": "{{ item }}"}), loop=make.loop())
    first = await bench.frame(each, [0, 1])
    assert (first.status, len(first.meta["attempts"])) == ("deferred", 1)
    assert orjson.dumps(first.resume).count(b'"early"') == 1, "each item keeps them once more"
    second = await bench.frame(each, [0, 1], resume=first.resume)
    last = await bench.frame(each, [0, 1], resume=second.resume)
    assert last.status == "done"
    assert [(entry["index"], entry["attempt"]) for entry in last.meta["attempts"]] == [(0, 1), (0, 2)]


# -- the run


async def test_what_took_the_whole_budget_is_reported_as_an_attempt(bench: Bench) -> None:
    bench.budget = TimeBudget(0.05)
    bench.tool("a", lambda call, context: asyncio.sleep(60))
    running = asyncio.create_task(bench.run(make.step(make.task("a"))))
    await asyncio.sleep(0.06)
    running.cancel()
    assert attempts_of(await running) == [(1, "a", "worker.time_budget")]


async def test_an_item_that_has_ended_has_not_failed_with_the_whole_budget(bench: Bench) -> None:
    ended = asyncio.Event()

    async def behave(call: Any, context: Any) -> Any:
        if call.config["i"] == 0:
            await asyncio.Event().wait()
        ended.set()
        return make.ok()

    bench.tool("a", behave)
    each = make.step(make.task("a", config={"i": "{{ item }}"}), loop=make.loop())
    running = asyncio.create_task(bench.frame(each, [0, 1], concurrency=2))
    await ended.wait()
    # until the second item has taken its end in
    for _ in range(20):
        await asyncio.sleep(0)
    # the command has run for longer than any may
    bench.budget._over = bench.budget._start
    running.cancel()
    outcome = await running
    assert (outcome.status, attempts_of(outcome)) == ("error", [(1, "a", "worker.time_budget")])
    assert [entry["index"] for entry in outcome.meta["attempts"]] == [0], "the second item has ended"


async def test_a_task_before_the_one_that_took_the_whole_budget_has_not_failed(bench: Bench) -> None:
    begun = asyncio.Event()

    async def hang(call: Any, context: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    bench.tool("a", make.ok())
    bench.tool("b", hang)
    running = asyncio.create_task(bench.run(make.step(make.task("a"), make.task("b"))))
    await begun.wait()
    bench.budget._over = bench.budget._start
    running.cancel()
    assert attempts_of(await running) == [(1, "b", "worker.time_budget")], "the first task has ended"


async def test_an_item_that_waits_for_a_sub_playbook_has_not_failed_with_the_whole_budget(bench: Bench) -> None:
    begun = asyncio.Event()

    async def behave(call: Any, context: Any) -> Any:
        if call.config["i"] == 0:
            return ToolOutcome("ok", child=ChildRequest(path="demo/child"))
        begun.set()
        await asyncio.Event().wait()

    bench.tool("a", behave)
    each = make.step(make.task("a", config={"i": "{{ item }}"}), loop=make.loop())
    running = asyncio.create_task(bench.frame(each, [0, 1]))
    await begun.wait()
    bench.budget._over = bench.budget._start
    running.cancel()
    outcome = await running
    assert [entry["index"] for entry in outcome.meta["attempts"]] == [1], "the call of the first item continues"


async def test_a_step_that_parks_again_reports_the_attempts_since_it_was_resumed(bench: Bench) -> None:
    bench.tool("sub", ToolOutcome("ok", child=ChildRequest(path="demo/child")))
    each = make.step(make.task("sub", make.rule("retry", ERROR, attempts=9)))
    resume: Any = None
    reported = []
    for _ in range(3):
        parked = await bench.run(each, resume=resume)
        assert parked.status == "parked"
        reported.append([number for number, _, _ in attempts_of(parked)])
        resume = {**parked.resume, "child": PARENT}
    assert reported == [[], [1], [2]], "each attempt is to be reported once"


async def test_a_delay_between_attempts_does_not_count_as_run_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0.05))
    bench.tool("a", make.failed(), make.ok())
    retry = make.rule("retry", ERROR, backoff="fixed", delay=1.0)
    meta = (await bench.run(make.step(make.task("a", retry)))).meta
    assert meta["waited_ms"] >= 50
    assert meta["started_at"] < meta["ended_at"]


async def test_the_time_in_a_queue_does_not_count_as_run_time(bench: Bench) -> None:
    async def queued(call: Any, context: Any) -> Any:
        with context.waiting():
            await asyncio.sleep(0.05)
        return make.ok()

    bench.tool("a", queued)
    meta = (await bench.run(make.step(make.task("a")))).meta
    assert meta["waited_ms"] >= 50
    assert meta["waited_ms"] != int(meta["waited_ms"]), "it is told to the microsecond, as what ran is"


async def test_a_second_delivery_is_reported(bench: Bench) -> None:
    bench.tool("a")
    each = make.step(make.task("a"))
    assert "delivery" not in (await bench.run(each)).meta
    assert (await bench.run(each, delivery=2)).meta["delivery"] == 2


def test_an_attempt_never_ends_before_it_begins() -> None:
    times = iter([1000, 900])
    attempts = Attempts("w", lambda: next(times))
    attempts.fail(attempts.begin(1, "a"), {"code": "c"})
    (entry,) = attempts.as_meta(10_000)["attempts"]
    assert (entry["started_at"], entry["ended_at"]) == (1000, 1000)


def test_only_what_is_under_way_is_cut() -> None:
    attempts = Attempts("w-1", clock=lambda: 5)
    over = attempts.begin(1, "a")
    attempts.end(over)
    attempts.end(over)
    attempts.begin(2, "b", 7, started_at=3)
    attempts.fail_under_way({"code": "worker.time_budget"})
    attempts.fail_under_way({"code": "worker.time_budget"})
    assert attempts.as_meta(10_000) == {
        "attempts": [
            {
                "attempt": 2,
                "task": "b",
                "index": 7,
                "error": {"code": "worker.time_budget"},
                "started_at": 3,
                "ended_at": 5,
                "worker": "w-1",
            }
        ]
    }


def many(count: int) -> Attempts:
    attempts = Attempts(clock=lambda: 5)
    for number in range(1, count + 1):
        attempts.fail(attempts.begin(number, "a"), {"code": "x"})
    return attempts


@pytest.mark.parametrize(
    ("count", "dropped"),
    [
        (FIRST_ATTEMPTS + LAST_ATTEMPTS, None),
        (FIRST_ATTEMPTS + LAST_ATTEMPTS + 1, 1),
        (FIRST_ATTEMPTS + LAST_ATTEMPTS + 30, 30),
    ],
)
def test_the_first_and_the_last_are_kept(count: int, dropped: int | None) -> None:
    found = many(count).as_meta(1_000_000)
    numbers = [entry["attempt"] for entry in found["attempts"]]
    assert numbers == [*range(1, FIRST_ATTEMPTS + 1), *range(count - LAST_ATTEMPTS + 1, count + 1)]
    assert found.get("attempts_dropped") == dropped


def test_where_there_is_little_room_those_in_the_middle_go_and_are_counted() -> None:
    one = len(orjson.dumps(many(1).as_meta(10_000)["attempts"]))
    found = many(6).as_meta(4 * one)
    numbers = [entry["attempt"] for entry in found["attempts"]]
    assert numbers == [1, 2, 3, 4][: len(numbers)], "there is no last before the first are full"
    assert found["attempts_dropped"] == 6 - len(numbers) > 0
    assert len(orjson.dumps(found["attempts"])) <= 4 * one + 4
    assert many(6).as_meta(0) == {"attempts_dropped": 6}
    both = many(FIRST_ATTEMPTS + LAST_ATTEMPTS).as_meta(6 * one)
    numbers = [entry["attempt"] for entry in both["attempts"]]
    assert (1 in numbers, FIRST_ATTEMPTS + LAST_ATTEMPTS in numbers) == (True, True)
    assert len(numbers) + both["attempts_dropped"] == FIRST_ATTEMPTS + LAST_ATTEMPTS


def test_what_was_remembered_goes_on_where_it_was() -> None:
    held = many(FIRST_ATTEMPTS + LAST_ATTEMPTS + 3).suspended_attempts()
    attempts = Attempts(clock=lambda: 5)
    attempts.resume(held)
    assert attempts.suspended_attempts() == held
    attempts.fail(attempts.begin(99, "a"), {"code": "x"})
    found = attempts.as_meta(1_000_000)
    assert (found["attempts"][-1]["attempt"], found["attempts_dropped"], len(found["attempts"])) == (
        99,
        4,
        FIRST_ATTEMPTS + LAST_ATTEMPTS,
    )
    own = attempts.as_meta(1_000_000, suspended=True)
    assert [entry["attempt"] for entry in own["attempts"]] == [99]
    assert Attempts().suspended_attempts() == {}


def test_reported_attempts_fit_into_the_room_whatever_that_is() -> None:
    attempts = Attempts("w", lambda: 1_700_000_000_000)
    for number in range(30):
        attempts.fail(attempts.begin(number, "t"), {"kind": "k", "code": "c", "message": "m" * (150 + number)})
    meta = {"stdout": "y" * 100}
    for room in range(100, 8000):
        limit = len(orjson.dumps(meta)) + room
        size = len(orjson.dumps({**meta, **attempts.as_meta(room)}))
        assert size <= limit, "the step fails for what is told of its attempts"


async def test_who_had_the_command_before_is_reported_with_its_outcome(bench: Bench) -> None:
    bench.tool("a", make.ok(1))
    lost = [{"worker": "w-0", "delivery": 1, "claimed_at": 1, "lease_until": 2}]
    meta = (await bench.run(make.step(make.task("a")), delivery=2, lost=lost)).meta
    assert (meta["lost"], meta["delivery"]) == (lost, 2)
    meta = (await bench.run(make.step(make.task("a")))).meta
    assert not meta.keys() & {"lost", "delivery"}, "nobody had it before"
