from __future__ import annotations

import pytest

from noetl_serverless.playbook.lint import lint

from .playbooks import playbook


def messages(tool: str, read: str, *, step: str = "") -> list[str]:
    text = f"""
        workflow:
          - step: f
            {step}
            tool: {tool}
            next: {{arcs: [{{step: b}}]}}
          - step: b
            tool: {{kind: noop, result: "{read}"}}
        """
    codes = ("playbook.reserved_name", "playbook.no_effect")
    return [finding.message for finding in lint(playbook(text)) if finding.code in codes]


@pytest.mark.parametrize(
    ("tool", "field"),
    [
        ("{kind: python, code: \"return {'status': 'shipped'}\"}", "status"),
        ("{kind: python, code: \"result = {'error': 'none', 'n': 1}\"}", "error"),
        ("{kind: noop, result: {result: 5}}", "result"),
        ("[{kind: noop}, {kind: noop, result: {status: 5}}]", "status"),
    ],
)
def test_a_field_that_the_step_itself_has_is_reported_where_it_is_read(tool: str, field: str) -> None:
    assert messages(tool, f"{{{{ f.{field} }}}}") == [
        f"'f.{field}' is the step's own {field}, not the field of its result: write f.result.{field}"
    ]
    assert messages(tool, f"{{{{ f.result.{field if field != 'result' else 'x'} }}}}") == (
        [] if field != "result" else messages(tool, "{{ f.result }}")
    )


def test_what_the_result_is_not_known_to_have_is_not_reported() -> None:
    assert messages("{kind: noop}", "{{ f.status }}") == []
    assert messages("{kind: http, url: 'http://x/'}", "{{ f.status }}") == []
    assert messages("{kind: python, code: \"return {'n': 1}\"}", "{{ f.status }}") == []
    assert messages("{kind: noop, result: {status: 5, n: 1}}", "{{ f.n }}") == []


def test_the_result_of_a_loop_is_a_list() -> None:
    loop = "loop: {in: [1], iterator: x}"
    assert messages("{kind: noop, result: {status: 5}}", "{{ f.status }}", step=loop) == []


@pytest.mark.parametrize(
    ("path", "name", "message"),
    [
        ("$.row_count", "status", "'f.status' is the step's own status, not what is selected: rename it"),
        ("$.rows[0]", "rows", "'rows' of the tool's result cannot be read beside this: rename it"),
        ("$.rows", "rows", None),
        ("$['rows']", "rows", None),
        ("$.rows[0]", "first", None),
    ],
)
def test_a_name_of_select_that_hides_something_or_is_hidden(path: str, name: str, message: str | None) -> None:
    tool = f'{{kind: duckdb, query: SELECT 1, output: {{select: [{{path: "{path}", as: {name}}}]}}}}'
    assert messages(tool, "{{ f.other }}") == ([] if message is None else [message])


ACCUMULATING = (
    '[{name: page, kind: %s, output: {accumulate: {manifest_as: all%s}, select: [{path: "%s", as: first}]}}, '
    "{name: last, kind: noop}]"
)


@pytest.mark.parametrize("path", ["$.all[0].id", "$['all'][0].id", "$.all[*].id"])
def test_a_selection_of_what_is_accumulated_matches_nothing(path: str) -> None:
    (message,) = messages(ACCUMULATING % ("noop", "", path), "{{ f.first }}")
    assert message == (
        "it matches nothing: 'all' is what 'page' accumulates, and no field of its result; read "
        f"{{{{ f{path.removeprefix('$')} }}}} in the input of a later step"
    )


def test_a_selection_of_what_the_result_may_have_is_not_reported() -> None:
    assert messages(ACCUMULATING % ("noop", "", "$.id"), "{{ f.first }}") == []
    of_each = ", merge_path: $.all, strategy: concat"
    assert messages(ACCUMULATING % ("noop", of_each, "$.all[0].id"), "{{ f.first }}") == [], "each result has it, too"
    alone = "{kind: noop, output: {accumulate: {manifest_as: all}, select: [{path: '$.all[0]', as: first}]}}"
    assert messages(alone, "{{ f.first }}") == [], "the result of a step with one tool has what is accumulated"


@pytest.mark.parametrize(
    "tool",
    [
        "{kind: noop, output: {select: [{path: $.a, as: id}, {path: $.b, as: id}]}}",
        "[{name: a, kind: noop, output: {select: [{path: $.a, as: id}]}}, "
        "{kind: noop, output: {select: [{path: $.b, as: id}]}}]",
    ],
)
def test_of_two_selections_of_one_name_the_last_counts(tool: str) -> None:
    assert messages(tool, "{{ f.id }}") == ["another entry is named 'id', and the last one counts: rename one"]
