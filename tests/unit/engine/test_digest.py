"""The same doings have the same digest, and other doings another."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.engine.plays import CHILD, LOOP, WORKFLOWS, answers, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest, items_digest, raw_digest, stable_digest
from noetl_serverless.engine.events import Event


def of(run: Any) -> str:
    return digest(run.state.execution_id, run.log).value


@pytest.mark.parametrize("name", WORKFLOWS)
def test_order_cut_place_and_retries_do_not_matter(name: str) -> None:
    digests = {of(play(Run(WORKFLOWS[name]), seed)) for seed in range(12)}
    assert len(digests) == 1
    assert digests.pop().startswith("c1:")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_another_answer_gives_another_digest(name: str) -> None:
    def other(step: str, generation: int, index: int | None) -> Any:
        found = answers(step, generation, index)
        return {**found, "error": {"kind": "tool", "code": "other"}} if "error" in found else {**found, "more": 1}

    assert of(play(Run(WORKFLOWS[name]), 1)) != of(play(Run(WORKFLOWS[name]), 1, other))


def test_an_error_has_one_digest_in_each_spelling_of_its_code_and_that_of_the_first_release() -> None:
    def spelled(code: str) -> str:
        def failing(step: str, generation: int, index: int | None) -> Any:
            return {"error": {"kind": "template", "code": code, "message": "m"}}

        return of(play(Run(WORKFLOWS["chain"]), 1, failing))

    assert spelled("template.error") == spelled("template_error") != spelled("template.other")
    # as release 0.1 printed it
    assert spelled("template.error") == "c1:4a62fb44b12d71d31f6e55dd2ecec1738c36063e6e0ec04334a8eefaab6211d2"


def test_one_item_of_a_loop_counts() -> None:
    def other(step: str, generation: int, index: int | None) -> Any:
        return {"changed": True} if index == 17 else answers(step, generation, index)

    assert of(play(Run(LOOP), 1)) != of(play(Run(LOOP), 1, other))


def test_two_items_that_change_places_count() -> None:
    def other(step: str, generation: int, index: int | None) -> Any:
        return answers(step, generation, {1: 2, 2: 1}.get(index, index) if index is not None else None)

    assert of(play(Run(LOOP), 1)) != of(play(Run(LOOP), 1, other))


def http(date: str, **more: Any) -> dict[str, Any]:
    return {
        "status_code": 200,
        "headers": {"date": date},
        "url": "http://x",
        "elapsed": len(date) / 7,
        "data": [1],
        **more,
    }


def test_the_headers_of_an_http_answer_do_not_count_and_its_content_does() -> None:
    flow = "- {step: a, tool: {kind: noop}}\n"
    single = {of(play(Run(flow), 1, lambda *_, date=date: http(date))) for date in ("Monday", "Tuesday")}
    piped = {
        of(play(Run(flow), 1, lambda *_, date=date: http(date, results={"b": http(date), "c": {"headers": 1}})))
        for date in ("Monday", "Tuesday")
    }
    assert len(single) == len(piped) == 1
    assert of(play(Run(flow), 1, lambda *_: http("Monday", data=[2]))) not in single


def test_a_stored_answer_is_known_by_what_is_lasting_in_it() -> None:
    assert stable_digest(http("Monday")) == stable_digest(http("Tuesday")) is not None
    assert stable_digest(http("Monday")) != stable_digest(http("Monday", data=[2]))
    for whole in ([1], None, {"headers": 1}, {"results": {"a": 1}}):
        assert stable_digest(whole) is None


def test_the_playbook_and_its_input_count() -> None:
    first = of(play(Run("- {step: a, tool: {kind: noop}}\n"), 1))
    assert of(play(Run("- {step: a, tool: {kind: noop, input: {x: 1}}}\n"), 1)) != first
    assert of(play(Run("- {step: a, tool: {kind: noop}}\n", payload={"x": 1}), 1)) != first


def test_the_execution_s_own_id_in_an_answer_does_not_matter() -> None:
    def played(id: str) -> str:
        run = play(Run("- {step: a, tool: {kind: noop}}\n"), 1, lambda *_: {"url": f"/results/{id}/x"})
        return digest(id, run.log).value

    assert played("384000000000000001") == played("384000000000000002")


def test_while_it_runs_the_digest_is_that_of_what_is_over() -> None:
    run = Run("- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n")
    run.done("a")
    found = digest("7", run.log)
    assert not found.ended
    assert [link.name for link in found.links] == ["start", "a#1"]


def test_the_entries_stand_in_the_order_of_cause_and_effect() -> None:
    found = digest("7", play(Run(WORKFLOWS["diamond"]), 3).log)
    assert [link.name for link in found.links] == ["start", "split#1", "left#1", "right#1", "more#1", "join#1", "end"]
    assert found.value == "c1:" + found.links[-1].chain


def test_the_raw_digest_changes_with_every_change() -> None:
    log = play(Run(LOOP), 5).log
    whole = raw_digest(log)
    assert whole == raw_digest(reversed(log))
    changed = [replace(event, at=event.at + 1) if event.seq == 3 else event for event in log]
    assert raw_digest(changed) != whole
    assert raw_digest(log[:-1]) != whole
    forged = [
        replace(event, payload={**event.payload, "data": {"v": 0}}) if event.type == e.CALL_DONE else event
        for event in log
    ]
    assert raw_digest(forged) != whole


def test_of_a_childs_payload_by_reference_the_content_counts_and_not_the_place() -> None:
    def started(ref: str, **meta: str) -> str:
        child = {"path": "c", "execution_id": "8", "payload_ref": {"ref": ref, "key": ref, "meta": meta}}
        first = Event(e.STARTED, 0, seq=1, payload={"path": "p", "plan": "h", "entry": "a", "workload": {}})
        begun = Event(e.CHILD_STARTED, 0, seq=2, cause=1, step="a", generation=1, command_id="a#1@1", payload=child)
        routes = {"routes": [{"step": "a", "generation": 1, "event": "call.done"}]}
        return digest("7", [first, begun, Event(e.COMPLETED, 0, seq=3, cause=2, payload=routes)]).value

    one = started("noetl://execution/7/result/a/00000001", sha256="1" * 64)
    assert one == started("noetl://execution/7/result/a/00000002", sha256="1" * 64)
    assert one != started("noetl://execution/7/result/a/00000001", sha256="2" * 64)
    lasting = [started("r", sha256=own * 64, digest="d" * 64) for own in "12"]
    assert lasting[0] == lasting[1]


def test_a_digest_says_how_it_was_made_and_is_a_sum() -> None:
    log = play(Run(LOOP), 1).log
    assert re.fullmatch(r"r1:[0-9a-f]{64}", raw_digest(log))
    assert re.fullmatch(r"c1:[0-9a-f]{64}", digest("7", log).value)
    assert raw_digest([]) == "r1:"


def test_the_raw_digest_sees_each_part_of_an_event() -> None:
    log = play(Run(LOOP), 1).log
    whole = raw_digest(log)
    event = next(event for event in log if event.cause is not None and event.command_id is not None)
    parts: tuple[dict[str, Any], ...] = (
        {"cause": 999},
        {"type": "x"},
        {"step": "x"},
        {"generation": 9},
        {"command_id": "x"},
        {"at": 1},
        {"payload": {}},
        {"seq": 10_000},
    )
    for part in parts:
        assert raw_digest([replace(event, **part) if one is event else one for one in log]) != whole, part


def failed_with(**error: Any) -> str:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", e.CALL_ERROR, error={"kind": "tool", "code": "boom", "message": "x", **error})
    return of(run)


@pytest.mark.parametrize("part", ["kind", "code", "at", "failed_task", "name", "template"])
def test_of_an_error_its_kind_its_code_and_its_place_count(part: str) -> None:
    assert failed_with(**{part: "other"}) != failed_with()
    assert failed_with(message="y", retryable=True, line=7) == failed_with()


def test_a_code_that_an_earlier_release_spelled_otherwise_is_the_same() -> None:
    assert failed_with(code="time_budget") == failed_with(code="worker.time_budget") != failed_with(code="time")


def content(run: Any, name: str) -> dict[str, Any]:
    (link,) = [link for link in digest("7", run.log).links if link.name == name]
    return link.content


def test_an_entry_says_what_led_to_it_what_came_of_it_and_where_it_led() -> None:
    run = play(Run(WORKFLOWS["chain"]), 1)
    assert content(run, "start") == {"playbook": run.plan.hash, "workload": {}, "ctx": {}}
    assert content(run, "a#1") == {
        "step": "a",
        "generation": 1,
        "after": [],
        "outcome": {"status": "ok", "error": None, "value": answers("a", 1, None)},
        "route": {"event": "call.done", "set": {"x": 1}, "arcs": ["b"]},
    }
    assert content(run, "c#1")["after"] == ["b#1"]
    assert content(run, "c#1")["route"] == {"event": "call.done", "set": {}, "arcs": []}
    assert content(run, "end") == {"status": "completed", "error": None}


def test_a_workload_beside_the_log_counts_as_one_within() -> None:
    run = play(Run("- {step: a, tool: {kind: noop}}\n", payload={"x": 1}), 1)
    kept = {name: value for name, value in run.log[0].payload.items() if name != "workload"}
    log = [replace(run.log[0], payload=kept), *run.log[1:]]
    assert digest("7", log, {"x": 1}).value == of(run)
    assert digest("7", log).value != of(run)
    assert digest("7", log).links[0].content["workload"] == {}


def test_of_a_failed_execution_counts_what_led_to_the_failure() -> None:
    run = Run(WORKFLOWS["failing"])
    run.done("split")
    run.done("slow", {"v": 1})
    run.error("bad")
    found = digest("7", run.log)
    assert [link.name for link in found.links] == ["start", "split#1", "bad#1", "end"]
    assert content(run, "end") == {"status": "failed", "error": {"kind": "tool", "code": "boom"}}
    assert content(run, "bad#1")["outcome"]["error"] == {"kind": "tool", "code": "boom"}


def test_of_a_cancelled_one_counts_what_was_over() -> None:
    run = Run(WORKFLOWS["failing"])
    run.done("split")
    run.done("slow")
    run.fact(e.CANCELLED, payload={"error": {"kind": "engine", "code": "cancelled", "message": "enough"}})
    assert [link.name for link in digest("7", run.log).links] == ["start", "split#1", "slow#1", "end"]
    assert content(run, "end") == {"status": "cancelled", "error": None}


def test_what_comes_after_the_end_does_not_count() -> None:
    run = play(Run(WORKFLOWS["chain"]), 1)
    before = digest("7", run.log)
    run.fact(e.CANCELLED, payload={})
    assert digest("7", run.log) == before


def test_a_loop_counts_with_its_collection_and_its_results_and_as_failed_only_that_it_did() -> None:
    flow = """
        - step: each
          loop: {in: "{{ ['p', 'q'] }}", iterator: x, spec: {mode: sequential}}
          tool: {kind: noop}
        """
    run = Run(flow)
    run.frame("each#1.0", ["r"], item_ms=1000)
    run.frame("each#1.1", ["s"], item_ms=1000)
    assert content(run, "each#1")["loop"] == {
        "count": 2,
        "collection": ["p", "q"],
        "failed": 0,
        "items": f"{items_digest(0, ['r', 's']):064x}",
    }
    run = Run(flow)
    run.frame("each#1.0", [None], failed=1, error={"kind": "tool", "code": "boom", "message": "x", "index": 0})
    entry = content(run, "each#1")
    assert entry["loop"] == {"count": 2, "collection": ["p", "q"]}
    assert entry["outcome"]["error"] == {"kind": "loop", "code": "loop.item_failed"}


def test_items_count_with_their_place() -> None:
    whole = items_digest(0, ["a", "b", "c"])
    assert (items_digest(0, ["a"]) + items_digest(1, ["b", "c"])) % 2**256 == whole
    assert items_digest(1, ["a", "b", "c"]) != whole != items_digest(0, ["b", "a", "c"])
    assert items_digest(0, []) == 0
    assert items_digest(0, [http("Monday")]) == items_digest(0, [http("Tuesday")])


@pytest.mark.parametrize(
    ("ref", "value"),
    [
        ({"meta": {"sha256": "s", "digest": "d"}}, {"sha256": "d"}),
        ({"meta": {"sha256": "s"}}, {"sha256": "s"}),
        ({"kind": "manifest", "count": 3, "extracted": {"n": 1}}, {"manifest": 3, "extracted": {"n": 1}}),
    ],
)
def test_a_stored_result_counts_by_its_sum(ref: dict[str, Any], value: Any) -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", ref={"ref": "noetl://execution/7/result/a/0", "key": "k", **ref})
    assert content(run, "a#1")["outcome"]["value"] == value


def test_what_a_command_set_before_it_was_suspended_counts() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.report("a#1", e.CALL_DEFERRED, delay=1, set={"x": 1, "y": 1})
    (timer,) = run.state.timers
    run.fact(e.TIMER_FIRED, step="a", generation=1, payload={"timer": timer})
    run.done("a", set={"x": 2})
    assert content(run, "a#1")["set"] == {"x": 2, "y": 1}


def test_a_sub_playbook_counts_with_what_it_was_given_and_how_it_ended() -> None:
    run = play(Run(WORKFLOWS["parent"]), 1)
    entry = content(run, "call#1")
    assert entry["children"] == [{name: CHILD[name] for name in ("path", "plan_hash", "payload", "return_step")}]
    assert entry["outcome"] == {"status": "ok", "error": None, "value": answers("call", 1, None)}


def test_a_step_that_was_not_admitted_counts_as_skipped() -> None:
    run = play(Run(WORKFLOWS["admission"]), 1)
    assert content(run, "b#1")["outcome"] == {"status": "skipped", "error": None, "value": None}
    assert content(run, "c#1")["after"] == ["b#1"]


def test_what_nothing_led_to_stands_by_name() -> None:
    for final in (f"{letter}{n}" for n in range(8) for letter in "ax"):
        flow = f"- {{step: m, tool: {{kind: noop}}}}\n- {{step: {final}, tool: {{kind: noop}}}}\n"
        run = Run(flow, f"executor: {{spec: {{final_step: {final}}}}}\n")
        run.done("m")
        run.done(final)
        names = [link.name for link in digest("7", run.log).links]
        assert names == ["start", *sorted([f"{final}#1", "m#1"]), "end"]


def test_stored_items_count_by_their_own_sum_or_by_the_reference() -> None:
    def each(**frame: Any) -> str:
        run = Run(
            '- {step: each, loop: {in: "{{ [1, 2] }}", iterator: x, spec: {mode: sequential}}, tool: {kind: noop}}\n'
        )
        counts = {"start": 0, "end": 2, "ok": 2, "failed": 0, "item_ms": 1.0}
        run.frame("each#1.0", [1], item_ms=1.0)
        run.report("each#1.1", e.FRAME_COMMITTED, **{**counts, "start": 1, "ok": 1}, **frame)
        return of(run)

    ref = {"ref": "noetl://execution/7/result/each/0", "meta": {"sha256": "s"}}
    inline = each(data=["r"])
    assert each(ref=ref, digest=f"{items_digest(1, ['r']):064x}") == inline
    assert each(ref=ref) != inline
    assert each(ref=ref) == each(ref={**ref, "ref": "noetl://execution/7/result/each/1"})
    assert each(ref=ref) != each(ref={**ref, "meta": {"sha256": "t"}})


def test_how_many_items_of_a_loop_failed_counts() -> None:
    run = play(Run(LOOP), 1)
    (place,) = [place for place, event in enumerate(run.log) if event.type == e.LOOP_DONE]
    before, done = of(run), run.log[place]
    stats = {**done.payload["stats"], "failed": done.payload["stats"].get("failed", 0) + 1}
    run.log[place] = replace(done, payload={**done.payload, "stats": stats})
    assert of(run) != before
