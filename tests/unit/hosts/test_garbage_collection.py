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


def test_nothing_is_looked_through_while_a_function_is_loaded_nor_what_it_has_loaded_afterwards() -> None:
    before = sum(generation["collections"] for generation in gc.get_stats())
    with garbage_collection.paused():
        loaded: list[list[object]] = [[] for _ in range(2 * garbage_collection.YOUNG)]
        during = sum(generation["collections"] for generation in gc.get_stats())
    assert during == before, "the collector ran while the function was loaded"
    assert gc.isenabled(), "the collector stays off"
    assert not any(each is loaded[-1] for each in gc.get_objects()), "the first collection looks at all that was loaded"


def test_the_collector_is_on_again_after_a_load_that_failed() -> None:
    with pytest.raises(ValueError, match="wrong"), garbage_collection.paused():
        raise ValueError("wrong")
    assert gc.isenabled(), "the collector stays off"
