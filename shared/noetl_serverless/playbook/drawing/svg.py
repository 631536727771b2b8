"""A flowchart as SVG: no script, nothing loaded from elsewhere, and the same text for the same playbook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from .flowchart import Edge, Flowchart, Node
from .layering import Layout, Vertex, layered

_MARGIN: Final = 24.0
_LINE: Final = 16.0
# of the widest letters, on the average
_CHARACTER: Final = 7.0
_LABEL_CHARACTER: Final = 6.2
_PADDING: Final = 12.0
_LAYER_GAP: Final = 14.0
_STYLE: Final = (
    "text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#202124;text-anchor:middle}"
    ".name{font-weight:600}.detail{fill:#5f6368}"
    ".node{fill:#fff;stroke:#5f6368}.entry .node{fill:#e6f4ea;stroke:#137333;stroke-width:2}"
    ".final .node{fill:#fce8e6;stroke:#a50e0e;stroke-width:2}.loop .node{fill:#e8f0fe;stroke:#1a56db}"
    ".unreached .node{fill:#f1f3f4;stroke-dasharray:4 3}"
    ".edge path{fill:none;stroke:#5f6368}.back path{stroke-dasharray:5 4}.failure path{stroke:#a50e0e}"
    ".edge text{font-size:11px}.edge rect{fill:#fff}.failure text{fill:#a50e0e}"
)


def svg(chart: Flowchart) -> str:
    """Arcs that lead back are dashed, those taken after a failure red. Whole conditions are in tooltips."""
    drawing = _Drawing(chart)
    width, height = drawing.width, drawing.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" aria-label={quoteattr(_text(chart.title))}>',
        f"<title>{_escaped(chart.title)}</title>",
        f"<style>{_STYLE}</style>",
        f"<defs>{_marker('arrow', '#5f6368')}{_marker('arrow-failure', '#a50e0e')}</defs>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        *drawing.edges(),
        *drawing.nodes(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Drawing:
    def __init__(self, chart: Flowchart) -> None:
        self.chart = chart
        self.lines = {node.name: (node.name, *node.lines) for node in chart.nodes}
        widths = {name: _width(lines) for name, lines in self.lines.items()}
        # an arc that leads back is laid out the other way round
        self.routed = [edge for edge in chart.edges if edge.source != edge.target]
        ends = [(edge.target, edge.source) if edge.is_back else (edge.source, edge.target) for edge in self.routed]
        labels = [len(edge.label) * _CHARACTER for edge in self.routed]
        self.layout: Layout = layered(
            widths, [(upper, lower, label) for (upper, lower), label in zip(ends, labels, strict=True)]
        )
        self.heights = {name: _LINE * len(lines) + _PADDING for name, lines in self.lines.items()}
        self.tops, self.bottoms = self._rows()
        loops = [edge for edge in chart.edges if edge.source == edge.target]
        right = max((vertex.x + vertex.width / 2 for layer in self.layout.layers for vertex in layer), default=0.0)
        margin = max((len(edge.label) * _CHARACTER + 40 for edge in loops), default=0.0)
        self.width = right + margin + 2 * _MARGIN
        self.height = (self.bottoms[-1] if self.bottoms else 0.0) + _MARGIN

    def _rows(self) -> tuple[list[float], list[float]]:
        """The top and the bottom of each layer."""
        of_nodes: dict[int, float] = {}
        for name, vertex in self.layout.nodes.items():
            of_nodes[vertex.layer] = max(of_nodes.get(vertex.layer, 0.0), self.heights[name])
        tops, bottoms, y = [], [], _MARGIN
        for number in range(len(self.layout.layers)):
            tops.append(y)
            y += of_nodes.get(number, 2 * _LINE)
            bottoms.append(y)
            y += _LAYER_GAP
        return tops, bottoms

    def nodes(self) -> Iterator[str]:
        for node in self.chart.nodes:
            vertex, height = self.layout.nodes[node.name], self.heights[node.name]
            left, top = vertex.x - vertex.width / 2 + _MARGIN, self.tops[vertex.layer]
            radius = height / 2 if node.is_entry or node.is_final else 4
            yield f'<g class="{_classes(node)}"><title>{_escaped("; ".join(self.lines[node.name]))}</title>'
            yield (
                f'<rect class="node" x="{_n(left)}" y="{_n(top)}" width="{_n(vertex.width)}" height="{_n(height)}" '
                f'rx="{_n(radius)}"/>'
            )
            if node.is_loop:
                for x in (left + 5, left + vertex.width - 5):
                    yield f'<path d="M{_n(x)} {_n(top)}v{_n(height)}" stroke="#1a56db"/>'
            for index, line in enumerate(self.lines[node.name]):
                kind, y = ("detail" if index else "name"), top + _PADDING / 2 + _LINE * (index + 0.75)
                yield f'<text class="{kind}" x="{_n(vertex.x + _MARGIN)}" y="{_n(y)}">{_escaped(line)}</text>'
            yield "</g>"

    def edges(self) -> Iterator[str]:
        for edge, bends in zip(self.routed, self.layout.routes, strict=True):
            upper, lower = (edge.target, edge.source) if edge.is_back else (edge.source, edge.target)
            label = (bends[0].x + _MARGIN, (self.tops[bends[0].layer] + self.bottoms[bends[0].layer]) / 2 + 4)
            yield from _edge(edge, self._path(upper, lower, bends), label)
        for edge in self.chart.edges:
            if edge.source == edge.target:
                yield from self._self_loop(edge)

    def _path(self, upper: str, lower: str, bends: Sequence[Vertex]) -> str:
        """From the bottom of the upper node to the top of the lower one, straight down through each layer between."""
        first, last = self.layout.nodes[upper], self.layout.nodes[lower]
        x, y = first.x + _MARGIN, self.tops[first.layer] + self.heights[upper]
        parts = [f"M{_n(x)} {_n(y)}"]
        for bend in bends:
            parts.append(_curve(y, bend.x + _MARGIN, x, self.tops[bend.layer]))
            x, y = bend.x + _MARGIN, self.bottoms[bend.layer]
            parts.append(f"V{_n(y)}")
        parts.append(_curve(y, last.x + _MARGIN, x, self.tops[last.layer]))
        return "".join(parts)

    def _self_loop(self, edge: Edge) -> Iterator[str]:
        vertex, height = self.layout.nodes[edge.source], self.heights[edge.source]
        x, y = vertex.x + vertex.width / 2 + _MARGIN, self.tops[vertex.layer] + height / 2
        path = f"M{_n(x)} {_n(y - 7)}c30 -14 30 28 0 14"
        yield from _edge(edge, path, (x + 30 + len(edge.label) * _CHARACTER / 2, y + 4))


def _marker(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{color}"/></marker>'
    )


def _edge(edge: Edge, path: str, label: tuple[float, float]) -> Iterator[str]:
    """`label`: the middle of its base line."""
    classes = ["edge", *(["back"] if edge.is_back else []), *(["failure"] if edge.handles_failure else [])]
    # the path of an arc that leads back begins at its target
    end = "marker-start" if edge.is_back and edge.source != edge.target else "marker-end"
    condition = f": {edge.condition}" if edge.condition else ""
    yield f'<g class="{" ".join(classes)}"><title>{_escaped(f"{edge.source} → {edge.target}{condition}")}</title>'
    marker = "arrow-failure" if edge.handles_failure else "arrow"
    yield f'<path d="{path}" {end}="url(#{marker})"/>'
    if edge.label:
        (x, y), width = label, len(edge.label) * _LABEL_CHARACTER
        yield f'<rect x="{_n(x - width / 2)}" y="{_n(y - 11)}" width="{_n(width)}" height="15"/>'
        yield f'<text x="{_n(x)}" y="{_n(y)}">{_escaped(edge.label)}</text>'
    yield "</g>"


def _curve(y: float, to_x: float, x: float, to_y: float) -> str:
    if abs(to_x - x) < 0.05:
        return f"V{_n(to_y)}"
    middle = (y + to_y) / 2
    return f"C{_n(x)} {_n(middle)} {_n(to_x)} {_n(middle)} {_n(to_x)} {_n(to_y)}"


def _classes(node: Node) -> str:
    flags = {"entry": node.is_entry, "final": node.is_final, "loop": node.is_loop, "unreached": not node.is_reached}
    return " ".join(["step", *(name for name, holds in flags.items() if holds)])


def _width(lines: Sequence[str]) -> float:
    return max(len(line) for line in lines) * _CHARACTER + 2 * _PADDING


def _escaped(text: str) -> str:
    return escape(_text(text))


def _text(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(char if char.isprintable() else " " for char in text)


def _n(number: float) -> str:
    return f"{number:.1f}".rstrip("0").rstrip(".")
