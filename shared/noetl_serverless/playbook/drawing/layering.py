"""A layered layout: every edge leads downwards, through points that keep it clear of the nodes between.

Time and memory are bounded by the number of nodes and edges: long edges get such points only up to a limit in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

# points of edges between their ends, in all
MAX_BENDS: Final = 60_000
_SWEEPS: Final = 4
_BEND_WIDTH: Final = 12.0
_GAP: Final = 22.0


@dataclass(slots=True, eq=False)
class Vertex:
    """A node, or a point of an edge (with room for its label, if it has one there); `x` is its middle."""

    layer: int
    width: float
    x: float = 0.0
    above: list[Vertex] = field(default_factory=list)
    below: list[Vertex] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """`layers` from top to bottom, each from left to right. `routes`: the points of each edge between its ends."""

    nodes: Mapping[str, Vertex]
    layers: Sequence[Sequence[Vertex]]
    routes: Sequence[Sequence[Vertex]]


def layered(widths: Mapping[str, float], edges: Sequence[tuple[str, str, float]]) -> Layout:
    """`widths` of the nodes by name; `edges` as (from, to, width of the label), without cycles and self-loops."""
    depths = _depths(widths, edges)
    # nodes are in even layers: there is room for a label on every edge
    nodes = {name: Vertex(2 * depths[name], width) for name, width in widths.items()}
    routes: list[list[Vertex]] = [[] for _ in edges]
    left = MAX_BENDS
    for index in sorted(range(len(edges)), key=lambda index: depths[edges[index][1]] - depths[edges[index][0]]):
        source, target, label = edges[index]
        first, last = nodes[source], nodes[target]
        count = last.layer - first.layer - 1
        if count > left:
            count = 1
        left -= count
        bends = [Vertex(first.layer + 1 + place, _BEND_WIDTH) for place in range(count)]
        bends[0].width = max(_BEND_WIDTH, label)
        routes[index] = bends
        chain = [first, *bends, last]
        for upper, lower in pairwise(chain):
            upper.below.append(lower)
            lower.above.append(upper)
    layers = _layers([*nodes.values(), *(bend for bends in routes for bend in bends)])
    _order(layers)
    _place(layers)
    return Layout(nodes, layers, routes)


def _depths(widths: Mapping[str, float], edges: Sequence[tuple[str, str, float]]) -> dict[str, int]:
    """The longest path to each node."""
    below: dict[str, list[str]] = {name: [] for name in widths}
    waits = dict.fromkeys(widths, 0)
    for source, target, _ in edges:
        below[source].append(target)
        waits[target] += 1
    depths = dict.fromkeys(widths, 0)
    queue = [name for name, count in waits.items() if not count]
    for name in queue:
        for target in below[name]:
            depths[target] = max(depths[target], depths[name] + 1)
            waits[target] -= 1
            if not waits[target]:
                queue.append(target)
    return depths


def _layers(vertices: Sequence[Vertex]) -> list[list[Vertex]]:
    found: list[list[Vertex]] = [[] for _ in range(1 + max(vertex.layer for vertex in vertices))]
    for vertex in vertices:
        found[vertex.layer].append(vertex)
    return found


def _order(layers: list[list[Vertex]]) -> None:
    """Order each layer by the mean place of its neighbours in the one before, from above and from below in turn."""
    for layer in layers:
        _number(layer)
    for sweep in range(_SWEEPS):
        is_down = sweep % 2 == 0
        for layer in layers if is_down else reversed(layers):
            ranks = {id(vertex): _mean(vertex.above if is_down else vertex.below, vertex.x) for vertex in layer}
            layer.sort(key=lambda vertex: ranks[id(vertex)])
            _number(layer)


def _number(layer: list[Vertex]) -> None:
    """Places from -1 to 1, comparable between layers of different sizes."""
    for place, vertex in enumerate(layer):
        vertex.x = (2 * place + 1) / len(layer) - 1


def _place(layers: list[list[Vertex]]) -> None:
    """Give every vertex its middle: near its neighbours, beside those of its layer."""
    for layer in layers:
        x = 0.0
        for vertex in layer:
            vertex.x = x + vertex.width / 2
            x += vertex.width + _GAP
        for vertex in layer:
            vertex.x -= (x - _GAP) / 2
    for sweep in range(2 * _SWEEPS):
        is_down = sweep % 2 == 0
        for layer in layers if is_down else reversed(layers):
            wanted = [_mean(vertex.above if is_down else vertex.below, vertex.x) for vertex in layer]
            for vertex, x in zip(layer, _spread(layer, wanted), strict=True):
                vertex.x = x
    shift = min((vertex.x - vertex.width / 2 for layer in layers for vertex in layer), default=0.0)
    for layer in layers:
        for vertex in layer:
            vertex.x -= shift


def _spread(layer: list[Vertex], wanted: list[float]) -> list[float]:
    """The wanted places, moved as far as is needed: the mean of moving all to the right and all to the left."""
    right, left = list(wanted), list(wanted)
    for index in range(1, len(layer)):
        right[index] = max(right[index], right[index - 1] + _distance(layer, index))
    for index in range(len(layer) - 1, 0, -1):
        left[index - 1] = min(left[index - 1], left[index] - _distance(layer, index))
    return [(one + other) / 2 for one, other in zip(right, left, strict=True)]


def _distance(layer: list[Vertex], index: int) -> float:
    return (layer[index - 1].width + layer[index].width) / 2 + _GAP


def _mean(vertices: list[Vertex], default: float) -> float:
    return sum(vertex.x for vertex in vertices) / len(vertices) if vertices else default
