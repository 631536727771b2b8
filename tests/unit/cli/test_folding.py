from __future__ import annotations

from dataclasses import dataclass

import pytest

from noetl_serverless.cli.folding import MAX_EXCEPTIONS, MAX_UNFOLDED, Folded, Folding, folded


@dataclass
class One:
    name: str
    number: int
    label: str = "done"


def short(turns: list[One]) -> list[str]:
    return [
        f"{item.turns[0].number}-{item.turns[-1].number}: {item.label}"
        if isinstance(item, Folded)
        else str(item.number)
        for item in folded(turns)
    ]


def test_thousands_of_turns_are_the_first_the_rest_and_the_last() -> None:
    turns = [One("a", number) for number in range(1, 5001)]
    assert short(turns) == ["1", "2-4999: 4998 done", "5000"]


@pytest.mark.parametrize("count", [1, MAX_UNFOLDED])
def test_a_few_turns_are_shown_one_by_one(count: int) -> None:
    turns = [One("a", number) for number in range(1, count + 1)]
    assert folded(turns) == turns


def test_those_that_failed_are_kept_as_long_as_they_are_not_too_many() -> None:
    turns = [One("a", number, "failed" if number in (7, 9) else "done") for number in range(1, 101)]
    assert short(turns) == ["1", "2-99: 96 done", "7", "9", "100"]
    turns = [One("a", number, "failed") for number in range(1, 5001)]
    label = short(turns)
    assert len(label) == MAX_EXCEPTIONS + 3, "the failed ones are not bounded"
    assert label[-2:] == [f"{MAX_EXCEPTIONS + 2}-4999: {4998 - MAX_EXCEPTIONS} failed", "5000"]


def test_each_step_is_folded_by_itself_in_the_order_in_which_they_began() -> None:
    turns = [One(name, number) for number in range(1, 11) for name in ("a", "b")] + [One("end", 1)]
    assert [item.turns[0].name if isinstance(item, Folded) else item.name for item in folded(turns)] == [
        *("a", "b"),
        *("a", "b"),
        *("a", "b"),
        "end",
    ]


def test_one_turn_alone_is_not_folded() -> None:
    turns = [One("a", number, "failed" if number in (2, 3) else "done") for number in range(1, 6)]
    assert short(turns) == ["1", "2", "3", "4", "5"]


def word(item: One | Folded[One]) -> str:
    if isinstance(item, Folded):
        return f"{item.turns[0].number}-{item.turns[-1].number}: {item.label}"
    return str(item.number)


def as_they_end(turns: list[One]) -> tuple[list[str], list[str]]:
    """What is label at once, and what is label at the end."""
    folding: Folding[One] = Folding()
    now = [word(item) for turn in turns for item in folding.add(turn)]
    return now, [word(item) for item in folding.flush()]


def test_turns_that_end_one_by_one_are_folded_once_there_are_many() -> None:
    now, rest = as_they_end([One("a", number) for number in range(1, 2501)])
    assert now == [str(number) for number in range(1, MAX_UNFOLDED + 1)]
    assert rest == [f"{MAX_UNFOLDED + 1}-2499: {2499 - MAX_UNFOLDED} done", "2500"]
    assert as_they_end([One("a", number) for number in range(1, MAX_UNFOLDED + 1)])[1] == []
    assert as_they_end([One("a", number) for number in range(1, MAX_UNFOLDED + 3)])[1] == [
        str(MAX_UNFOLDED + 1),
        str(MAX_UNFOLDED + 2),
    ]


def test_a_turn_that_fails_is_shown_at_once_behind_those_before_it_unless_very_many_do() -> None:
    now, rest = as_they_end([One("a", n, "failed" if n in (70, 90) else "done") for n in range(1, 101)])
    before = [f"{MAX_UNFOLDED + 1}-69: {69 - MAX_UNFOLDED} done", "70", "71-89: 19 done", "90"]
    assert now == [*(str(number) for number in range(1, MAX_UNFOLDED + 1)), *before]
    assert rest == ["91-99: 9 done", "100"]
    now, _ = as_they_end([One("a", n, "failed") for n in range(1, 1001)])
    assert len(now) == MAX_UNFOLDED + MAX_EXCEPTIONS


def test_the_turns_of_two_steps_are_folded_apart() -> None:
    _, rest = as_they_end([One(name, number) for number in range(1, 101) for name in ("a", "b")])
    assert rest == [f"{MAX_UNFOLDED + 1}-99: {99 - MAX_UNFOLDED} done", "100"] * 2
