"""The turns of a step on a cycle, folded: thousands of them are one line, and the few that tell something stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

# turns of one step that are told one by one, whatever they are
MAX_UNFOLDED = 4
# of one step, turns beside the first and the last that are told because they did not end well
MAX_EXCEPTIONS = 20
EXPECTED = frozenset({"done", "skipped"})


class CycleTurn(Protocol):
    name: str

    @property
    def label(self) -> str:
        """How it stands, in a word."""


T = TypeVar("T", bound=CycleTurn)


@dataclass(frozen=True, slots=True)
class Folded(Generic[T]):
    """Turns of one step that are not told one by one, in order."""

    turns: list[T]

    @property
    def label(self) -> str:
        """`4990 done, 8 failed`."""
        return ", ".join(f"{times} {how}" for how, times in Counter(turn.label for turn in self.turns).items())


def folded(turns: Iterable[T]) -> list[T | Folded[T]]:
    """The turns of all steps, in order; of a step with more than a few, its first one, then the rest as one, and by
    themselves the last one and of those that have not ended well the first MOST."""
    known = list(turns)
    often = Counter(turn.name for turn in known)
    seen: Counter[str] = Counter()
    apart: Counter[str] = Counter()
    rest: dict[str, Folded[T]] = {}
    told: list[T | Folded[T]] = []
    for turn in known:
        name = turn.name
        seen[name] += 1
        if often[name] <= MAX_UNFOLDED or seen[name] in (1, often[name]):
            told.append(turn)
        elif turn.label not in EXPECTED and apart[name] < MAX_EXCEPTIONS:
            apart[name] += 1
            told.append(turn)
        elif name in rest:
            rest[name].turns.append(turn)
        else:
            rest[name] = Folded([turn])
            told.append(rest[name])
    return [_alone(item) for item in told]


class Folding(Generic[T]):
    """Turns folded as they end, when nobody knows yet which of a step is the last."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._apart: Counter[str] = Counter()
        self._held: dict[str, list[T]] = {}

    def add(self, turn: T) -> list[T | Folded[T]]:
        """What is to be told at once: of each step the first few turns, and of those that have not ended well the first
        MOST, behind those of the step that came before and were not told."""
        name = turn.name
        self._seen[name] += 1
        if self._seen[name] <= MAX_UNFOLDED:
            return [turn]
        if turn.label not in EXPECTED and self._apart[name] < MAX_EXCEPTIONS:
            self._apart[name] += 1
            before = self._held.pop(name, [])
            return [_alone(Folded(before)), turn] if before else [turn]
        self._held.setdefault(name, []).append(turn)
        return []

    def flush(self) -> Iterator[T | Folded[T]]:
        """Those that were not told, at the end: of each step the last one by itself, and those before it as one."""
        for turns in self._held.values():
            *before, last = turns
            if before:
                yield _alone(Folded(before))
            yield last


def _alone(item: T | Folded[T]) -> T | Folded[T]:
    return item.turns[0] if isinstance(item, Folded) and len(item.turns) == 1 else item
