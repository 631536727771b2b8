from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from noetl_serverless.hosts import garbage_collection


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_is_there_at_the_start_is_never_looked_at_again() -> None:
    kept: list[object] = [[]]
    garbage_collection.tune()
    assert not any(each is kept for each in gc.get_objects()), "the collector still looks at what was there"
    later: list[object] = [[]]
    assert any(each is later for each in gc.get_objects()), "the collector has been turned off for what comes later"


def test_the_young_are_looked_through_less_often_and_the_old_as_often_in_proportion() -> None:
    gc.set_threshold(700, 7, 5)
    garbage_collection.tune()
    assert gc.get_threshold() == (garbage_collection.YOUNG, 7, 5)


def test_a_circle_is_still_collected() -> None:
    garbage_collection.tune()

    class Circle:
        ended = 0

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            Circle.ended += 1

    for _ in range(2 * garbage_collection.YOUNG):
        Circle()
    assert Circle.ended > 0, "garbage piles up"
