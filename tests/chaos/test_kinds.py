"""What is run, predicted by the oracle, against what was thought out by hand."""

from __future__ import annotations

import pytest

from .kinds import BY_NAME, KINDS, Kind
from .predictions import effects_of, prediction_of

BY_HAND = [kind for kind in KINDS if kind.result is not None]


@pytest.mark.parametrize("kind", BY_HAND, ids=lambda kind: kind.name)
def test_the_oracle_says_what_was_thought_out_by_hand(kind: Kind) -> None:
    for number in (0, 1, 2, 3, 6, 11):
        payload = kind.payload(number)
        assert kind.result is not None
        prediction = prediction_of(kind, payload, "7")
        assert (prediction.status, prediction.result) == ("completed", kind.result(payload))


@pytest.mark.parametrize(
    ("name", "code", "step"),
    [
        ("fails", "python.exception", "wrong"),
        ("no_match", "routing.no_match", "ask"),
        ("nothing_there", "template.error", "ask"),
        ("child_fails", "child.failed", "call"),
        ("loop_fails", "loop.item_failed", "every"),
        ("over_budget", "budget.exceeded", "turn"),
        ("overdue", "execution.timeout", None),
    ],
)
def test_what_is_to_fail_fails_where_and_why_it_should(name: str, code: str, step: str | None) -> None:
    prediction = prediction_of(BY_NAME[name], BY_NAME[name].payload(5), "7")
    assert prediction.error is not None
    assert (prediction.status, prediction.error["code"], prediction.error.get("step")) == ("failed", code, step)


def test_each_effect_has_a_name_of_its_own() -> None:
    kind = BY_NAME["effects"]
    names = effects_of(prediction_of(kind, {**kind.payload(1), "url": "http://127.0.0.1:1"}, "7"))
    assert names == ["one", "many/0", "many/1", "many/2", "many/3", "before/0", "after/0", "before/1", "after/1"]
    assert len(set(names)) == len(names)


def test_each_row_that_is_claimed_has_an_effect() -> None:
    kind = BY_NAME["claimed"]
    prediction = prediction_of(kind, {"n": 5, "url": "http://127.0.0.1:1"}, "7")
    assert effects_of(prediction) == [f"row/{n}" for n in range(1, 6)]
    assert len(prediction.result) == 5
