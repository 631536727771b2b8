"""Turns for whoever waits: frequent while somebody is found, rare while a loop is all that there is."""

from __future__ import annotations

from noetl_serverless.worker.turns import FIRST_PAUSE, LONGEST_PAUSE, Turns


def paused(turns: Turns, since: float) -> float:
    """The pause before the next turn, to a hundredth of a second, which is then taken."""
    steps = 1
    while not turns.comes(since + steps * 0.01 + 0.001):
        steps += 1
    assert turns.due, "the turn has come, and no slot is kept for it"
    turns.take()
    assert not turns.due
    return steps * 0.01 + 0.001


def test_turns_at_which_nobody_else_is_found_become_rare_but_never_cease() -> None:
    turns, now, pauses = Turns(0.0), 0.0, []
    for _ in range(6):
        pauses.append(paused(turns, now))
        now += pauses[-1]
        turns.found(False)
    assert [round(pause, 1) for pause in pauses] == [0.1, 0.2, 0.4, 0.8, 0.8, 0.8]
    assert round(max(pauses), 1) == LONGEST_PAUSE


def test_turns_are_frequent_again_once_somebody_is_found_or_heard_of() -> None:
    turns, now = Turns(0.0), 0.0
    for others in (False, False, False, True):
        now += paused(turns, now)
        turns.found(others)
    assert round(paused(turns, now), 1) == FIRST_PAUSE
    for _ in range(3):
        turns.found(False)
    turns.hear()
    assert not turns.comes(now + 0.11 + FIRST_PAUSE / 2), "a turn comes before its pause is over"
    assert turns.comes(now + 0.11 + FIRST_PAUSE + 0.01), "somebody was heard of, and waits for the longest pause"
