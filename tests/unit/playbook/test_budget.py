"""`executor.spec.budget`: what may stand in it."""

from __future__ import annotations

import pytest

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Budget
from noetl_serverless.prices import DEFAULT_PRICES, PRICES, budget_of, load

from .playbooks import playbook

FLOW = "workflow:\n  - {step: a, tool: {kind: noop}}\n"


def plan_with(budget: str) -> Budget | None:
    return load_plan(playbook(f"executor: {{spec: {{budget: {budget}}}}}\n{FLOW}")).budget


def test_a_playbook_without_one_has_none() -> None:
    assert load_plan(playbook(FLOW)).budget is None


def test_each_limit_stands_by_itself_and_prices_have_a_default() -> None:
    assert plan_with("{max_invocations: 5}") == Budget(5, None, None, DEFAULT_PRICES)
    assert plan_with("{max_billed_seconds: 2}") == Budget(None, 2.0, None, DEFAULT_PRICES)
    assert plan_with("{max_cost_usd: 0.5, prices: gcp-2025-06}") == Budget(None, None, 0.5, "gcp-2025-06")


def test_the_log_gets_the_prices_themselves() -> None:
    budget = plan_with("{max_cost_usd: 0.5}")
    assert budget is not None
    held = budget_of(budget)
    assert held.keys() == {"max_cost_usd", "prices"}
    assert held["prices"]["gb_second"] == load().gb_second


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        ("{}", 4),
        ("{prices: aws-2025-06}", 4),
        ("{max_invocations: 0}", 4),
        ("{max_invocations: 1.5}", 4),
        ("{max_cost_usd: -1}", 4),
        ("{max_cost_eur: 1}", 4),
        ("{max_invocations: 1, prices: mine}", 4),
    ],
)
def test_what_limits_nothing_or_is_no_limit_is_refused_with_its_line(budget: str, line: int) -> None:
    with pytest.raises(InvalidPlaybook) as caught:
        plan_with(budget)
    assert {fault.line for fault in caught.value.faults} == {line}


def test_the_tables_that_the_language_names_are_there() -> None:
    assert [load(name).name for name in PRICES] == list(PRICES)
