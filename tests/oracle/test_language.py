"""The oracle by itself: examples of the language reference, and what the project's own pages promise."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Any

import pytest

from .names import Outcome
from .playbook import read
from .prediction import Prediction, predict
from .tasks import Call
from .template import Unrenderable, asks_how_it_ended, holds, render
from .tools import answer

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"


def ran(workflow: str, head: str = "", tools: Any = answer, **payload: Any) -> Prediction:
    return predict(read(HEAD + dedent(head) + "workflow:\n" + indent(dedent(workflow), "  ")), payload, tools)


def failing(*steps: str) -> Any:
    def tools(call: Call) -> Outcome:
        if call.task in steps or call.step in steps:
            return Outcome("error", error={"code": "boom", "message": "it broke"})
        return answer(call)

    return tools


# -- templates


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ n }}", 3),
        ("{{ n }}{{ n }}", "33"),
        ("n={{ n }}", "n=3"),
        ("{{ row.items }}", 7),
        ("{{ row.items() | list | length if false else 1 }}", 1),
        ("{{ nope | default(2) }}", 2),
        ("{{ nope is defined }}", False),
        ("{{ rows | map(attribute='id') }}", [1, 2]),
        ("{{ rows }}!", '[{"id": 1}, {"id": 2}]!'),
        ("plain", "plain"),
    ],
)
def test_a_lone_expression_gives_its_value_and_other_text_gives_text(source: str, value: Any) -> None:
    names = {"n": 3, "row": {"items": 7}, "rows": [{"id": 1}, {"id": 2}]}
    assert render(source, names) == value


def test_what_there_is_not_raises() -> None:
    for source in ("{{ nope }}", "{{ n.x }}", "a {{ nope }}"):
        with pytest.raises(Unrenderable):
            render(source, {"n": {}})


def test_text_that_says_no_is_false() -> None:
    assert [holds(f"{{{{ '{text}' }}}}", {}) for text in ("false", "0", "no", "None", "yes")] == [False] * 4 + [True]


def test_only_who_asks_how_it_ended_may_follow_a_failure() -> None:
    asking = ("{{ event.name == 'x' }}", "{{ error.code == 'x' }}", "{{ output.status == 'error' }}")
    assert all(map(asks_how_it_ended, asking))
    assert not any(map(asks_how_it_ended, ("{{ true }}", "{{ output.data.x }}", "{{ ctx.x }}")))


# -- examples of the reference


def test_exclusive_routing_takes_the_first_true_arc() -> None:
    workflow = """
        - step: start
          tool: {kind: python, input: {c: "{{ workload.celsius }}"}, code: "result = {'f': c * 9 / 5 + 32}"}
          set: {ctx.fahrenheit: "{{ output.data.f }}"}
          next:
            spec: {mode: exclusive}
            arcs:
              - {step: hot, when: "{{ workload.celsius > workload.limit }}"}
              - {step: cold}
        - {step: hot, tool: {kind: noop}}
        - {step: cold, tool: {kind: noop}}
        """
    found = ran(workflow, "workload: {celsius: 31, limit: 25}\n")
    assert (found.status, found.ctx, found.skipped) == ("completed", {"fahrenheit": 87.8}, ["cold"])
    assert ran(workflow, "workload: {celsius: 31, limit: 25}\n", celsius=3).skipped == ["hot"]


def test_a_pipeline_jumps_and_breaks() -> None:
    found = ran(
        """
        - step: read_all
          tool:
            - name: begin
              kind: noop
              spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.page: 1}}}}]}}
            - {name: page, kind: python, input: {p: "{{ ctx.page }}"}, code: "result = {'p': p, 'more': p < 3}"}
            - name: store
              kind: python
              input: {p: "{{ page.p }}"}
              code: "result = p"
              spec:
                policy:
                  rules:
                    - when: "{{ page.more }}"
                      then: {do: jump, to: page, set: {ctx.page: "{{ ctx.page | int + 1 }}"}}
                    - else: {then: {do: break}}
            - {name: never, kind: python, code: "raise RuntimeError()"}
        """
    )
    assert found.result == {
        "_prev": 3,
        "results": {"begin": {"status": "ok"}, "page": {"p": 3, "more": False}, "store": 3},
        "status": "break",
    }
    assert found.ctx == {"page": 3}


def test_a_loop_gives_its_results_in_order() -> None:
    found = ran(
        """
        - step: score
          loop: {in: "{{ workload.users }}", iterator: user, spec: {mode: parallel, max_in_flight: 8}}
          tool: {kind: python, input: {u: "{{ iter.user }}", n: "{{ iter._index }}"}, code: "result = [u, n]"}
          next: {arcs: [{step: report, when: "{{ event.name == 'loop.done' }}"}]}
        - {step: report, tool: {kind: python, input: {r: "{{ score.results }}"}, code: "result = r"}}
        """,
        users=["a", "b"],
    )
    assert found.result == [["a", 0], ["b", 1]]


def test_a_loop_is_the_list_of_its_results_and_has_its_stats() -> None:
    found = ran(
        """
        - step: each
          loop: {in: [3, 0, 5], iterator: n, spec: {mode: async, policy: {failure: {mode: best_effort}}}}
          tool: {kind: python, input: {n: "{{ iter.n }}"}, code: "result = 15 / n"}
          set: {ctx.ended: "{{ [loop.done, loop.length] }}"}
          next: {arcs: [{step: all, when: "{{ each.stats.failed == 1 and each[1] is none }}"}]}
        - step: all
          tool:
            kind: python
            input: {r: "{{ [each, each[0], each | length, each.data.stats.failed] }}"}
            code: "result = r"
        """
    )
    assert found.result == [[5.0, None, 3.0], 5.0, 3, 1]
    assert found.ctx == {"ended": [True, 3]}


def test_a_join_waits_for_all_that_can_still_come_and_runs_once() -> None:
    found = ran(
        """
        - step: split
          tool: {kind: noop}
          next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}, {step: never, when: "{{ false }}"}]}
        - {step: left, tool: {kind: python, code: "result = {'v': 1}"}, next: {arcs: [{step: join}]}}
        - {step: right, tool: {kind: noop}, next: {arcs: [{step: more}]}}
        - {step: more, tool: {kind: python, code: "result = {'v': 2}"}, next: {arcs: [{step: join}]}}
        - {step: never, tool: {kind: noop}, next: {arcs: [{step: join}]}}
        - {step: join, tool: {kind: python, input: {a: "{{ left.v + more.v }}"}, code: "result = a"}}
        """
    )
    assert (found.result, found.runs["join"], found.skipped) == (3, 1, ["never"])


# -- failures


def test_a_failure_takes_only_an_arc_that_asks_for_it() -> None:
    workflow = """
        - step: a
          tool: {kind: noop}
          next: {arcs: [{step: mend, when: "{{ event.name == 'step.failed' }}"}, {step: b}]}
        - {step: mend, tool: {kind: noop}}
        - {step: b, tool: {kind: noop}}
        """
    assert ran(workflow, tools=failing("a")).runs == {"a": 1, "mend": 1}
    assert ran(workflow).runs == {"a": 1, "b": 1}
    found = ran(workflow.replace("step.failed", "loop.failed"), tools=failing("a"))
    assert (found.status, found.error) == ("failed", {"code": "boom", "message": "it broke", "step": "a"})


def test_a_condition_that_raises_does_not_hide_why_the_step_failed() -> None:
    workflow = """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ event.nothing.more }}"}]}}
        - {step: b, tool: {kind: noop}}
        """
    for tools, code in ((failing("a"), "boom"), (answer, "template.error")):
        found = ran(workflow, tools=tools)
        assert found.error is not None
        assert (found.error["code"], found.error["step"]) == (code, "a")


def test_retries_are_counted_and_then_fail() -> None:
    workflow = """
        - step: a
          tool:
            kind: noop
            spec: {policy: {rules: [{when: "{{ output.status == 'error' }}", then: {do: retry, attempts: 4}}]}}
        """
    found = ran(workflow, tools=failing("a"))
    assert [call.attempt for call in found.calls] == [1, 2, 3, 4]
    assert found.error is not None
    assert found.error["code"] == "boom"


def test_best_effort_goes_on_and_fail_fast_does_not() -> None:
    workflow = """
        - step: each
          loop: {in: "{{ [1, 0, 2] }}", iterator: n}
          tool: {kind: python, input: {n: "{{ iter.n }}"}, code: "result = 1 / n"}
        """
    found = ran(dedent(workflow) + "  spec: {policy: {failure: {mode: best_effort}}}\n")
    assert found.result == {"results": [1.0, None, 0.5], "stats": {"total": 3, "success": 2, "failed": 1}}
    found = ran(workflow)
    assert found.error is not None
    assert (found.error["code"], found.error["step"], len(found.calls)) == ("loop.item_failed", "each", 2)


def test_a_budget_ends_it_before_the_command_too_many() -> None:
    workflow = """
        - step: a
          tool: {kind: noop}
          set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
          next: {arcs: [{step: a, when: "{{ ctx.n < 9 }}"}]}
        """
    found = ran(workflow, "executor: {spec: {budget: {max_invocations: 3}}}\n")
    assert (found.error, found.runs["a"], len(found.calls)) == ({"code": "budget.exceeded", "step": "a"}, 4, 3)


def test_no_arc_that_fits_is_an_error_only_if_asked_for() -> None:
    workflow = '- {step: a, tool: {kind: noop}, next: {arcs: [{step: a, when: "{{ false }}"}]}}'
    assert ran(workflow).status == "completed"
    found = ran(workflow, "executor: {spec: {no_next_is_error: true}}\n")
    assert found.error == {"code": "routing.no_match", "step": "a"}


# -- the graph


def test_a_step_on_a_way_of_a_cycle_that_was_never_taken_is_skipped_when_the_cycle_is_left() -> None:
    found = ran(
        """
        - step: head
          tool: {kind: noop}
          set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
          next: {arcs: [{step: left, when: "{{ ctx.n < 9 }}"}, {step: right}]}
        - {step: left, tool: {kind: noop}, next: {arcs: [{step: foot}]}}
        - {step: right, tool: {kind: noop}, next: {arcs: [{step: foot}]}}
        - {step: foot, tool: {kind: noop}, next: {arcs: [{step: head, when: "{{ ctx.n < 3 }}"}, {step: after}]}}
        - {step: after, tool: {kind: python, input: {s: "{{ right.status }}"}, code: "result = s"}}
        """
    )
    assert found.runs == {"head": 3, "left": 3, "foot": 3, "after": 1}
    assert (found.result, found.skipped) == ("skipped", ["right"])


def test_a_join_outside_a_cycle_waits_for_what_goes_round_in_it_whatever_the_order_of_arcs() -> None:
    for arcs in ("[{step: join}, {step: turn}]", "[{step: turn}, {step: join}]"):
        found = ran(
            f"""
            - step: head
              tool: {{kind: noop}}
              set: {{ctx.n: "{{{{ ctx.n | default(0) + 1 }}}}"}}
              next: {{arcs: [{{step: fork, when: "{{{{ ctx.n < 2 }}}}"}}, {{step: join}}]}}
            - {{step: fork, tool: {{kind: noop}}, next: {{spec: {{mode: inclusive}}, arcs: {arcs}}}}}
            - {{step: turn, tool: {{kind: noop}}, next: {{arcs: [{{step: head}}]}}}}
            - {{step: join, tool: {{kind: noop}}}}
            """
        )
        assert found.runs == {"head": 2, "fork": 1, "turn": 1, "join": 1}, arcs


def test_branches_that_lead_back_to_one_step_are_one_round_of_it() -> None:
    found = ran(
        """
        - step: head
          tool: {kind: noop}
          set: {ctx.n: "{{ ctx.n | default(0) + 1 }}"}
          next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}
        - {step: left, tool: {kind: noop}, next: {arcs: [{step: head, when: "{{ ctx.n < 4 }}"}]}}
        - {step: right, tool: {kind: noop}, next: {arcs: [{step: head, when: "{{ ctx.n < 4 }}"}]}}
        """
    )
    assert found.runs == {"head": 4, "left": 4, "right": 4}


def test_turns_have_a_limit() -> None:
    workflow = "- {step: a, tool: {kind: noop}, next: {arcs: [{step: a}]}}\n"
    found = ran(workflow, "executor: {spec: {max_turns: 5}}\n")
    assert (found.error, found.runs["a"]) == ({"code": "turns.exceeded", "step": "a"}, 5)


def test_the_final_step_runs_last_and_what_lies_behind_it_is_not_called_skipped_before() -> None:
    head = "executor: {spec: {final_step: sum}}\n"
    steps = "- {step: a, tool: {kind: noop}}\n- {step: sum, tool: {kind: python, code: 'result = 5'}}\n"
    assert (ran(steps, head).result, ran(steps, head).runs) == (5, {"a": 1, "sum": 1})
    behind = """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}, {step: c}]}}
        - {step: b, tool: {kind: noop}}
        - {step: c, tool: {kind: noop}}
        - {step: sum, tool: {kind: noop}, next: {arcs: [{step: c}]}}
        """
    assert ran(behind, head).runs == {"a": 1, "b": 1, "sum": 1, "c": 1}
    assert ran(behind, head).skipped == []


def test_what_is_skipped_is_so_before_what_follows_begins() -> None:
    found = ran(
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}, {step: c}]}}
        - {step: b, tool: {kind: python, input: {c: "{{ c.status }}"}, code: "result = c"}}
        - {step: c, tool: {kind: noop}}
        """
    )
    assert found.result == "skipped"


