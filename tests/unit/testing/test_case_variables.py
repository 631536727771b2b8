"""Variables that the case of a playbook's test sets."""

from __future__ import annotations

from textwrap import dedent

import pytest

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.testing.case_file import read_cases
from noetl_serverless.testing.cases import run_case
from noetl_serverless.tools.plans import load_plan

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: v, path: t/v}
workflow:
  - {step: a, tool: {kind: noop}, next: {arcs: [{step: high, when: "{{ vars.limit > 3 }}"}, {step: low}]}}
  - {step: high, tool: {kind: noop}}
  - {step: low, tool: {kind: noop}}
"""
TEST = """
apiVersion: noetl.io/v2
kind: PlaybookTest
playbook: v.yaml
cases:
  - {name: high, variables: {limit: 4}, expect: {path: [a, high], values: {vars.limit: 4}}}
  - {name: low, variables: {limit: 3}, expect: {path: [a, low]}}
"""


async def test_steps_and_arcs_read_them() -> None:
    plan, file = load_plan(PLAYBOOK), read_cases(TEST)
    results = [await run_case(file, case, plan, PLAYBOOK) for case in file.bind(plan)]
    assert [(result.name, result.passed, result.problem) for result in results] == [
        ("high", True, None),
        ("low", True, None),
    ]


async def test_without_them_the_case_differs() -> None:
    plan, file = load_plan(PLAYBOOK), read_cases(TEST.replace("variables: {limit: 4}, ", ""))
    (high, _) = [await run_case(file, case, plan, PLAYBOOK) for case in file.bind(plan)]
    assert not high.passed


def test_a_name_that_templates_could_not_read_is_refused() -> None:
    file = read_cases(dedent(TEST).replace("limit: 4}, expect", "a-b: 4}, expect"))
    with pytest.raises(InvalidPlaybook, match=r"line 6, column \d+: 'a-b' cannot be the name of a variable"):
        file.bind(load_plan(PLAYBOOK))
