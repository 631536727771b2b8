from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.playbook.graph import Reach, back_arcs

NAMES = list("abcdef")
graphs = st.fixed_dictionaries({name: st.lists(st.sampled_from(NAMES), max_size=4) for name in NAMES})


def test_an_arc_to_itself_leads_back() -> None:
    assert back_arcs({"a": ["a"]}, "a") == {("a", 0)}


def test_a_cross_arc_does_not() -> None:
    assert back_arcs({"a": ["b", "c"], "b": ["c"], "c": []}, "a") == set()


def test_a_cycle_nothing_leads_to_is_broken_too() -> None:
    assert back_arcs({"a": [], "b": ["c"], "c": ["b"]}, "a") == {("c", 0)}


@given(graphs)
def test_without_its_back_arcs_a_graph_has_no_cycle(arcs: dict[str, list[str]]) -> None:
    back = back_arcs(arcs, "a")
    forward = {name: [t for i, t in enumerate(targets) if (name, i) not in back] for name, targets in arcs.items()}
    reach = Reach(forward)
    assert all(name not in reach[name] for name in NAMES)


@given(graphs)
def test_reach_is_the_transitive_closure(arcs: dict[str, list[str]]) -> None:
    reach = Reach(arcs)
    for name in NAMES:
        seen: set[str] = set()
        open_ = list(arcs[name])
        while open_:
            step = open_.pop()
            if step not in seen:
                seen.add(step)
                open_ += arcs[step]
        assert reach[name] == seen
    assert len(reach) == len(list(reach)) == len(NAMES)


def test_a_thousand_steps_in_a_row_need_no_recursion() -> None:
    arcs = {f"s{n}": [f"s{n + 1}"] if n < 999 else ["s0"] for n in range(1000)}
    assert back_arcs(arcs, "s0") == {("s999", 0)}
    assert len(Reach(arcs)["s500"]) == 1000
