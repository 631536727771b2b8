"""Turns go around among keys, and within a key to whoever came first."""

from __future__ import annotations

import pytest

from noetl_serverless.tools.fair_queue import FairQueue


def queue(*items: str) -> FairQueue[str]:
    """Of items whose first letter is their key."""
    made: FairQueue[str] = FairQueue()
    for item in items:
        made.add(item[0], item)
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
    waiting.add("c", "c1")
    assert drained(waiting) == ["a2", "b2", "c1", "a3"]


def test_whoever_went_has_no_turn() -> None:
    waiting = queue("a1", "a2", "b1")
    waiting.discard("a", "a1")
    waiting.discard("b", "b1")
    waiting.discard("b", "b1")
    waiting.discard("a", "of another")
    assert list(waiting) == ["a2"]
    assert drained(waiting) == ["a2"]


def test_with_nobody_in_it_there_is_no_turn() -> None:
    assert not queue()
    with pytest.raises(IndexError):
        queue().pop()