def test_a_step_that_is_not_admitted_is_skipped_and_holds_nobody_up() -> None:
    found = ran(
        """
        - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}
        - step: b
          tool: {kind: noop}
          spec: {policy: {admit: {rules: [{when: "{{ not workload.go }}", then: {allow: false}}]}}}
          next: {arcs: [{step: d}]}
        - {step: c, tool: {kind: noop}, next: {arcs: [{step: d}]}}
        - {step: d, tool: {kind: python, input: {b: "{{ b.status }}"}, code: "result = b"}}
        """,
        go=False,
    )
    assert (found.result, found.skipped) == ("skipped", ["b"])


# -- what is collected, checked, claimed, and how long it takes


PAGES = """
    - step: pages
      tool:
        - name: page
          kind: python
          input: {n: "{{ step.n | default(0) }}"}
          code: "result = {'items': [n, n + 10]}"
          output: {accumulate: {strategy: STRATEGY, merge_path: $.items, manifest_as: all}}
        - name: more
          kind: python
          input: {all: "{{ all }}"}
          code: "result = {'so_far': all}"
          spec:
            policy:
              rules:
                - when: "{{ step.n | default(0) < 2 }}"
                  then: {do: jump, to: page, set: {step.n: "{{ step.n | default(0) + 1 }}"}}
    """


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("append", [[0, 10], [1, 11], [2, 12]]), ("concat", [0, 10, 1, 11, 2, 12]), ("replace", [2, 12])],
)
def test_the_results_of_all_runs_of_a_task_are_collected(strategy: str, expected: Any) -> None:
    result = ran(PAGES.replace("STRATEGY", strategy)).result
    assert (result["all"], result["so_far"]) == (expected, expected)


