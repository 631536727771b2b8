"""Warnings about names in templates: those that nothing defines, and keys that nothing reads."""

from __future__ import annotations

import pytest

from noetl_serverless.playbook.lint import lint

from .playbooks import playbook, tool

NAMES = ("playbook.undefined_name", "playbook.not_run", "playbook.unused_name")


def found(text: str) -> list[str]:
    findings = lint(playbook(text))
    assert {finding.severity for finding in findings} <= {"warning"}, findings
    return [finding.message for finding in findings if finding.code in NAMES]


def reading(expression: str, *, more: str = "", workload: str = "{city: Bern}") -> list[str]:
    """The warnings about a step `b` between `a` and `c` whose result is the expression; `more` is on the step."""
    text = f"""
    workload: {workload}
    workflow:
      - step: a
        tool: {{kind: noop}}
        set: {{ctx.total: "{{{{ workload.city }}}}"}}
        next: {{arcs: [{{step: b, when: "{{{{ ctx.total }}}}"}}, {{step: other}}]}}
      - step: b
        tool: {{kind: noop, result: {{x: "{{{{ {expression} }}}}"}}}}
        next: {{arcs: [{{step: c}}]}}
        {more}
      - {{step: c, tool: {{kind: noop}}}}
      - {{step: other, tool: {{kind: noop}}}}
    """
    return found(text)


@pytest.mark.parametrize(
    "expression",
    [
        "workload.city",
        "city",
        "ctx.total",
        "total",
        "a.rows",
        "a.status",
        "execution_id",
        "_attempt",
        "other.status",
        "range(3) | list",
        "[1, 2] | map('string') | join(', ')",
        "zzz is defined",
        "zzz | default(1)",
        "workload.zzz | default(1)",
        "workload.get('zzz')",
        "ctx.get('zzz', 0)",
        "zzz.y if zzz is defined else 1",
    ],
)
def test_what_can_be_read_is_not_reported(expression: str) -> None:
    assert reading(expression) == []


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("citi", "'citi' is not defined here; did you mean 'city'?"),
        ("zzz", "'zzz' is not defined here; only the caller can give it, as a key of the workload"),
        (
            "result.x",
            "'result' is not defined here; the result of a step is read by the name of the step: STEP.FIELD",
        ),
        ("workload.citty", "the workload has no 'citty' (did you mean 'city'?): the caller must pass it"),
        ("workload['zzz']", "the workload has no 'zzz': the caller must pass it"),
        ("ctx.totl", "nothing sets ctx.totl (did you mean 'total'?): the caller must pass it in 'ctx'"),
        ("c.rows", "the step 'c' cannot have run yet: it comes after 'b'"),
        ("c.status", "the step 'c' cannot have run yet: it comes after 'b'"),
        ("b.rows", "the step 'b' cannot have run yet when it reads itself"),
        ("other.rows", "no path leads from the step 'other' to 'b': here it has no result, only a status"),
        (
            "iter.x",
            "'iter' has no value here: only a tool of a step with a loop, or whose rules set iter.NAME, can read it",
        ),
        ("output.data", "'output' has no value here: only rules, 'set' of a step, and arcs can read it"),
        ("event.name", "'event' has no value here: only 'set' and the arcs of a step can read it"),
        ("step.x", "no rule of this step sets step.x"),
    ],
)
def test_what_cannot_be_read_is_reported(expression: str, message: str) -> None:
    assert reading(expression) == [message]


def test_users_may_set_any_variable_but_one_spelled_like_the_playbooks_own_is_reported() -> None:
    more = "set: {vars.count: 1}"
    assert reading("[vars.count, vars.other, vars.get('cuont'), vars]", more=more) == []
    assert reading("vars.cuont | default(1)", more=more) == []
    assert reading("vars.cuont", more=more) == [
        "nothing in the playbook sets vars.cuont; did you mean 'count'?",
    ]


def test_older_names_can_be_read_where_they_mean_something() -> None:
    assert reading("job.uuid", more="set: {ctx.total: '{{ result.x }}'}") == []


def test_a_step_that_follows_over_a_back_arc_can_have_run() -> None:
    cycle = """
    workflow:
      - {step: a, tool: {kind: noop, result: {x: "{{ b.y }}"}}, next: {arcs: [{step: b}]}}
      - {step: b, tool: {kind: noop}, next: {arcs: [{step: a, when: "{{ output.data.again }}"}]}}
    """
    assert found(cycle) == []


