"""Effects that were doubled, lost, late or nobody's are found, and errors that are not those predicted."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from . import checks
from .checks import GRACE, End
from .effects import Effect, Effects, answer_to
from .kinds import BY_NAME, EFFECTS, EFFECTS_CANCELLED
from .predictions import effects_of, prediction_of
from .users import Accepted

ONE = Accepted("7", EFFECTS, {"n": 2, "url": "http://127.0.0.1:1"})
RESULT = prediction_of(EFFECTS, ONE.payload, "7").result
DONE = End("chaos/effects", "COMPLETED", {"data": RESULT}, None, 1000.0, given_up=False)
SOUND = [Effect("7", name, f"key of {name}", 990.0) for name in effects_of(prediction_of(EFFECTS, ONE.payload, "7"))]


def rules(effects: list[Effect], end: End = DONE, one: Accepted = ONE) -> list[str]:
    return [finding.rule for finding in checks.effects([one], {"7": end}, effects)]


def test_what_is_done_again_under_the_same_key_is_sound() -> None:
    assert rules(SOUND + SOUND[:3]) == []


def test_an_effect_that_is_done_again_under_another_key_is_found() -> None:
    assert rules([*SOUND, replace(SOUND[2], key="another")]) == ["one effect under several keys"]


def test_two_effects_under_one_key_are_found() -> None:
    assert rules([SOUND[0], replace(SOUND[1], key=SOUND[0].key), *SOUND[2:]]) == ["one key for several effects"]


def test_an_effect_without_a_key_is_found() -> None:
    assert rules([*SOUND[1:], replace(SOUND[0], key="")]) == ["an effect without a key"]


def test_an_effect_that_is_missing_and_one_too_many_are_found() -> None:
    assert rules(SOUND[1:]) == ["an effect is missing"]
    assert rules([*SOUND, Effect("7", "other", "k", 990.0)]) == ["an effect that nobody asked for"]
    assert rules([*SOUND, Effect("8", "other", "k", 990.0)]) == ["an effect of an execution that has none"]


def test_an_effect_after_the_end_is_found() -> None:
    assert rules([*SOUND, replace(SOUND[0], at=DONE.at + GRACE - 1)]) == []
    assert rules([*SOUND, replace(SOUND[0], at=DONE.at + GRACE + 1)]) == ["an effect after the end"]


def test_a_turn_that_was_left_out_is_found() -> None:
    one = Accepted("7", EFFECTS_CANCELLED, {})
    end = End("chaos/effects_cancelled", "CANCELLED", None, None, 1000.0, given_up=False)
    turns = [Effect("7", f"turn/{turn}", str(turn), 990.0) for turn in range(4)]
    assert rules(turns, end, one) == []
    assert rules([*turns[:2], turns[3]], end, one) == ["an effect is missing"]


# -- ends


def ended(name: str, end: End) -> list[str]:
    kind = BY_NAME[name]
    one = Accepted("7", kind, kind.payload(4))
    return [finding.rule for finding in checks.ends([one], {"7": replace(end, path=kind.path)})]


@pytest.mark.parametrize("name", ["fails", "no_match", "child_fails", "loop_fails", "over_budget"])
def test_an_error_that_was_not_predicted_is_found(name: str) -> None:
    kind = BY_NAME[name]
    error = dict(prediction_of(kind, kind.payload(4), "7").error or {})
    failed = End("", "FAILED", None, error, 1000.0, given_up=False)
    assert ended(name, failed) == []
    for other in ({"code": "other"}, {"step": "other"}):
        assert ended(name, replace(failed, error={**error, **other})) == ["its error is another"]
    assert ended(name, replace(failed, status="COMPLETED")) == ["it ends otherwise"]


def test_what_was_given_up_may_fail_and_must_not_complete_otherwise() -> None:
    dead = End("", "FAILED", None, {"code": "command.delivery_limit", "step": "s1"}, 1000.0, given_up=True)
    assert ended("chain", dead) == []
    assert ended("chain", replace(dead, given_up=False)) == ["it ends otherwise"]
    assert ended("chain", replace(dead, status="COMPLETED", result={"data": {"n": 0}})) == ["its result is another"]


# -- the server


def test_the_server_takes_note_of_each_request_and_is_at_times_a_bad_one() -> None:
    effects = Effects()
    try:
        said = {"answered": 0, "refused": 0, "unanswered": 0}
        for number in range(40):
            for _ in range(2):
                url = f"{effects.url}/7/turn/{number}"
                request = urllib.request.Request(url, b"{}", {"Idempotency-Key": f"k{number}"}, method="POST")
                try:
                    with urllib.request.urlopen(request, timeout=10) as response:
                        assert response.status == 200
                        said["answered"] += 1
                except urllib.error.HTTPError:
                    said["refused"] += 1
                except OSError:
                    said["unanswered"] += 1
        assert all(said.values()), said
        assert said["answered"] >= 40, "what is asked again is answered"
        assert [effect.key for effect in effects.seen] == [f"k{number}" for number in range(40) for _ in range(2)]
        assert answer_to("turn/1") == answer_to("turn/1")
    finally:
        effects.close()
