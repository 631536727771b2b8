"""What one claim takes of each execution: in proportion to weights in the long run, and of everybody before long."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from noetl_serverless.limits import MAX_WEIGHT, WEIGHT
from noetl_serverless.store.shares import Waiting, draw, shares


def busy(*weights: int) -> list[Waiting]:
    """Executions of a playbook each."""
    return [Waiting(place, weight, idle=False) for place, weight in enumerate(weights)]


def idle(*weights: int) -> list[Waiting]:
    return [Waiting(-1 - place, weight, idle=True) for place, weight in enumerate(weights)]


def runs(playbook: int, count: int, *, idle: bool) -> list[Waiting]:
    return [Waiting(playbook, WEIGHT, idle) for _ in range(count)]


def longest_wait(waiting: list[Waiting], place: int, claims: int) -> int:
    """In claims of one command each, of the execution at this place."""
    turns = [n for n in range(1, claims) if shares(waiting, 1, draw(n))[place]]
    return max(after - before for before, after in zip([0, *turns], [*turns, claims], strict=True))


@pytest.mark.parametrize("room", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("weights", [(1, 10, 50), (1, 100), (30, 20, 10, 10), (7, 13, 64)])
def test_in_the_long_run_each_has_its_part(weights: tuple[int, ...], room: int) -> None:
    claims, total = 2000, Counter[int]()
    for n in range(1, claims + 1):
        given = shares(busy(*weights), room, draw(n))
        assert sum(given) == room
        total.update(dict(enumerate(given)))
    for place, weight in enumerate(weights):
        assert total[place] / (claims * room) == pytest.approx(weight / sum(weights), abs=0.003)


@pytest.mark.parametrize("room", [1, 2, 3, 8])
def test_a_playbook_has_no_more_for_having_many_runs(room: int) -> None:
    waiting = [*runs(1, 50, idle=True), *runs(2, 10, idle=True)]
    claims, total = 2000, Counter[int]()
    for n in range(1, claims + 1):
        total.update(dict(enumerate(shares(waiting, room, draw(n)))))
    assert sum(total[place] for place in range(50)) == pytest.approx(claims * room / 2, rel=0.003)


@pytest.mark.parametrize("others", [(100,), (100, 100), (10,) * 20, (100,) * 63, (1, 2, 3), (2,)])
def test_the_lightest_waits_for_twice_its_part_of_the_claims_at_most(others: tuple[int, ...]) -> None:
    waiting = idle(1, *others)
    assert longest_wait(waiting, 0, 40_000) <= 2 * (1 + sum(others)), "it starves"


def test_of_what_has_nothing_running_each_has_one_before_what_has_whatever_it_weighs() -> None:
    waiting = [*busy(MAX_WEIGHT, MAX_WEIGHT), *idle(1, 2)]
    for n in range(1, 300):
        assert shares(waiting, 2, draw(n)) == [0, 0, 1, 1]
        assert shares(waiting, 1, draw(n))[:2] == [0, 0]


def test_within_a_playbook_it_goes_evenly_and_to_the_first_in_turn() -> None:
    assert shares(runs(1, 5, idle=False), 12, 0) == [3, 3, 2, 2, 2]
    assert shares(runs(1, 5, idle=True), 3, 0) == [1, 1, 1, 0, 0]
    # one for each of which nothing runs, and then first for the others
    both = [*runs(1, 2, idle=True), *runs(1, 2, idle=False)]
    assert shares(both, 3, 0) == [1, 1, 1, 0]
    assert shares(both, 6, 0) == [2, 2, 1, 1]


def test_no_more_than_there_is_room_for_is_given() -> None:
    chance = Random(7)
    for n in range(2000):
        waiting = [
            Waiting(chance.randint(-2, 2), chance.randint(1, 100), chance.random() < 0.5)
            for _ in range(chance.randint(1, 64))
        ]
        room = chance.randint(1, 80)
        given = shares(waiting, room, draw(n))
        assert len(given) == len(waiting)
        assert min(given) >= 0
        assert sum(given) == room
