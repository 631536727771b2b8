from __future__ import annotations

import pytest

from noetl_serverless.playbook.lint import lint

from .playbooks import playbook, step, tool


def warnings(text: str) -> list[tuple[int | None, str]]:
    """Without those about names, which have tests of their own."""
    names = ("playbook.undefined_name", "playbook.unused_name")
    found = [finding for finding in lint(text) if finding.code not in names]
    assert {finding.severity for finding in found} <= {"warning"}
    return [(finding.line, finding.code) for finding in found]


def test_nothing_to_say() -> None:
    assert lint(step("step: a\ntool: {kind: noop}")) == []


def test_errors_have_their_severity() -> None:
    finding = lint("a: 1\nb: : 2")[0]
    assert finding.to_dict()["severity"] == "error"
    assert finding.to_dict()["line"] == 2


def test_a_step_no_arc_leads_to() -> None:
    text = "workflow:\n  - {step: a, tool: {kind: noop}}\n  - {step: b, tool: {kind: noop}}\n"
    assert warnings(playbook(text)) == [(6, "playbook.unreachable")]
    final = "executor: {spec: {final_step: b}}\n"
    assert warnings(playbook(final + text)) == []


@pytest.mark.parametrize("name", ["_index", "_first", "_last"])
def test_a_name_that_the_loop_itself_gives(name: str) -> None:
    assert warnings(step(f"step: a\ntool: {{kind: noop}}\nloop:\n  in: [1]\n  iterator: {name}")) == [
        (9, "playbook.reserved_name")
    ]
    rules = f"rules: [{{when: '{{{{ true }}}}', then: {{do: continue, set: {{iter.{name}: 1, iter.x: 2}}}}}}]"
    looped = f"step: a\nloop: {{in: [1], iterator: x}}\ntool: {{kind: noop, spec: {{policy: {{{rules}}}}}}}"
    assert warnings(step(looped)) == [(7, "playbook.reserved_name")]


def test_an_arc_after_one_that_is_always_taken() -> None:
    arcs = "[{step: a, when: '{{ ctx.x }}'}, {step: a}, {step: a, when: '{{ ctx.y }}'}]"
    text = "step: a\ntool: {{kind: noop}}\nnext: {{spec: {{mode: {mode}}}, arcs: {arcs}}}"
    assert warnings(step(text.format(mode="exclusive", arcs=arcs))) == [(7, "playbook.dead_arc")]
    assert warnings(step(text.format(mode="inclusive", arcs=arcs))) == []
    failure = "[{step: a}, {step: a, when: \"{{ event.name == 'call.error' }}\"}]"
    assert warnings(step(text.format(mode="exclusive", arcs=failure))) == []


def test_a_rule_with_the_condition_of_one_before_it() -> None:
    rules = [
        "{when: '{{ output.data.x }}', then: {do: retry}}",
        "{when: '{{ output.data.x }}', then: {do: fail}}",
        "{when: '{{ output.data.y }}', then: {do: fail}}",
        "{else: {then: {do: continue}}}",
    ]
    text = tool("kind: noop\nspec:\n  policy:\n    rules:\n" + "".join(f"      - {rule}\n" for rule in rules))
    assert warnings(text) == [(12, "playbook.dead_rule")]


def test_an_arc_with_the_condition_of_one_before_it() -> None:
    arcs = "[{step: a, when: '{{ ctx.x }}'}, {step: b, when: '{{ ctx.x }}'}, {step: a, when: '{{ ctx.x }}'}]"
    text = "workflow:\n  - step: a\n    tool: {{kind: noop}}\n    next: {{spec: {{mode: {mode}}}, arcs: {arcs}}}\n"
    text += "  - {{step: b, tool: {{kind: noop}}}}\n"
    assert warnings(playbook(text.format(mode="exclusive", arcs=arcs))) == [(7, "playbook.dead_arc")] * 2
    assert warnings(playbook(text.format(mode="inclusive", arcs=arcs))) == [(7, "playbook.dead_arc")]


@pytest.mark.parametrize(
    ("when", "unknown"),
    [
        ("event.name == 'call.done'", False),
        ("event.name == 'step.failed'", False),
        ("event.name == 'call.don'", True),
        ("'call.don' == event.name", True),
        ("event.name in ['call.done', 'call.eror']", True),
        ("ctx.name == 'call.don'", False),
    ],
)
def test_an_event_nobody_sends(when: str, unknown: bool) -> None:
    text = step(f'step: a\ntool: {{kind: noop}}\nnext: {{arcs: [{{step: a, when: "{{{{ {when} }}}}"}}]}}')
    assert warnings(text) == ([(7, "playbook.unknown_event")] if unknown else [])


