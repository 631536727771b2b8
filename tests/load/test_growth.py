from __future__ import annotations

import pytest

from .growth import Bound, growth


def test_what_stays_is_within() -> None:
    assert growth("memory", [100, 104, 98, 101, 103, 99, 102, 100, 101], Bound(1.1, 0)).within


def test_a_slow_leak_is_not() -> None:
    leak = growth("memory", [100 + 3 * number for number in range(30)], Bound(1.1, 10))
    assert not leak.within
    assert str(leak) == "memory: 113.5 -> 173.5, allowed 134.9"


def test_one_outlier_is_no_growth() -> None:
    assert growth("backlog", [5, 5, 5, 5, 5, 5, 5, 900, 5], Bound(1.5, 1)).within


def test_from_nothing_only_the_slack_is_allowed() -> None:
    samples = [0, 0, 0, 0, 3, 3]
    assert growth("connections", samples, Bound(1.0, 3)).within
    assert not growth("connections", samples, Bound(1.0, 2)).within


def test_a_fall_is_within() -> None:
    assert growth("lag", [9, 8, 7, 6, 5, 4], Bound(1.0, 0)).within


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="5 samples"):
        growth("memory", [1, 2, 3, 4, 5], Bound(1, 0))
