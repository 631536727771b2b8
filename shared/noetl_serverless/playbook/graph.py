"""The graph of steps: its back-edges, the bodies of its cycles, and which steps each step reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

Arcs = Mapping[str, Sequence[str]]


def back_arcs(arcs: Arcs, entry: str) -> set[tuple[str, int]]:
    """The back-edges as (source, index): each leads to a step on the path from the entry to its source in a
    depth-first search.

    Steps that the entry does not reach are searched afterwards, in the order of the document.
    """
    found: set[tuple[str, int]] = set()
    done: set[str] = set()
    for root in (entry, *arcs):
        if root not in done:
            _search(arcs, root, done, found)
    return found


def _search(arcs: Arcs, root: str, done: set[str], found: set[tuple[str, int]]) -> None:
    stack: list[tuple[str, Iterator[tuple[int, str]]]] = [(root, iter(enumerate(arcs[root])))]
    on_stack = {root}
    while stack:
        step, rest = stack[-1]
        for index, target in rest:
            if target in on_stack:
                found.add((step, index))
            elif target not in done:
                stack.append((target, iter(enumerate(arcs[target]))))
                on_stack.add(target)
                break
        else:
            stack.pop()
            on_stack.discard(step)
            done.add(step)


def bodies(arcs: Arcs, back_edges: set[tuple[str, int]]) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """For each target of back-edges: the steps they come from, and the body of its cycle, that is the step itself and
    all steps that lead to one of these without passing through it."""
    back_sources: dict[str, set[str]] = {}
    for source, index in back_edges:
        back_sources.setdefault(arcs[source][index], set()).add(source)
    predecessors: dict[str, list[str]] = {name: [] for name in arcs}
    for source, targets in arcs.items():
        for target in targets:
            predecessors[target].append(source)
    cycle_bodies = {}
    for header, sources in back_sources.items():
        body, queue = {header}, list(sources)
        while queue:
            step = queue.pop()
            if step not in body:
                body.add(step)
                queue += predecessors[step]
        cycle_bodies[header] = frozenset(body)
    return {header: frozenset(sources) for header, sources in back_sources.items()}, cycle_bodies


class Reach(Mapping[str, Set[str]]):
    """Step -> the steps reached from it by one arc or more."""

    __slots__ = ("_bits", "_masks")

    def __init__(self, arcs: Arcs) -> None:
        self._bits = {name: bit for bit, name in enumerate(arcs)}
        self._masks = _masks(arcs)

    def __getitem__(self, step: str) -> Set[str]:
        return Reached(self._bits, self._masks[step])

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)


class Reached(Set[str]):
    """The steps whose bits are in `mask`. Asking for one costs the same for any number of steps."""

    __slots__ = ("_bits", "_mask")

    def __init__(self, bits: Mapping[str, int], mask: int) -> None:
        self._bits = bits
        self._mask = mask

    def __contains__(self, step: object) -> bool:
        bit = self._bits.get(step)  # type: ignore[call-overload]
        return bit is not None and bool(self._mask >> bit & 1)

    def __iter__(self) -> Iterator[str]:
        return (name for name, bit in self._bits.items() if self._mask >> bit & 1)

    def __len__(self) -> int:
        return self._mask.bit_count()

    @classmethod
    def _from_iterable(cls, steps: Iterable[str]) -> frozenset[str]:  # type: ignore[override]
        return frozenset(steps)


def _masks(arcs: Arcs) -> dict[str, int]:
    """Step -> a bit for each step that it reaches."""
    bits = {name: 1 << bit for bit, name in enumerate(arcs)}
    masks = dict.fromkeys(arcs, 0)
    order = _postorder(arcs)
    changed = True
    while changed:
        changed = False
        for step in order:
            mask = masks[step]
            for target in arcs[step]:
                mask |= bits[target] | masks[target]
            if mask != masks[step]:
                masks[step], changed = mask, True
    return masks


def _postorder(arcs: Arcs) -> list[str]:
    order: list[str] = []
    seen: set[str] = set()
    for root in arcs:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(arcs[root]))]
        while stack:
            step, rest = stack[-1]
            target = next((name for name in rest if name not in seen), None)
            if target is None:
                stack.pop()
                order.append(step)
            else:
                seen.add(target)
                stack.append((target, iter(arcs[target])))
    return order
