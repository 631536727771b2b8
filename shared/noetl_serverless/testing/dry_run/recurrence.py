"""Whether a path has come back to where it was: then it takes the same turn for ever, and need not be followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from ...engine.state import State
from ...engine.variables import values_of
from ..answers import Answers
from .decider import Choices


@dataclass(frozen=True, slots=True)
class Begun:
    """A run of a step, `step#generation`, and how many runs had begun by then, with it and with skipped ones."""

    key: str
    count: int


class Recurrence:
    """The situations in which the steps of one path began."""

    def __init__(self, answers: Answers, choices: Choices) -> None:
        self._answers = answers
        self._choices = choices
        # situation -> the step that began in it
        self._seen: dict[bytes, Begun] = {}

    def of(self, state: State) -> tuple[Begun, Begun] | None:
        """The step that begins now, after the earlier one that began in the same situation; None if there is no such
        step. Steps beside others are not looked at: of what these have done so far, the state holds a part."""
        balances = self._choices.balances
        if len(state.tokens) != 1 or balances is None:
            return None
        ((key, token),) = state.tokens.items()
        # beside this one, others may have begun and ended at once
        now = Begun(key, sum(state.generations.values()))
        situation = _digest(
            [
                token.step,
                state.ctx,
                values_of(state.variables),
                {name: _of_any_run(ref) for name, ref in state.ctx_refs.items()},
                {name: {**outcome, "ref": _of_any_run(outcome.get("ref"))} for name, outcome in state.outcomes.items()},
                state.waiting,
                state.last,
                state.spent,
                # whether a step has ever begun decides something, how often it has does not before max_turns
                list(state.generations),
                list(self._answers.taken_of_lists.items()),
                list(balances.items()),
            ]
        )
        earlier = self._seen.setdefault(situation, now)
        return (earlier, now) if earlier != now else None


def _of_any_run(ref: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The reference without the number of the run of its loop, which tells apart what is equally unknown."""
    if ref is None or ref["kind"] != "manifest":
        return ref
    return {**ref, "ref": str(ref["ref"]).rpartition("/")[0]}


def _digest(situation: list[Any]) -> bytes:
    # the order of keys and the type of a number are a part of it: templates can tell them apart
    return sha256(orjson.dumps(situation)).digest()
