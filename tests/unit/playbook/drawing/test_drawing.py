"""Drawings of playbooks: what they show, and that no text of an author becomes markup."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from noetl_serverless.playbook.drawing.flowchart import Edge, Flowchart, Node, flowchart
from noetl_serverless.playbook.drawing.layering import layered
from noetl_serverless.playbook.drawing.mermaid import mermaid
from noetl_serverless.playbook.drawing.svg import svg
from noetl_serverless.playbook.load import load_plan

SVG = "{http://www.w3.org/2000/svg}"
PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: "<b>&"}
executor: {spec: {final_step: last}}
workflow:
  - step: begin
    tool: {kind: noop}
    next:
      arcs:
        - {step: each, when: "{{ ctx.mode == '\\"<script>' and ctx.very_long_name_of_a_flag | default(false) }}"}
        - {step: done}
  - step: each
    loop: {in: [1, 2], iterator: number, spec: {mode: parallel, max_in_flight: 4}}
    tool: {kind: noop}
    next:
      arcs:
        - {step: begin, when: "{{ event.name == 'call.error' }}"}
        - {step: each, when: "{{ ctx.again }}"}
        - {step: done, when: "{{ ctx.x }}"}
        - {step: done, when: "{{ ctx.y }}"}
  - step: done
    tool: [{kind: noop}, {kind: http, url: x}]
    spec: {policy: {admit: {rules: [{else: {then: {allow: true}}}]}}}
  - {step: alone, tool: {kind: noop}}
  - {step: last, tool: {kind: noop}}
"""
CHART = flowchart(load_plan(PLAYBOOK))


def test_nodes_say_what_their_steps_are() -> None:
    nodes = {node.name: node for node in CHART.nodes}
    assert [name for name, node in nodes.items() if node.is_entry] == ["begin"]
    assert [name for name, node in nodes.items() if node.is_final] == ["last"]
    assert [name for name, node in nodes.items() if not node.is_reached] == ["alone"]
    assert nodes["each"].lines == ("noop", "loop: each number, 4 at once")
    assert nodes["done"].lines == ("2 tasks: noop, http", "join of 2", "only if admitted")
    assert nodes["last"].lines == ("noop", "runs last")


def test_only_arcs_that_a_success_does_not_take_are_drawn_as_those_of_failures() -> None:
    conditions = {
        "{{ output.status == 'ok' }}": False,
        "{{ event.name in ['call.done', 'call.error'] }}": False,
        "{{ event.name == 'loop.done' }}": False,
        "{{ output.status == 'error' }}": True,
        "{{ output.error.code == 'http.status' }}": True,
        "{{ event.name == 'call.error' and ctx.n > 1 }}": True,
    }
    arcs = "".join(f'        - {{step: s{n}, when: "{when}"}}\n' for n, when in enumerate(conditions))
    steps = "".join(f"  - {{step: s{n}, tool: {{kind: noop}}}}\n" for n in range(len(conditions)))
    head = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t}\nworkflow:\n"
    text = f"{head}  - step: a\n    tool: {{kind: noop}}\n    next:\n      arcs:\n{arcs}{steps}"
    assert [edge.handles_failure for edge in flowchart(load_plan(text)).edges] == list(conditions.values())


def test_limits_and_what_undoes_a_step_stand_in_its_node() -> None:
    text = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t}
workflow:
  - step: a
    spec: {concurrency: {limit: 3}, rate: {per: 1m, limit: 30}}
    tool: {kind: noop}
    compensate: {tool: [{kind: http, url: "http://x"}, {kind: noop}]}
