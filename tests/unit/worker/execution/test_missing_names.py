from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.scope import build_scope
from noetl_serverless.playbook.template import Place, Template, TemplateError
from noetl_serverless.worker.execution.errors import from_template

PLAN = load_plan(
    """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: x}
workload: {city: Oslo, limit: 5}
workflow:
  - {step: fetch, tool: {kind: noop}, set: {ctx.total: 1, vars.count: 2}}
"""
)


def error_of(source: str, **given: Any) -> dict[str, Any]:
    """Of a template that a worker renders, which has nothing but what the step's templates name."""
    parts: dict[str, Any] = {"workload": {}, "ctx": {}, "steps": {}, **given}
    with pytest.raises(TemplateError) as caught:
        Template(source, Place(5, 3)).render(build_scope(**parts, loops=(), execution_id="7"))
    return from_template(caught.value, PLAN)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ citty }}", "'citty' is not defined; did you mean 'city'?"),
        ("{{ fetsh.n }}", "'fetsh' is not defined; did you mean 'fetch'?"),
        ("{{ totl }}", "'totl' is not defined; did you mean 'total'?"),
        ("{{ workload.citty }}", "the workload has no 'citty' (available: city, limit); did you mean 'city'?"),
        ('{{ workload["limt"] }}', "the workload has no 'limt' (available: city, limit); did you mean 'limit'?"),
        ("{{ ctx.totl }}", "ctx has no 'totl' (available: total); did you mean 'total'?"),
        ("{{ vars.cuont }}", "vars has no 'cuont' (available: count); did you mean 'count'?"),
        ("{{ zzz }}", "'zzz' is not defined"),
        ("{{ fetch.n }}", "'fetch' is not defined: the step has not run"),
        ("{{ total }}", "'total' is not defined: nothing has set it yet"),
    ],
)
def test_a_name_that_is_missing_is_reported_with_those_that_the_playbook_has(source: str, message: str) -> None:
    error = error_of(source)
    assert error["message"] == message
    assert (error["line"], error["at"], error["template"]) == (5, 5, source)
    assert error["column"] > 3


def test_a_field_that_a_value_does_not_have_is_reported_with_those_that_it_has() -> None:
    assert error_of("{{ limit.city }}", workload={"limit": {"cities": 1}})["message"] == (
        "there is no 'city' (available: cities); did you mean 'cities'?"
    )
