"""Callback URLs: each is for the next end of a wait for its signal.

The *round* of a URL counts the runs that had ended, when it was made, of the steps that wait for the signal. When
another of them has ended, by whichever signal or at its time, the URL is over: what it was to decide is decided, and
its answer must not reach the next wait of a cycle. The name of a signal that a template gives to a wait, and not the
same template to the URL, is not known before; such a URL is good until the execution ends.
"""

from __future__ import annotations

from collections import Counter

from ..engine.state import State
from ..errors import Conflict, Problem
from ..playbook.callbacks import steps_that_wait
from ..playbook.plan import KeychainEntry, Plan


class CallbackOver(Problem):
    status, code, title = 410, "callback.over", "Nothing waits for this answer any more"


class CallbackAnswered(Conflict):
    code, title = "callback.answered", "There is an answer already"


def round_of(plan: Plan, entry: KeychainEntry, state: State) -> int:
    """`entry`: of kind callback."""
    running = Counter(token.step for token in state.tokens.values())
    return sum(state.generations.get(step, 0) - running[step] for step in steps_that_wait(plan, entry))


def check_open(state: State, signal: str, round: int, current_round: int) -> None:
    """Raises CallbackOver or CallbackAnswered if the wait that a URL is for has ended, or has its answer."""
    if current_round != round:
        raise CallbackOver(f"the wait for '{signal}' that this URL was made for has ended")
    if any(kept.name == signal for kept in state.signals):
        raise CallbackAnswered(f"'{signal}' has been answered already; the answer is kept for the wait")
