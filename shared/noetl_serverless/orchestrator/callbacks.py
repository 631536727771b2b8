"""Callback URLs: each is for the next end of a wait for its signal.

The *round* of a URL counts the waits for the signal that had ended when it was made: of all steps, and each item of a
loop. When another one has ended, by whichever signal or at its time, or because its step has, the URL is over: what it
was to decide is decided, and its answer must not reach the next wait of a loop or a cycle.
"""

from __future__ import annotations

from ..engine.state import State, takes
from ..errors import Conflict, Problem


class CallbackOver(Problem):
    status, code, title = 410, "callback.over", "Nothing waits for this answer any more"


class CallbackAnswered(Conflict):
    code, title = "callback.answered", "There is an answer already"


def round_of(state: State, signal: str) -> int:
    return state.ended_waits.get(signal, 0)


def check_open(state: State, signal: str, round: int, *, approval: bool) -> None:
    """Raises CallbackOver or CallbackAnswered if the wait that a URL is for has ended, or has its answer: of an
    approval, a decision."""
    if round_of(state, signal) != round:
        raise CallbackOver(f"the wait for '{signal}' that this URL was made for has ended")
    if any(takes(signal, approval, kept) for kept in state.signals):
        raise CallbackAnswered(f"'{signal}' has been answered already; the answer is kept for the wait")
