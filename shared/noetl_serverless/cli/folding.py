"""Folds the turns of a step on a cycle: thousands become one line, failed ones are shown separately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

# up to this many turns of one step are shown one by one
MAX_UNFOLDED = 4
# turns of one step, besides the first and the last, that are shown because they did not end well
MAX_EXCEPTIONS = 20
EXPECTED = frozenset({"done", "skipped"})


class StepRun(Protocol):
    name: str

    @property
    def label(self) -> str:
        """Its state, in one word."""


T = TypeVar("T", bound=StepRun)


@dataclass(frozen=True, slots=True)
class Folded(Generic[T]):
    """Turns of one step that are shown as one line, in order."""

    turns: list[T]

    @property
    def label(self) -> str:
        """`4990 done, 8 failed`."""
        return ", ".join(f"{times} {how}" for how, times in Counter(turn.label for turn in self.turns).items())


def folded(turns: Iterable[T]) -> list[T | Folded[T]]:
    """The turns of all steps, in order. If a step has more than MAX_UNFOLDED, the first, the last and the first
    MAX_EXCEPTIONS that did not end well are shown, and the others are folded into one."""
    all_turns = list(turns)
    counts = Counter(turn.name for turn in all_turns)
    seen: Counter[str] = Counter()
    exceptions: Counter[str] = Counter()
    folded_by_name: dict[str, Folded[T]] = {}
    shown: list[T | Folded[T]] = []
    for turn in all_turns:
        name = turn.name
        seen[name] += 1
        if counts[name] <= MAX_UNFOLDED or seen[name] in (1, counts[name]):
            shown.append(turn)
        elif turn.label not in EXPECTED and exceptions[name] < MAX_EXCEPTIONS:
            exceptions[name] += 1
            shown.append(turn)
        elif name in folded_by_name:
            folded_by_name[name].turns.append(turn)
        else:
            folded_by_name[name] = Folded([turn])
            shown.append(folded_by_name[name])
    return [_unfold_single(item) for item in shown]


class Folding(Generic[T]):
    """Folds turns while the execution runs, when the last one of a step is not known yet."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._exceptions: Counter[str] = Counter()
        self._unshown: dict[str, list[T]] = {}

    def add(self, turn: T) -> list[T | Folded[T]]:
        """What to show at once: the first MAX_UNFOLDED turns of a step, and the first MAX_EXCEPTIONS that did not end
        well, each after the folded turns before it."""
        name = turn.name
        self._seen[name] += 1
        if self._seen[name] <= MAX_UNFOLDED:
            return [turn]
        if turn.label not in EXPECTED and self._exceptions[name] < MAX_EXCEPTIONS:
            self._exceptions[name] += 1
            before = self._unshown.pop(name, [])
            return [_unfold_single(Folded(before)), turn] if before else [turn]
        self._unshown.setdefault(name, []).append(turn)
        return []

    def flush(self) -> Iterator[T | Folded[T]]:
        """At the end, the turns that have not been shown: the last turn of each step, and those before it folded into
        one."""
        for turns in self._unshown.values():
            *before, last = turns
            if before:
                yield _unfold_single(Folded(before))
            yield last


def _unfold_single(item: T | Folded[T]) -> T | Folded[T]:
    return item.turns[0] if isinstance(item, Folded) and len(item.turns) == 1 else item
