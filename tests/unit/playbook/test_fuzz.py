"""Whatever is given, the answer is a playbook or InvalidPlaybook; a template gives a value or TemplateError."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.load import load_playbook
from noetl_serverless.playbook.template import SqlTemplate, Template, TemplateError

KEYS = [
    *("step", "tool", "kind", "name", "input", "spec", "policy", "rules", "when", "then", "else", "do", "to", "set"),
    *("loop", "in", "iterator", "mode", "max_in_flight", "next", "arcs", "admit", "failure", "timeout", "output"),
    *("select", "path", "as", "workload", "workbook", "workflow", "executor", "metadata", "apiVersion", "code"),
    *("command", "commands", "code_b64", "requires", "tools", "features", "entry_step", "cursor", "args", "vars"),
]
VALUES = [
    "noop",
    "python",
    "postgres",
    "workbook",
    "jump",
    "retry",
    "parallel",
    "a",
    "b",
    "ctx.x",
    "{{ a.b }}",
    "{{ a.b | length }}",
    "{{ '",
    "SELECT '{{ x }}'",
    "previous",
    "$.a",
    "noetl.io/v2",
    "Playbook",
]
scalars = st.one_of(
    st.sampled_from(VALUES),
    st.none(),
    st.booleans(),
    st.integers(-3, 10),
    st.floats(allow_nan=False, width=16),
    st.text(),
)
keys = st.one_of(st.sampled_from(KEYS), st.sampled_from(["ctx.x", "iter.y", "step.z"]), st.text(max_size=3))
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=25,
)
names = st.sampled_from(["a", "b"])
tools = st.fixed_dictionaries(
    {"kind": st.sampled_from(["noop", "python", "postgres", "workbook", "playbook", "x"])},
    optional={"name": names, "spec": trees, "input": trees, "output": trees, "code": scalars, "command": scalars},
)
steps = st.fixed_dictionaries(
    {"step": names, "tool": st.one_of(tools, st.lists(tools, max_size=3))},
    optional={"loop": trees, "next": trees, "set": trees, "spec": trees, "input": trees},
)
documents = st.fixed_dictionaries(
    {
        "apiVersion": st.just("noetl.io/v2"),
        "kind": st.just("Playbook"),
        "metadata": st.just({"name": "x"}),
        "workflow": st.lists(steps, max_size=3),
    },
    optional={"workload": trees, "executor": trees, "workbook": trees},
)


def check(text: str) -> None:
    with contextlib.suppress(InvalidPlaybook):
        load_playbook(text)
    for finding in lint(text):
        assert finding.message
        assert finding.line is None or finding.line >= 1
        json.dumps(finding.to_dict())


@settings(max_examples=200, deadline=None)
@given(st.text())
@example("\x85")
@example("﻿a: 1")
@example("&a : *a")
@example("%YAML 9.9\n---\n")
@example("!<tag:yaml.org,2002:int> x")
@example("{? a, ? b}")
@example("- !!null x")
def test_any_text(text: str) -> None:
    check(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-?[]{},&*!|>'\"#%@` \n\t0~<")))
def test_any_punctuation(text: str) -> None:
    check(text)


@settings(max_examples=150, deadline=None)
@given(trees)
def test_any_tree(tree: Any) -> None:
    check(json.dumps(tree))


@settings(max_examples=300, deadline=None)
@given(documents)
def test_anything_like_a_playbook(document: Any) -> None:
    check(json.dumps(document))


pieces = [*"abx{}%().|'\"[]~+*-/ 01,:=\n", "{{", "}}", "{%", "%}", "for ", " in ", "if ", "set ", "end", "length"]
expressions = st.lists(st.sampled_from(pieces), max_size=25).map("".join)


@settings(max_examples=300, deadline=None)
@given(expressions)
def test_any_template(source: str) -> None:
    scope = {"a": {"b": [1, "x"]}, "x": 2}
    for kind in (Template, SqlTemplate):
        for text in (source, "{{ " + source + " }}"):
            with contextlib.suppress(TemplateError):
                kind(text).render(scope)
