"""The conditions of a log, asked once more."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, WORKFLOWS, play
from tests.unit.engine.run import Run

from noetl_serverless.inspection.condition_trace import MAX_CHARACTERS, shortened, trace_conditions


def traced(run: Any) -> list[tuple[Any, ...]]:
    return [
        (one.seq, one.step, one.about, one.index, one.target, one.when, one.holds, one.values)
        for one in trace_conditions("7", run.log, run.plan)
    ]


def test_each_condition_is_traced_with_its_place_and_the_values_it_read() -> None:
    run = play(
        Run(CHAIN.replace("{step: d}]", "{step: d, when: '{{ ctx.x == 0 }}'}]").replace("ctx.x > 0", "ctx.x < 0")),
        1,
        defer=0,
    )
    a, b = (event.seq for event in run.log[2:5:2])
    assert traced(run) == [
        (a, "a", "arc", 0, "b", None, True, {}),
        (b, "b", "arc", 0, "c", "{{ ctx.x < 0 }}", False, {"ctx.x": 1}),
        (b, "b", "arc", 1, "d", "{{ ctx.x == 0 }}", False, {"ctx.x": 1}),
    ]


def test_admission_is_asked_rule_by_rule() -> None:
    run = play(Run(WORKFLOWS["admission"]), 1)
    rules = [
        (one.index, one.target, one.when, one.holds)
        for one in trace_conditions("7", run.log, run.plan)
        if one.about == "admission"
    ]
    assert rules == [(0, None, "{{ a.v > 100 }}", False), (1, None, None, True)]


def test_a_document_leaves_out_what_there_is_not() -> None:
    run = play(Run(CHAIN.replace("ctx.x > 0", "ctx.gone > 0")), 1)
    first, last = trace_conditions("7", run.log, run.plan)
    assert first.document() == {"about": "arc", "index": 0, "target": "b", "holds": True, "values": {}}
    document = last.document()
    assert (document["line"], document["error"], "holds" in document) == (7, last.error, False)
    assert document["values"]["ctx.gone"] == f"({last.error})"


@pytest.mark.parametrize("length", [MAX_CHARACTERS - 2, MAX_CHARACTERS - 1])
def test_long_values_are_shortened(length: int) -> None:
    text = "x" * length
    short = shortened(text)
    assert short == (
        text if length == MAX_CHARACTERS - 2 else f'"{"x" * (MAX_CHARACTERS - 1)}... ({MAX_CHARACTERS + 1} characters)'
    )
    assert shortened(object()).startswith("<object")
    assert shortened({"a": [1]}) == {"a": [1]}