def test_failed_runs_are_collected_only_if_that_is_asked_for() -> None:
    step = """
        - step: a
          tool:
            kind: python
            input: {n: "{{ _attempt }}"}
            code: "result = {'n': n} if n > 2 else 1 / 0"
            output: {accumulate: {merge_path: $.n}}
            spec: {policy: {rules: [{when: "{{ output.status == 'error' }}", then: {do: retry}}]}}
        """
    assert ran(step).result == {"n": 3, "accumulated": [3]}


def test_more_than_may_be_collected_fails_the_step() -> None:
    found = ran(PAGES.replace("STRATEGY", "concat, max_items: 4"))
    assert found.error == {"code": "value.too_large", "step": "pages"}


@pytest.mark.parametrize(
    ("contract", "code"),
    [("expects: [n], returns: [a.b]", None), ("expects: [m]", "assert.expects"), ("returns: [a.c]", "assert.returns")],
)
def test_what_an_assertion_asks_for_must_be_there(contract: str, code: str | None) -> None:
    tool = "{kind: python, input: {n: 1}, code: \"result = {'a': {'b': n}}\", assert: {CONTRACT}}"
    found = ran(f"- {{step: a, tool: {tool.replace('CONTRACT', contract)}}}")
    assert (found.error or {}).get("code") == code


