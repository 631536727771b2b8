"""When what was kept in quarantine took effect: once its execution went on, whenever it came."""

from __future__ import annotations

from typing import Any

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.inspection.quarantine_periods import EffectiveTimes

APART: dict[str, Any] = {"error": {}, e.QUARANTINED: {}}


Given = tuple[str, int] | tuple[str, int, int | None] | tuple[str, int, None, dict[str, Any]]


def log(*events: Given) -> list[Event]:
    found = []
    for seq, (kind, at, *more) in enumerate(events, 1):
        cause, payload = [*more, None, None][:2]
        found.append(
            Event(kind, at, seq=seq, cause=cause, step="a", generation=1, command_id="a#1", payload=dict(payload or {}))
        )
    return found


def effects(*events: Given) -> list[int]:
    found = log(*events)
    times = EffectiveTimes(found)
    return [times.at(event) for event in found]


def test_without_quarantine_everything_took_effect_when_it_happened() -> None:
    assert effects((e.STARTED, 5), (e.ISSUED, 5, 1), (e.CALL_DONE, 3)) == [5, 5, 3]


def test_what_was_kept_and_what_follows_from_it_took_effect_when_the_execution_went_on() -> None:
    found = log(
        (e.STARTED, 1),
        (e.FAILED, 10, None, APART),
        (e.RETRIED, 50),
        (e.TIMER_FIRED, 10),
        (e.ISSUED, 10, 4),
        (e.CALL_DONE, 60),
    )
    times = EffectiveTimes(found)
    assert [times.at(event) for event in found] == [1, 10, 50, 50, 50, 60]
    assert [times.was_kept(event) for event in found] == [False, False, False, True, False, False]
    [period] = times.periods
    assert (period.since, period.until, period.ended_by, period.ms) == (10, 50, e.RETRIED, 40)


def test_a_second_stay_begins_when_what_led_to_it_took_effect() -> None:
    found = log(
        (e.FAILED, 10, None, APART), (e.RETRIED, 50), (e.FAILED, 10, None, APART), (e.RETRIED, 70), (e.CALL_DONE, 10)
    )
    assert [(period.since, period.until) for period in EffectiveTimes(found).periods] == [(10, 50), (50, 70)]
    assert EffectiveTimes(found).at(found[-1]) == 70


def test_what_was_dropped_or_cancelled_changes_no_time() -> None:
    for kind in (e.DROPPED, e.CANCELLED):
        found = log((e.FAILED, 10, None, APART), (kind, 50), (e.CALL_DONE, 20))
        assert EffectiveTimes(found).at(found[-1]) == 20
        assert [period.ended_by for period in EffectiveTimes(found).periods] == [kind]


def test_a_command_that_was_out_waits_for_a_worker_anew_since_the_retry() -> None:
    found = log((e.ISSUED, 5, 1), (e.FAILED, 10, None, APART), (e.RETRIED, 50))
    times = EffectiveTimes(found)
    assert times.queued_since(found[0], 52) == 50
    assert times.queued_since(found[0], 7) == 5, "a worker had begun it before"
    assert times.queued_since(found[0], None) == 5
