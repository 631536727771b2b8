"""Turns go around among keys by their weights, and within a key to whoever came first."""

from __future__ import annotations

import pytest

from noetl_serverless.tools.fair_queue import FairQueue, Share


def queue(*items: str, **weights: int) -> FairQueue[str]:
    """Of items whose first letter is their key."""
    made: FairQueue[str] = FairQueue()
    for item in items:
        made.add(Share(item[0], weights.get(item[0], 1)), item)
    return made


def drained(waiting: FairQueue[str]) -> list[str]:
    found = []
    while waiting:
        found.append(waiting.pop())
    return found


def test_one_of_each_key_in_turn() -> None:
    assert drained(queue("a1", "a2", "a3", "b1", "a4", "c1", "b2")) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_whoever_comes_last_has_a_turn_after_one_of_each_other() -> None:
    waiting = queue("a1", "a2", "a3", "b1", "b2")
    assert [waiting.pop(), waiting.pop()] == ["a1", "b1"]
    waiting.add(Share("c"), "c1")
    assert drained(waiting) == ["a2", "b2", "c1", "a3"]


def test_turns_are_in_proportion_to_weights() -> None:
    found = drained(queue(*(f"{key}{number}" for number in range(40) for key in "ab"), a=3, b=1))
    assert [sum(item[0] == "b" for item in found[:count]) for count in (4, 20, 40)] == [1, 5, 10]


def test_whoever_comes_often_and_is_never_two_has_no_more_turns_than_it_weighs() -> None:
    waiting = queue(*(f"a{number}" for number in range(40)), "b", a=3)
    found = []
    for _ in range(20):
        found.append(waiting.pop())
        if found[-1] == "b":
            waiting.add(Share("b", 1), "b")
    assert found.count("b") == 5, "with each call it came anew, and had a turn before its time"


def test_nobody_waits_for_ever_behind_those_that_come_anew() -> None:
    waiting = queue("a1")
    for number in range(3):
        waiting.add(Share(f"new{number}", 1), f"new{number}")
    found = []
    for number in range(3, 30):
        found.append(waiting.pop())
        waiting.add(Share(f"new{number}", 1), f"new{number}")
    assert "a1" in found[:4]


def test_whoever_went_has_no_turn() -> None:
    waiting = queue("a1", "a2", "b1")
    waiting.discard(Share("a"), "a1")
    waiting.discard(Share("b"), "b1")
    waiting.discard(Share("b"), "b1")
    waiting.discard(Share("a"), "of another")
    assert list(waiting) == ["a2"]
    assert drained(waiting) == ["a2"]


def test_with_nobody_in_it_there_is_no_turn() -> None:
    assert not queue()
    with pytest.raises(IndexError):
        queue().pop()