WAITING = """
    - step: a
      tool:
        kind: python
        input: {n: "{{ _attempt }}"}
        code: "result = n"
        spec: {policy: {rules: [{when: "{{ output.data < 4 }}", then: {do: retry, attempts: 9, RULE}}]}}
    """


@pytest.mark.parametrize(
    ("rule", "waits"),
    [
        ("backoff: none, delay: 5", 0),
        ("delay: 5", 15),
        ("backoff: linear, delay: 5", 30),
        ("backoff: exponential, delay: 5", 35),
        ("backoff: exponential, delay: 5, max_delay: 8s", 21),
        ("backoff: fixed", 3),
    ],
)
def test_an_execution_that_waits_longer_than_it_may_take_fails(rule: str, waits: int) -> None:
    steps = WAITING.replace("RULE", rule)
    assert ran(steps, f"executor: {{spec: {{timeout: {waits + 1}s}}}}\n").result == 4
    if waits:
        error = ran(steps, f"executor: {{spec: {{timeout: {waits - 1}s}}}}\n").error
        assert error == {"code": "execution.timeout"}


def test_a_loop_claims_the_rows_that_there_are() -> None:
    text = """
        - step: drain
          loop: {iterator: job, cursor: {kind: postgres, auth: x, claim: SELECT 1}, spec: {mode: cursor}}
          tool: {kind: python, input: {n: "{{ iter.job.id }}"}, code: "result = 2 * n"}
        """
    playbook = read(HEAD + "workflow:\n" + indent(dedent(text), "  "))
    found = predict(playbook, {}, answer, claims=lambda step: [{"id": 3}, {"id": 5}])
    assert found.result == {"results": [6, 10], "stats": {"total": 2, "success": 2, "failed": 0}}


