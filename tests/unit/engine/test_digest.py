"""The same doings have the same digest, and other doings another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.engine.plays import LOOP, WORKFLOWS, answers, play

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest, lasting_digest, raw_digest
from noetl_serverless.engine.events import Event


def of(run: Any) -> str:
    return digest(run.state.execution_id, run.log).value


@pytest.mark.parametrize("name", WORKFLOWS)
def test_order_cut_place_and_retries_do_not_matter(start: Any, name: str) -> None:
    digests = {of(play(start(WORKFLOWS[name]), seed)) for seed in range(12)}
    assert len(digests) == 1
    assert digests.pop().startswith("c1:")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_another_answer_gives_another_digest(start: Any, name: str) -> None:
    def other(step: str, generation: int, index: int | None) -> Any:
        found = answers(step, generation, index)
        return {**found, "error": {"kind": "tool", "code": "other"}} if "error" in found else {**found, "more": 1}

    assert of(play(start(WORKFLOWS[name]), 1)) != of(play(start(WORKFLOWS[name]), 1, other))


def test_one_item_of_a_loop_counts(start: Any) -> None:
    def other(step: str, generation: int, index: int | None) -> Any:
        return {"changed": True} if index == 17 else answers(step, generation, index)

    assert of(play(start(LOOP), 1)) != of(play(start(LOOP), 1, other))


def test_two_items_that_change_places_count(start: Any) -> None:
    def other(step: str, generation: int, index: int | None) -> Any:
        return answers(step, generation, {1: 2, 2: 1}.get(index, index) if index is not None else None)

    assert of(play(start(LOOP), 1)) != of(play(start(LOOP), 1, other))


def http(date: str, **more: Any) -> dict[str, Any]:
    return {
        "status_code": 200,
        "headers": {"date": date},
        "url": "http://x",
        "elapsed": len(date) / 7,
        "data": [1],
        **more,
    }


def test_the_headers_of_an_http_answer_do_not_count_and_its_content_does(start: Any) -> None:
    flow = "- {step: a, tool: {kind: noop}}\n"
    single = {of(play(start(flow), 1, lambda *_, date=date: http(date))) for date in ("Monday", "Tuesday")}
    piped = {
        of(play(start(flow), 1, lambda *_, date=date: http(date, results={"b": http(date), "c": {"headers": 1}})))
        for date in ("Monday", "Tuesday")
    }
    assert len(single) == len(piped) == 1
    assert of(play(start(flow), 1, lambda *_: http("Monday", data=[2]))) not in single


def test_a_stored_answer_is_known_by_what_is_lasting_in_it() -> None:
    assert lasting_digest(http("Monday")) == lasting_digest(http("Tuesday")) is not None
    assert lasting_digest(http("Monday")) != lasting_digest(http("Monday", data=[2]))
    for whole in ([1], None, {"headers": 1}, {"results": {"a": 1}}):
        assert lasting_digest(whole) is None


def test_the_playbook_and_its_input_count(start: Any) -> None:
    first = of(play(start("- {step: a, tool: {kind: noop}}\n"), 1))
    assert of(play(start("- {step: a, tool: {kind: noop, input: {x: 1}}}\n"), 1)) != first
    assert of(play(start("- {step: a, tool: {kind: noop}}\n", payload={"x": 1}), 1)) != first


def test_the_execution_s_own_id_in_an_answer_does_not_matter(start: Any) -> None:
    def played(id: str) -> str:
        run = play(start("- {step: a, tool: {kind: noop}}\n"), 1, lambda *_: {"url": f"/results/{id}/x"})
        return digest(id, run.log).value

    assert played("384000000000000001") == played("384000000000000002")


def test_while_it_runs_the_digest_is_that_of_what_is_over(start: Any) -> None:
    run = start("- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n")
    run.done("a")
    found = digest("7", run.log)
    assert not found.ended
    assert [link.name for link in found.links] == ["start", "a#1"]


def test_the_entries_stand_in_the_order_of_cause_and_effect(start: Any) -> None:
    found = digest("7", play(start(WORKFLOWS["diamond"]), 3).log)
    assert [link.name for link in found.links] == ["start", "split#1", "left#1", "right#1", "more#1", "join#1", "end"]
    assert found.value == "c1:" + found.links[-1].chain


def test_the_raw_digest_tells_of_every_change(start: Any) -> None:
    log = play(start(LOOP), 5).log
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
        first = Event(e.STARTED, 0, 1, None, payload={"path": "p", "plan": "h", "entry": "a", "workload": {}})
        begun = Event(e.CHILD_STARTED, 0, 2, 1, "a", 1, "a#1@1", child)
        routes = {"routes": [{"step": "a", "generation": 1, "event": "call.done"}]}
        return digest("7", [first, begun, Event(e.COMPLETED, 0, 3, 2, payload=routes)]).value

    one = started("noetl://execution/7/result/a/00000001", sha256="1" * 64)
    assert one == started("noetl://execution/7/result/a/00000002", sha256="1" * 64)
    assert one != started("noetl://execution/7/result/a/00000001", sha256="2" * 64)
    lasting = [started("r", sha256=own * 64, digest="d" * 64) for own in "12"]
    assert lasting[0] == lasting[1]
