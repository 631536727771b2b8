"""Conditions on error codes match every spelling of a code."""

from __future__ import annotations

import pytest

from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.template import Template, TemplateError

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\nworkflow:\n"


def holds(condition: str, code: object) -> object:
    return Template(f"{{{{ {condition} }}}}").render({"error": {"code": code}, "codes": ["template_error"], "x": 1})


@pytest.mark.parametrize("written", ["template.error", "template_error"])
@pytest.mark.parametrize(
    "condition",
    [
        "error.code == 'template.error'",
        "error.code == 'template_error'",
        "'template_error' == error.code",
        "error['code'] == 'template_error'",
        "error.code in ['http.timeout', 'template_error']",
        "error.code in ('template.error',)",
        "not error.code != 'template_error'",
        "not error.code not in ['template_error']",
        "x == 1 and error.code == 'template_error'",
        "(error.code == 'template_error') == true",
    ],
)
def test_a_condition_matches_both_spellings(condition: str, written: str) -> None:
    assert holds(condition, written) is True
    assert holds(condition, "http.timeout") is (condition.count("http.timeout") == 1)


def test_one_former_code_stands_for_all_that_it_became() -> None:
    for code in ("unavailable", "tool.unavailable", "server.unavailable"):
        assert holds("error.code == 'unavailable'", code) is True
    assert holds("error.code == 'tool.unavailable'", "unavailable") is True


def test_codes_of_users_are_compared_as_they_are() -> None:
    assert holds("error.code == 'E42'", "E42") is True
    assert holds("error.code == 'E42'", "E43") is False
    assert holds("error.code == 404", 404) is True
    assert holds("error.code in codes", "template.error") is False, "a list that is not written in the condition"
    assert holds("error.code == ['template_error']", ["template_error"]) is True, "the list is the value itself"


@pytest.mark.parametrize(
    "condition",
    [
        "error.reason == 'template_error'",
        "error.reason in ['template_error']",
        "error.code < 'template_error' and 'template_error' < error.code",
        "error.code == ['template_error']",
        "error.code in 'a template_error'",
        "'template_error' in error.code",
        "error.code == 'template_error' != 'other'",
    ],
)
def test_what_is_no_comparison_of_a_code_with_a_code_stays_as_it_is(condition: str) -> None:
    error = {"code": "template.error", "reason": "template.error"}
    assert Template(f"{{{{ {condition} }}}}").render({"error": error}) is False, "another spelling was compared"


def test_a_code_that_does_not_exist_is_still_an_error() -> None:
    with pytest.raises(TemplateError, match="gone"):
        Template("{{ error.gone.code == 'template_error' }}").render({"error": {}})


def test_lint_warns_of_a_former_code_and_names_those_of_today() -> None:
    rule = "{when: \"{{ output.error.code == 'timeout' }}\", then: {do: retry}}"
    text = (
        f"{HEAD}  - step: a\n    tool: {{kind: noop, spec: {{policy: {{rules: [{rule}]}}}}}}\n"
        "    next: {arcs: [{step: b, when: \"{{ error.code == 'unavailable' }}\"}, {step: b}]}\n"
        "  - {step: b, tool: {kind: noop}}\n"
    )
    found = {finding.line: finding for finding in lint(text)}
    assert [finding.code for finding in found.values()] == ["playbook.former_code"] * 2
    assert "'tool.timeout'" in found[6].message
    assert "'server.unavailable' or 'tool.unavailable'" in found[7].message
    assert not lint(text.replace("timeout", "http.timeout").replace("'unavailable'", "'server.unavailable'"))
