"""A flowchart as Mermaid text, which GitHub, GitLab and many editors draw."""

from __future__ import annotations

from typing import Final

from .flowchart import Edge, Flowchart, Node

# characters that mean something in a quoted label, as Mermaid's own entities
_ENTITIES: Final = {"#": "#35;", "&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\\": "#92;"}
_CLASSES: Final = (
    "classDef entry fill:#e6f4ea,stroke:#137333,stroke-width:2px",
    "classDef final fill:#fce8e6,stroke:#a50e0e,stroke-width:2px",
    "classDef loop fill:#e8f0fe,stroke:#1a56db",
    "classDef unreached fill:#f1f3f4,stroke:#9aa0a6,stroke-dasharray:4 3",
)


def mermaid(chart: Flowchart) -> str:
    """Steps are n0, n1, ... in the order of the document: no name of a step can be a word of Mermaid."""
    names = {node.name: f"n{index}" for index, node in enumerate(chart.nodes)}
    lines = ["flowchart TD"]
    lines += [f"    {names[node.name]}{_shape(node)}" for node in chart.nodes]
    lines += [f"    {names[edge.source]} {_arrow(edge)} {names[edge.target]}" for edge in chart.edges]
    failures = [str(index) for index, edge in enumerate(chart.edges) if edge.handles_failure]
    if failures:
        lines.append(f"    linkStyle {','.join(failures)} stroke:#a50e0e")
    lines += [f"    {text}" for text in _CLASSES]
    return "\n".join(lines) + "\n"


def _shape(node: Node) -> str:
    text = f'"{"<br/>".join(_escaped(line) for line in (node.name, *node.lines))}"'
    classes = (
        ("unreached", not node.is_reached),
        ("entry", node.is_entry),
        ("final", node.is_final),
        ("loop", node.is_loop),
    )
    kind = next((f":::{name}" for name, holds in classes if holds), "")
    if node.is_entry or node.is_final:
        return f"([{text}]){kind}"
    if node.is_loop:
        return f"[[{text}]]{kind}"
    return f"{{{{{text}}}}}{kind}" if node.is_join else f"[{text}]{kind}"


def _arrow(edge: Edge) -> str:
    label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
    return f"-.->{label}" if edge.is_back else f"-->{label}"


def _escaped(text: str) -> str:
    return "".join(_ENTITIES.get(char, char if char.isprintable() else " ") for char in text)
