from __future__ import annotations

import pytest

from noetl_serverless.playbook.code_templates import templates_in_code
from noetl_serverless.playbook.lint import lint

from .playbooks import tool


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("return '{{ workload.x }}'", [(1, "{{ workload.x }}")]),
        ('a = 1\nreturn """\n{{- x -}} {{ y }}"""', [(2, "{{- x -}}")]),
        ("x = 1\ny = {{ workload.x }}", [(2, "{{ workload.x }}")]),
        # a doubled brace of an f-string is one brace
        ("return f'{{ x }} {x}'", []),
        ("return '{{ other }}'.format()", []),
        ("return '{x}'", []),
        ("return {1: {2: 3}}", []),
        ("return {frozenset({1})}", []),
        ("return (", []),
    ],
)
def test_a_template_in_code_is_found_by_what_it_reads(code: str, found: list[tuple[int, str]]) -> None:
    assert list(templates_in_code(code, {"workload", "x"})) == found


def test_lint_names_the_line_of_the_template_and_what_to_write() -> None:
    text = tool("kind: python\ncode: |\n  a = 1\n  return '{{ workload.n }}'\n")
    [finding] = [finding for finding in lint(text) if finding.code == "playbook.not_rendered"]
    assert (finding.line, finding.column, finding.severity) == (10, 9, "warning")
    assert 'write input: {value: "{{ workload.n }}"}, and read value in the code' in finding.message


def test_the_name_of_a_step_and_of_a_key_of_the_workload_is_one_that_a_template_reads() -> None:
    assert [finding.line for finding in lint(tool("kind: python\ncode: return '{{ a }}'"))] == [8]
    assert lint(tool("kind: python\ncode: return '{{ b }}'")) == []