def test_a_step_of_a_parallel_branch_can_have_run_and_the_last_step_sees_all() -> None:
    branches = """
    executor: {spec: {final_step: last}}
    workflow:
      - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}
      - {step: b, tool: {kind: noop, result: {x: "{{ c.y }}"}}}
      - {step: c, tool: {kind: noop}}
      - {step: last, tool: {kind: noop, result: {x: "{{ b.y }}", y: "{{ c.y }}"}}}
    """
    assert found(branches) == []


def test_a_loop_gives_its_item_and_what_its_rules_set() -> None:
    loop = """
    workflow:
      - step: a
        loop: {in: [1, 2], iterator: number}
        tool:
          kind: noop
          result: {a: "{{ iter.number }}", b: "{{ number }}", c: "{{ iter._index }}", d: "{{ loop.length }}",
                  e: "{{ iter.seen }}", f: "{{ iter.numbr }}", g: "{{ loop_index }}", h: "{{ loop_event_id }}"}
          spec: {policy: {rules: [{else: {then: {do: continue, set: {iter.seen: 1}}}}]}}
        set: {ctx.x: "{{ number }}", ctx.y: "{{ loop_index }}"}
        next: {arcs: [{step: a, when: "{{ ctx.x and ctx.y and loop.done and iter.number }}"}]}
    """
    assert found(loop) == [
        "nothing sets iter.numbr in this step; did you mean 'number'?",
        "'number' is not defined here; only the caller can give it, as a key of the workload",
        "'loop_index' is not defined here; only the caller can give it, as a key of the workload",
        "'iter' has no value here: only a tool of a step with a loop, or whose rules set iter.NAME, can read it",
    ]


def test_a_task_reads_those_before_it_and_all_if_it_can_be_run_again() -> None:
    pipeline = """
    workflow:
      - step: a
        tool:
          - {{name: first, kind: noop, result: {{x: "{{{{ second.y }}}}"}}}}
          - {{name: second, kind: noop, result: {{x: "{{{{ first.y }}}}"}}{rules}}}
    """
    jump = ", spec: {policy: {rules: [{when: '{{ second.y }}', then: {do: jump, to: first}}]}}"
    assert found(pipeline.format(rules="")) == [
        "'second' is not defined here; only the caller can give it, as a key of the workload"
    ]
    assert found(pipeline.format(rules=jump)) == []


def test_results_that_are_collected_have_a_name_in_the_tasks_of_the_step() -> None:
    text = """
    workflow:
      - step: a
        tool:
          - {name: page, kind: noop, output: {accumulate: {manifest_as: pages}}}
          - {name: count, kind: noop, result: {x: "{{ pages }}"}}
        set: {ctx.x: "{{ pages }}"}
        next: {arcs: [{step: a, when: "{{ ctx.x }}"}]}
    """
    assert found(text) == ["'pages' is not defined here; only the caller can give it, as a key of the workload"]


def test_a_task_of_the_workbook_is_read_where_it_is_used() -> None:
    workbook = """
    workbook:
      - {name: t, tool: {kind: python, code: "result = 1", result: {x: "{{ iter.number }}"}}}
    workflow:
      - {step: a, loop: {in: [1], iterator: number}, tool: {kind: workbook, name: t}, next: {arcs: [{step: b}]}}
      - {step: b, tool: {kind: workbook, name: t}}
    """
    assert found(workbook) == [
        "'iter' has no value here: only a tool of a step with a loop, or whose rules set iter.NAME, can read it"
    ]


def test_the_place_is_the_line_of_the_name_in_a_text_of_several_lines() -> None:
    [finding] = lint(tool("kind: noop\nresult:\n  x: |\n    1\n    {{ zz }}"))
    assert (finding.line, finding.pointer, finding.code) == (11, "/workflow/0/tool/result/x", "playbook.undefined_name")


# -- what nothing reads

UNUSED = """
workload: {{city: Bern, spare: 1}}
workflow:
  - step: a
    tool: {{kind: python, input: {{x: "{{{{ {expression} }}}}"}}, code: "{code}"}}
    set: {{ctx.total: 1, ctx.spare_total: 2}}
    next: {{arcs: [{{step: a, when: "{{{{ ctx.total > 1 }}}}"}}]}}
"""


