"""Payloads of older schema versions, step by step up to today's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.upcast import KEY, NewerSchema, States, Upcasters


def rename(old: str, new: str) -> Any:
    return lambda payload: {new if name == old else name: value for name, value in payload.items()}


@pytest.fixture
def third() -> Upcasters:
    """Version 3: in version 1 the data of an outcome was called `answer`, in version 2 `value`."""
    upcasters = Upcasters(3)
    upcasters.add(e.CALL_DONE, 1, rename("answer", "value"))
    upcasters.add(e.CALL_DONE, 2, rename("value", "data"))
    return upcasters


def done(**payload: Any) -> Event:
    return Event(e.CALL_DONE, 0, seq=4, step="a", generation=1, command_id="a#1", payload=payload)


def test_a_payload_passes_through_every_version_in_between(third: Upcasters) -> None:
    assert third.current(done(answer=1)).payload == {"data": 1, KEY: 3}
    assert third.current(done(value=1, v=2)).payload == {"data": 1, KEY: 3}
    assert third.current(done(data=1, v=3)).payload == {"data": 1, KEY: 3}


def test_a_type_without_upcasters_stays_as_it_is(third: Upcasters) -> None:
    event = replace(done(answer=1), type=e.CALL_ERROR)
    assert third.current(event).payload == {"answer": 1, KEY: 3}


def test_a_log_of_an_old_version_folds_to_what_a_new_one_folds_to(third: Upcasters) -> None:
    run = play(Run(CHAIN), 2)
    old = [
        replace(event, payload=rename("data", "answer")(event.payload)) if event.type == e.CALL_DONE else event
        for event in run.log
    ]
    assert fold("7", old, upcasters=third) == fold("7", run.log)


def test_what_a_newer_release_wrote_is_refused(third: Upcasters) -> None:
    with pytest.raises(NewerSchema, match="version 4"):
        third.current(done(v=4))
    with pytest.raises(NewerSchema):
        fold("7", [done(v=4)])


def test_an_event_of_today_is_left_alone() -> None:
    event = done(data=1)
    assert Upcasters().current(event) is event


def test_an_upcaster_has_one_place(third: Upcasters) -> None:
    for kind, version in ((e.CALL_DONE, 1), (e.CALL_ERROR, 3), (e.CALL_ERROR, 0)):
        with pytest.raises(ValueError, match="upcaster"):
            third.add(kind, version, dict)


def test_another_set_of_upcasters_has_another_digest(third: Upcasters) -> None:
    digests = {third.digest(), Upcasters().digest(), Upcasters(3).digest()}
    assert len(digests) == 3


def test_a_state_passes_through_every_version_in_between() -> None:
    run = play(Run(CHAIN), 2)
    states = States(3)
    states.add(1, rename("depth", "level"))
    states.add(2, rename("level", "depth"))
    kept = {**run.state.snapshot(), "depth": 4}
    for version, snapshot in ((1, kept), (2, rename("depth", "level")(kept)), (3, kept)):
        restored = states.restore(snapshot, version, {"x": 1})
        assert (restored.depth, restored.ctx, restored.workload) == (4, run.state.ctx, {"x": 1})
    assert States(2).restore(kept, 1, {}).depth == 4, "without an upcaster it is as it was"
    with pytest.raises(NewerSchema, match="version 4, known is 3"):
        states.restore(kept, 4, {})