"""
    (node,) = flowchart(load_plan(text)).nodes
    assert node.lines == ("noop", "3 at once in all executions", "30 in 60 s", "undone by http, noop")


def test_edges_have_their_conditions_shortened_and_those_between_the_same_steps_are_one() -> None:
    edges = {(edge.source, edge.target): edge for edge in CHART.edges}
    assert len(edges) == len(CHART.edges) == 5
    assert edges["begin", "done"].label == "else"
    long = edges["begin", "each"]
    assert (len(long.label), long.label[-1]) == (40, "…") and len(long.condition) > 40
    assert edges["each", "done"].condition == "ctx.x or ctx.y"
    assert edges["each", "begin"].is_back and edges["each", "begin"].handles_failure
    assert edges["each", "each"].is_back and not edges["begin", "done"].is_back


def test_mermaid_has_every_node_and_edge_and_no_text_is_markup() -> None:
    lines = mermaid(CHART).splitlines()
    assert lines[0] == "flowchart TD"
    assert '    n0(["begin<br/>noop"]):::entry' in lines
    assert '    n1[["each<br/>noop<br/>loop: each number, 4 at once"]]:::loop' in lines
    assert '    n3["alone<br/>noop"]:::unreached' in lines
    assert any(line.startswith("    n0 -->|\"ctx.mode == '#quot;#lt;script#gt;'") for line in lines)
    assert "    n1 -.->|\"event.name == 'call.error'\"| n0" in lines
    assert not re.search(r'\|"[^"]*[<>`][^"]*"\|', mermaid(CHART))


def test_svg_is_well_formed_complete_and_without_script() -> None:
    text = svg(CHART)
    root = ElementTree.fromstring(text)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "style", "defs", "marker", "path", "rect", "g", "text"}
    names = [element.text for element in root.iter(f"{SVG}text") if element.get("class") == "name"]
    assert names == ["begin", "each", "done", "alone", "last"]
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert "<b>&" in titles and any("\"<script>'" in title and "default(false)" in title for title in titles)
    assert sum(element.get("class", "").startswith("edge") for element in root.iter(f"{SVG}g")) == len(CHART.edges)
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name]
    assert svg(flowchart(load_plan(PLAYBOOK))) == text


ARCS = """apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workflow:
  - step: a
    tool: {kind: noop}
    next: {arcs: [%s]}
  - {step: b, tool: {kind: noop}}
  - {step: c, tool: {kind: noop}}
"""


def test_two_arcs_to_one_step_are_labelled_with_both() -> None:
    text = ARCS % "{step: b, when: '{{ ctx.x }}'}, {step: b}"
    assert [edge.label for edge in flowchart(load_plan(text)).edges] == ["ctx.x, else"]
    text = ARCS % "{step: b}, {step: b, when: '{{ ctx.x }}'}"
    assert [edge.label for edge in flowchart(load_plan(text)).edges] == [""]
    text = ARCS % "{step: c, when: '{{ ctx.x }}'}, {step: b}"
    assert [edge.label for edge in flowchart(load_plan(text)).edges] == ["ctx.x", "else"]


def test_text_that_xml_cannot_hold_does_not_break_it() -> None:
    node = Node(name="a", lines=("\x00\x1b\ud800￾",))
    edge = Edge(source="a", target="b", condition="\x07 \n]]>", is_back=False, handles_failure=False)
    chart = Flowchart("\x01", (node, Node(name="b", lines=())), (edge,))
    ElementTree.fromstring(svg(chart).encode())
    assert mermaid(chart).count("\n") == 8


def edges_of(count: int, spread: int) -> list[tuple[str, str, float]]:
    """Each node to the next, and every third to one far below."""
    chain = [(f"s{index}", f"s{index + 1}", 40.0) for index in range(count - 1)]
    return chain + [(f"s{index}", f"s{min(index + spread, count - 1)}", 0.0) for index in range(0, count - 2, 3)]


def test_nothing_in_a_layer_overlaps_and_every_edge_leads_down() -> None:
    edges = edges_of(100, 7)
    layout = layered({f"s{index}": 80.0 for index in range(100)}, edges)
    for layer in layout.layers:
        for left, right in pairwise(layer):
            assert left.x + left.width / 2 < right.x - right.width / 2, "two overlap"
    for (source, target, _), bends in zip(edges, layout.routes, strict=True):
        chain = [layout.nodes[source], *bends, layout.nodes[target]]
        assert all(lower.layer == upper.layer + 1 for upper, lower in pairwise(chain)), f"{source} to {target}"
    assert min(vertex.x - vertex.width / 2 for layer in layout.layers for vertex in layer) == pytest.approx(0)


@pytest.mark.parametrize("shape", ["long", "wide"])
def test_ten_thousand_steps_are_drawn_in_bounded_time_and_size(shape: str) -> None:
    nodes = tuple(Node(name=f"s{index}", lines=("noop",)) for index in range(10_000))
    if shape == "long":
        ends = [(source, target) for source, target, _ in edges_of(10_000, 5_000)]
    else:
        ends = [("s0", f"s{index}") for index in range(1, 10_000)]
    edges = tuple(
        Edge(source=source, target=target, condition="x", is_back=False, handles_failure=False)
        for source, target in ends
    )
    begun = time.process_time()
    text = svg(Flowchart("many", nodes, edges))
    assert time.process_time() - begun < 30
    assert len(text) < 30_000_000
    assert mermaid(Flowchart("many", nodes, edges)).count("\n") == 1 + len(nodes) + len(edges) + 4