def test_what_comes_back_of_a_secret_is_masked() -> None:
    head = "keychain:\n  - {name: x, kind: static, map: {a: 1}}\n"
    found = ran("- {step: s, tool: {kind: python, input: {t: '{{ keychain.x.a }}'}, code: 'result = t'}}", head)
    assert found.result == "***"


# -- what is undone

SAGA = """
    - {step: reserve, tool: {kind: python, code: "result = {'id': 1}"}, next: {arcs: [{step: charge}]},
       compensate: {tool: {kind: python, input: {id: "{{ reserve.id }}"}, code: "result = id"}}}
    - {step: charge, tool: {kind: python, code: "result = {'id': 2}"}, next: {arcs: [{step: ship}]},
       compensate: {tool: {kind: python, input: {id: "{{ charge.id }}"}, code: "result = id"}}}
    - {step: ship, tool: {kind: noop}, compensate: none}
    """


def test_what_has_been_done_is_undone_the_latest_first_before_it_fails() -> None:
    found = ran(SAGA, tools=failing("ship"))
    assert found.error == {
        "code": "boom",
        "message": "it broke",
        "step": "ship",
        "compensation": {"done": ["charge", "reserve"], "failed": []},
    }
    assert [(call.step, call.input.get("id")) for call in found.calls][-2:] == [
        ("charge.compensate", 2),
        ("reserve.compensate", 1),
    ]


def test_what_cannot_be_undone_does_not_hold_up_the_rest() -> None:
    found = ran(SAGA, tools=failing("ship", "charge.compensate"))
    assert (found.error or {})["compensation"] == {"done": ["reserve"], "failed": [{"step": "charge", "code": "boom"}]}
    assert ran(SAGA).status == "completed"


def test_a_step_beside_it_that_is_under_way_ends_first_and_is_undone_too() -> None:
    workflow = """
        - {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}}
        - {step: left, tool: {kind: noop}}
        - {step: right, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: after}]}}
        - {step: after, tool: {kind: noop}}
        """
    found = ran(workflow, tools=failing("left"))
    assert (found.error or {})["compensation"] == {"done": ["right"], "failed": []}
    assert [call.step for call in found.calls] == ["split", "left", "right", "right.compensate"]


def test_a_step_is_undone_though_what_it_sets_cannot_be_rendered() -> None:
    found = ran(
        """
        - {step: a, tool: {kind: noop}, compensate: {tool: {kind: noop}}, set: {ctx.x: "{{ nothing.more }}"}}
        """
    )
    error = found.error or {}
    assert (error["code"], error["compensation"]["done"]) == ("template.error", ["a"])


def test_a_budget_that_is_spent_undoes_too_and_costs_nothing() -> None:
    head = "executor: {spec: {budget: {max_invocations: 2}}}\n"
    found = ran(SAGA, head)
    error = found.error or {}
    assert (error["code"], error["compensation"]["done"]) == ("budget.exceeded", ["charge", "reserve"])


def test_the_items_of_a_loop_that_were_done_are_undone_together() -> None:
    found = ran(
        """
        - step: each
          loop: {in: [1, 2, 0, 4], iterator: n}
          tool: {kind: python, input: {n: "{{ iter.n }}"}, code: "result = 4 / n"}
          compensate:
            loop: {in: "{{ each.results | select('ne', none) | list }}", iterator: made}
            tool: {kind: python, input: {n: "{{ iter.made }}"}, code: "result = n"}
        """
    )
    assert (found.error or {})["compensation"] == {"done": ["each"], "failed": []}
    assert [call.input["n"] for call in found.calls if call.step == "each.compensate"] == [4.0, 2.0]