def unused(expression: str = "workload.city", code: str = "result = x") -> list[str]:
    return found(UNUSED.format(expression=expression, code=code))


def test_keys_that_nothing_reads_are_reported_at_the_key() -> None:
    assert unused() == ["nothing reads workload.spare", "nothing reads ctx.spare_total"]
    [workload, ctx] = lint(playbook(UNUSED.format(expression="workload.city", code="result = x")))
    assert (workload.line, workload.column, workload.pointer) == (4, 24, "/workload/spare")
    assert (ctx.line, ctx.pointer) == (8, "/workflow/0/set/ctx.spare_total")


@pytest.mark.parametrize(
    ("expression", "left"),
    [
        ("[workload.city, spare, ctx.spare_total]", []),
        ("workload", ["nothing reads ctx.spare_total"]),
        ("workload[city]", ["nothing reads ctx.spare_total"]),
        ("[workload.city, ctx]", ["nothing reads workload.spare"]),
        ("workload.items() | list", ["nothing reads ctx.spare_total"]),
    ],
)
def test_a_read_of_the_whole_reads_every_key(expression: str, left: list[str]) -> None:
    assert unused(expression) == left


def test_python_code_that_sees_the_context_may_read_all() -> None:
    assert unused(code="result = context") == []
    assert unused(code="result = [x, 'contexts']") != []


def test_a_task_of_the_workbook_that_no_step_uses_reads_too() -> None:
    text = """
    workload: {city: Bern}
    workbook: [{name: t, tool: {kind: http, url: "{{ workload.city }}"}}]
    workflow: [{step: a, tool: {kind: noop}}]
    """
    assert found(text) == []


def of_input(tool: str, *, of_step: str = "{}") -> list[str]:
    text = f"workflow: [{{step: a, input: {of_step}, tool: {{{tool}}}}}]"
    return found(text)


@pytest.mark.parametrize(
    ("tool", "of_step"),
    [
        ('kind: noop, input: {x: 1}, result: "{{ x }}"', "{}"),
        ('kind: noop, input: {x: "{{ y }}"}, result: "{{ x }}"', "{y: 1}"),
        ("kind: noop, input: {x: {y: 1}}, assert: {expects: [x.y]}", "{}"),
        ('kind: python, code: "result = 1", input: {x: 1}', "{y: 1}"),
        ("kind: playbook, path: a, input: {x: 1}", "{y: 1}"),
    ],
)
def test_an_input_that_something_reads_is_not_reported(tool: str, of_step: str) -> None:
    assert of_input(tool, of_step=of_step) == []


@pytest.mark.parametrize(
    ("tool", "of_step", "messages"),
    [
        ('kind: http, url: "{{ x }}", input: {y: 1}', "{x: 1}", ["nothing reads 'y' of the input: read it as {{ y }}"]),
        # the tool's own input is made before it has names
        (
            'kind: noop, input: {x: 1, y: "{{ x }}"}, result: "{{ [x, y] }}"',
            "{}",
            ["'x' is not defined here; only the caller can give it, as a key of the workload"],
        ),
        # rules read what the tool gave
        (
            'kind: noop, input: {x: 1}, result: "{{ x }}", spec: {policy: {rules: [{when: "{{ x }}", then: {}}]}}',
            "{}",
            ["'x' is not defined here; only the caller can give it, as a key of the workload"],
        ),
    ],
)
def test_where_the_names_of_an_input_can_be_read(tool: str, of_step: str, messages: list[str]) -> None:
    assert of_input(tool, of_step=of_step) == messages


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("event.data.x", []),
        ("event.headers", []),
        ("event.get('dta')", []),
        ("event.dta is defined", []),
        ("event.dta", ["the event of a trigger has no 'dta'; did you mean 'data'?"]),
        ("event.body", ["the event of a trigger has no 'body' (there are data, headers, id, source, time, type)"]),
    ],
)
def test_what_the_templates_of_a_trigger_read(expression: str, expected: list[str]) -> None:
    assert (
        found(f"""
    triggers:
      - {{name: t, kind: webhook, auth: c, input: {{x: "{{{{ {expression} }}}}"}}}}
    workload: {{x: 1}}
    workflow:
      - {{step: a, tool: {{kind: noop, result: "{{{{ x }}}}"}}}}
    """)
        == expected
    )