def test_templates_in_the_workload() -> None:
    text = playbook('workload: {a: [{b: "{{ x }}"}]}\nworkflow: [{step: a, tool: {kind: noop}}]\n')
    assert warnings(text) == [(4, "playbook.not_rendered")]


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("backoff: none, delay: 2", True),
        ("backoff: none, delay: 0", False),
        ("delay: 2", False),
        ("backoff: none", False),
    ],
)
def test_a_delay_that_is_not_waited(then: str, said: bool) -> None:
    rules = f"[{{else: {{then: {{do: retry, {then}}}}}}}]"
    of_a_step = tool(f"kind: noop\nspec:\n  policy:\n    rules: {rules}")
    assert warnings(of_a_step) == ([(10, "playbook.no_delay")] if said else [])
    of_a_workbook = f"workbook: [{{name: t, tool: {{kind: noop, spec: {{policy: {{rules: {rules}}}}}}}}}]\n"
    text = playbook(of_a_workbook + "workflow: [{step: a, tool: {kind: noop}}]\n")
    assert warnings(text) == ([(4, "playbook.no_delay")] if said else [])


@pytest.mark.parametrize(
    ("entry", "wait", "expected"),
    [
        ("approval: boss", "approval: boss", []),
        ("approval: boss", "signal: boss", [(5, "playbook.not_awaited")]),
        ("signal: boss", "approval: boss", [(5, "playbook.not_awaited")]),
        ("signal: boss", "signal: other", [(5, "playbook.not_awaited")]),
    ],
)
def test_a_url_that_answers_otherwise_than_a_step_waits(entry: str, wait: str, expected: list[tuple[int, str]]) -> None:
    text = f"""
    keychain:
      - {{name: url, kind: callback, {entry}}}
    workflow:
      - {{step: send, tool: {{kind: noop, result: "{{{{ keychain.url.url }}}}"}}, next: {{arcs: [{{step: ask}}]}}}}
      - {{step: ask, tool: {{kind: wait, {wait}}}}}
    """
    assert warnings(playbook(text)) == expected


@pytest.mark.parametrize(("mode", "warned"), [("parallel", True), ("sequential", False)])
@pytest.mark.parametrize("read", [True, False])
def test_a_url_that_the_items_of_a_parallel_loop_share(mode: str, warned: bool, read: bool) -> None:
    text = f"""
    keychain:
      - {{name: url, kind: callback, approval: boss}}
    workflow:
      - {{step: first, tool: {{kind: noop, result: "{{{{ keychain.url.url }}}}"}}, next: {{arcs: [{{step: ask}}]}}}}
      - step: ask
        loop: {{in: "{{{{ [1, 2] }}}}", iterator: k, spec: {{mode: {mode}}}}}
        tool:
          - {{name: tell, kind: noop, result: "{{{{ {"keychain.url.url" if read else "k"} }}}}"}}
          - {{name: wait, kind: wait, approval: boss}}
    """
    found = [code for _, code in warnings(playbook(text)) if code == "playbook.one_answer"]
    assert bool(found) is (warned and read)


@pytest.mark.parametrize(
    ("key", "path", "warned"), [("all", "p/x", True), ("all", "p/y", False), ("'{{ workload.n }}'", "p/x", False)]
)
def test_a_limited_playbook_that_calls_itself(key: str, path: str, warned: bool) -> None:
    text = f"""
    apiVersion: noetl.io/v2
    kind: Playbook
    metadata: {{name: x, path: p/x}}
    executor: {{spec: {{concurrency: {{key: {key}, limit: 2}}}}}}
    workload: {{n: 1}}
    workflow:
      - {{step: a, tool: {{kind: playbook, path: {path}}}}}
    """
    codes = [code for _, code in warnings(text)]
    assert codes == (["playbook.waits_for_itself"] if warned else [])


def test_a_description_is_shown_as_it_is() -> None:
    text = step('step: a\ndesc: "round {{ ctx.round }}"\ntool: {kind: wait, approval: x}')
    assert warnings(text) == [(6, "playbook.not_rendered")]
    assert warnings(step("step: a\ndesc: round 1\ntool: {kind: wait, approval: x}")) == []


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("nosuch", "", ["the workload has no 'nosuch', and nothing in the playbook reads it"]),
        ("ordr", "", ["the workload has no 'ordr', and nothing in the playbook reads it; did you mean 'order'?"]),
        ("order", "", []),
        ("ctx", "", []),
        ("late", "", []),
        ("paid", "schemas: {input: {type: object, properties: {paid: {type: string}}}}\n", []),
    ],
)
def test_what_a_trigger_gives_to_nothing(name: str, more: str, said: list[str]) -> None:
    given = f"triggers: [{{name: t, kind: webhook, auth: a, input: {{{name}: '{{{{ event.data }}}}'}}}}]\n"
    steps = "workload: {order: 1}\nworkflow: [{step: a, tool: {kind: noop, result: '{{ workload.late }}'}}]\n"
    found = [finding for finding in lint(playbook(given + more + steps)) if "reads it" in finding.message]
    assert [(finding.message, finding.code) for finding in found] == [(text, "playbook.unused_name") for text in said]
