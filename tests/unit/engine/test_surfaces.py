"""What the log says of the projections, as of any of its events."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.unit.engine.plays import LOOP, WORKFLOWS, play

from noetl_serverless.engine import events as e
from noetl_serverless.engine.canonical import canonical, checksum, plain
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.evolve import evolve
from noetl_serverless.engine.replay import fold, up_to
from noetl_serverless.engine.surfaces import NAMES, document, surfaces


def test_canonical_json_is_one_text_for_one_value() -> None:
    assert canonical({"b": [1.0, (2,), None], "a": {"ü": -0.5}}) == '{"a":{"ü":-0.5},"b":[1,[2],null]}'
    assert checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1.0})
    assert checksum(1e300) == checksum(orjson.loads(orjson.dumps(1e300)))
    assert plain({1: {"b", "a"}}) == {"1": ["a", "b"]}
    with pytest.raises(TypeError):
        canonical(object())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_is_out_is_what_the_state_says_is_out(start: Any, name: str) -> None:
    whole = play(start(WORKFLOWS[name]), 6).log
    for length in range(1, len(whole) + 1):
        said = surfaces("7", whole[:length])
        out = {row["command_id"] for row in said.commands}
        assert out == said.state.commands.keys() | said.state.timers.keys()
        assert said.execution["head"] == length
        for stage in said.stages:
            frames = [row for row in said.frames if row["step"] == stage["step"]]
            items = [item for row in frames for item in range(row["start"], row["end"])]
            assert len(items) == len(set(items)) <= stage["count"]


def test_a_document_has_a_checksum_of_every_surface_and_of_the_state(start: Any) -> None:
    log = play(start(LOOP), 3).log
    whole = document("7", log)
    assert whole["checksums"].keys() == {*NAMES, "state"}
    assert whole["checksums"]["frames"] == checksum(whole["surfaces"]["frames"])
    part = document("7", log, names=["frames"])
    assert part["surfaces"].keys() == {"frames"}
    assert part["checksums"]["frames"] == whole["checksums"]["frames"]
    assert document("7", log[:-1])["checksums"]["state"] != whole["checksums"]["state"]


def test_the_order_in_which_events_come_does_not_matter(start: Any) -> None:
    log = play(start(LOOP), 3).log
    assert document("7", reversed(log)) == document("7", log)


def test_as_of_an_instant_is_before_the_first_fact_that_is_later(start: Any) -> None:
    run = start(WORKFLOWS["chain"])
    run.done("a", {"v": 1})
    run.done("b")
    second = run.log[2]
    assert second.type == e.CALL_DONE
    before = up_to(run.log, at=second.at - 1)
    assert [event.seq for event in before] == [1, 2]
    assert fold("7", up_to(run.log, at=second.at)).generations == {"a": 1, "b": 1}
    assert up_to(run.log, at=second.at + 10**9) == run.log
    assert [event.seq for event in up_to(run.log, seq=3)] == [1, 2, 3]


def test_what_was_in_quarantine_ended_when_it_did_at_last(start: Any) -> None:
    run = start("- {step: only, tool: {kind: noop}}\n")
    error = {"kind": "engine", "code": e.UNDECIDABLE, "message": "no idea", "retryable": False}

    def ended_at() -> Any:
        return surfaces("7", run.log).execution["ended_at"]

    def set_apart() -> None:
        run.now += 1
        kept = {"type": e.CALL_DONE, "step": "only", "generation": 1, "command": "only#1", "at": run.now, "payload": {}}
        payload = {"error": error, e.QUARANTINED: kept}
        run.log.append(Event(e.FAILED, run.now, len(run.log) + 1, payload=payload))
        run.state = evolve(run.state, run.log[-1])

    set_apart()
    assert ended_at() == run.now
    run.fact(e.RETRIED, payload={"seq": len(run.log)})
    assert ended_at() is None
    again = len(run.log)
    set_apart()
    run.fact(e.CANCELLED, payload={"reason": "enough"})
    assert ended_at() == run.now, "cancelled in quarantine"
    run.fact(e.CANCELLED, payload={"reason": "once more"})
    assert ended_at() == run.now - 1, "what comes too late changes nothing"
    del run.log[again:]
    run.state = fold("7", run.log)
    run.done("only")
    assert ended_at() == run.now, "it went on, and completed"
