"""Which arcs lead back, which steps join, and what can be reached from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Graph:
    """`arcs`: of each step the targets, in order."""

    def __init__(self, arcs: Mapping[str, Sequence[str]], entry: str) -> None:
        self._arcs = arcs
        self._back = _back(arcs, entry)
        self._sources: dict[str, set[str]] = {name: set() for name in arcs}
        for source, targets in arcs.items():
            for target in targets:
                if not self.leads_back(source, target):
                    self._sources[target].add(source)
        self._reach = {name: _reached(arcs, name) for name in arcs}
        self._bodies = {head: self._body(head) for _, head in self._back}
        self._held: dict[tuple[str, str], bool] = {}

    def leads_back(self, source: str, target: str) -> bool:
        return (source, target) in self._back

    def joins(self, step: str) -> bool:
        """Whether several steps lead there, back-edges apart."""
        return len(self._sources[step]) > 1

    def body(self, head: str) -> set[str]:
        """The cycle that begins at `head`: what leads to the arcs back without passing through it, and itself."""
        return self._bodies.get(head, set())

    def reaches(self, source: str, target: str) -> bool:
        """By one arc at least."""
        return target in self._reach[source]

    def holds_up(self, source: str, join: str) -> bool:
        """Whether what is at `source` may still arrive at `join` in the same generation.

        What would first have to go back to the head of a cycle that `join` is in comes there as another one.
        """
        key = (source, join)
        if key not in self._held:
            self._held[key] = self._arrives(source, join)
        return self._held[key]

    def _body(self, head: str) -> set[str]:
        found, todo = {head}, [source for source, target in self._back if target == head]
        while todo:
            step = todo.pop()
            if step not in found:
                found.add(step)
                todo += [source for source, targets in self._arcs.items() if step in targets]
        return found

    def _arrives(self, source: str, join: str) -> bool:
        seen, todo = set(), [source]
        while todo:
            step = todo.pop()
            for target in self._arcs[step]:
                if self.leads_back(step, target) and (target == join or self._same_cycle(target, join)):
                    continue
                if target == join:
                    return True
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return False

    def _same_cycle(self, one: str, other: str) -> bool:
        return self.reaches(one, other) and self.reaches(other, one)


def _reached(arcs: Mapping[str, Sequence[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for target in arcs[todo.pop()]:
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def _back(arcs: Mapping[str, Sequence[str]], entry: str) -> set[tuple[str, str]]:
    """Arcs to a step that lies on the way from the entry to their source, depth first in the order of the arcs."""
    found: set[tuple[str, str]] = set()
    done: set[str] = set()
    for root in (entry, *arcs):
        way: list[tuple[str, list[str]]] = [] if root in done else [(root, list(arcs[root]))]
        while way:
            step, rest = way[-1]
            if not rest:
                done.add(step)
                way.pop()
                continue
            target = rest.pop(0)
            if any(target == earlier for earlier, _ in way):
                found.add((step, target))
            elif target not in done:
                way.append((target, list(arcs[target])))
    return found
