"""Which step follows which."""

from __future__ import annotations

from tests.unit.engine.run import Run

NOOP = "tool: {kind: noop}"


def test_a_sequential_step_costs_two_events() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
        - {step: b, tool: {kind: noop}, next: {arcs: [{step: c}]}}
        - {step: c, tool: {kind: noop}}
        """
    )
    run.done("a")
    run.done("b")
    run.done("c")
    assert run.types() == [
        "playbook.initialized",
        "command.issued",
        "call.done",
        "command.issued",
        "call.done",
        "command.issued",
        "call.done",
        "playbook.completed",
    ]
    assert run.state.status == "completed"


def test_exclusive_takes_the_first_true_arc_and_skips_the_others() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: python, code: "result = 1"}
          set: {ctx.f: "{{ output.data.f }}"}
          next:
            arcs:
              - {step: hot, when: "{{ ctx.f > workload.limit }}"}
              - {step: cold}
        - {step: hot, tool: {kind: noop}, next: {arcs: [{step: after}]}}
        - {step: cold, tool: {kind: noop}}
        - {step: after, tool: {kind: noop}}
        """,
        "workload: {limit: 25}\n",
    )
    run.done("a", {"f": 20})
    assert run.running == {"cold"}
    assert run.skipped() == ["hot", "after"], "an arc not taken skips what lies behind it"
    assert run.state.ctx == {"f": 20}
    run.done("cold")
    assert run.state.status == "completed"


ONE_OF_TWO = """
- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}, {step: c}]}}
- {step: b, LOOP tool: {kind: python, code: x = 1, input: {c: "{{ c.status }}"}}, next: {arcs: [{step: d, when: WHEN}]}}
- {step: c, tool: {kind: noop}, next: {arcs: [{step: d}]}}
- {step: d, tool: {kind: noop}}
"""


def test_the_step_of_an_untaken_arc_is_skipped_for_what_the_taken_one_begins() -> None:
    run = Run(ONE_OF_TWO.replace("LOOP", "").replace("WHEN", "true"))
    run.done("a")
    (issued,) = run.issued("b")
    assert issued.payload["scope"]["steps"] == {"c": {"status": "skipped"}}, "b cannot tell that c is skipped"
    assert [event.type for event in run.log[-2:]] == ["command.issued", "step.skipped"], "the log has another order"


def test_and_for_what_follows_from_it_at_once() -> None:
    loop = 'loop: {in: "{{ [] }}", iterator: n},'
    run = Run(ONE_OF_TWO.replace("LOOP", loop).replace("WHEN", "\"{{ c.status == 'skipped' }}\""))
    run.done("a")
    assert run.running == {"d"}, run.log[-1].payload


def test_inclusive_takes_every_true_arc_and_the_join_waits_for_all() -> None:
    run = Run(
        """
        - step: split
          tool: {kind: noop}
          next:
            spec: {mode: inclusive}
            arcs: [{step: left}, {step: right}, {step: never, when: "{{ false }}"}]
        - {step: left, tool: {kind: noop}, next: {arcs: [{step: join}]}}
        - {step: right, tool: {kind: noop}, next: {arcs: [{step: join}]}}
        - {step: never, tool: {kind: noop}, next: {arcs: [{step: join}]}}
        - {step: join, tool: {kind: noop}}
        """
    )
    run.done("split")
    assert run.running == {"left", "right"}
    run.done("left", {"v": 1})
    assert run.running == {"right"}, "the join began before its other source was done"
    run.done("right", {"v": 2})
    assert run.running == {"join"}
    assert len(run.issued("join")) == 1
    assert run.skipped() == ["never"]
    run.done("join")
    assert run.state.status == "completed"


def test_a_join_waits_for_a_source_that_is_still_far_away() -> None:
    run = Run(
        """
        - step: split
          tool: {kind: noop}
          next: {spec: {mode: inclusive}, arcs: [{step: join}, {step: far}]}
        - {step: far, tool: {kind: noop}, next: {arcs: [{step: nearer}]}}
        - {step: nearer, tool: {kind: noop}, next: {arcs: [{step: join}]}}
        - {step: join, tool: {kind: noop}}
        """
    )
    run.done("split")
    assert run.running == {"far"}
    run.done("far")
    assert run.running == {"nearer"}
    run.done("nearer")
    assert run.running == {"join"}


def test_a_join_begins_when_its_other_source_is_skipped_later() -> None:
    run = Run(
        """
        - step: split
          tool: {kind: noop}
          next: {spec: {mode: inclusive}, arcs: [{step: join}, {step: maybe}]}
        - step: maybe
          tool: {kind: noop}
          next: {arcs: [{step: join, when: "{{ output.data.go }}"}, {step: elsewhere}]}
        - {step: elsewhere, tool: {kind: noop}}
        - {step: join, tool: {kind: noop}}
        """
    )
    run.done("split")
    run.done("maybe", {"go": False})
    assert run.running == {"elsewhere", "join"}


def test_a_back_edge_begins_a_new_generation_and_is_no_join() -> None:
    run = Run(
        """
        - {step: first, tool: {kind: noop}, next: {arcs: [{step: poll}]}}
        - step: poll
          tool: {kind: noop}
          set: {ctx.tries: "{{ (ctx.tries | default(0)) + 1 }}"}
          next: {arcs: [{step: poll, when: "{{ ctx.tries < 3 }}"}, {step: last}]}
        - {step: last, tool: {kind: noop}}
        """
    )
    run.done("first")
    for _ in range(3):
        run.done("poll")
    assert [event.command_id for event in run.issued("poll")] == ["poll#1", "poll#2", "poll#3"]
    assert run.running == {"last"}
    run.done("last")
    assert run.state.status == "completed"
    assert run.skipped() == []


def test_the_state_does_not_grow_with_the_history() -> None:
    run = Run(
        """
        - step: tick
          tool: {kind: noop}
          set: {ctx.n: "{{ (ctx.n | default(0)) + 1 }}"}
          next: {arcs: [{step: tick, when: "{{ ctx.n < 300 }}"}]}
        """
    )
    sizes = []
    for _ in range(300):
        run.done("tick", {"n": 1})
        sizes.append(len(str(run.state.snapshot())))
    assert run.state.status == "completed"
    assert max(sizes) - min(sizes[:100]) < 64


def test_an_arc_that_cannot_be_evaluated_fails_the_execution_and_says_where() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          next: {arcs: [{step: b, when: "{{ nowhere.x }}"}, {step: c}]}
        - {step: b, tool: {kind: noop}}
        - {step: c, tool: {kind: noop}}
        """
    )
    run.done("a")
    assert run.state.status == "failed"
    assert run.state.error is not None
    assert run.failure["name"] == "nowhere"
    assert run.failure["template"] == "{{ nowhere.x }}"
    assert run.failure["line"] == 8
    assert run.failure["step"] == "a"


def test_routing_never_fetches() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ output.data.n == 3 }}"}, {step: c}]}}
        - {step: b, tool: {kind: noop}, next: {arcs: [{step: c, when: "{{ a.rows | length > 1 }}"}]}}
        - {step: c, tool: {kind: noop}}
        """
    )
    ref = {"kind": "result_ref", "ref": "noetl://execution/7/result/a/00000000", "extracted": {"n": 3}}
    run.report("a#1", ref=ref)
    assert run.running == {"b"}, "an extracted field routes"
    run.done("b")
    assert run.state.status == "failed"
    assert "output.select" in str(run.state.error)


def test_failure_is_recovered_by_an_arc_that_asks_for_it() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          next:
            arcs:
              - {step: alert, when: "{{ event.name == 'call.error' and error.code == 'boom' }}"}
              - {step: go}
        - {step: alert, tool: {kind: noop}}
        - {step: go, tool: {kind: noop}}
        """
    )
    run.error("a")
    assert run.running == {"alert"}
    run.done("alert")
    assert run.state.status == "completed", "a recovered run ends as completed"


def test_a_failure_takes_no_arc_that_does_not_ask_for_it() -> None:
    run = Run("- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n- {step: b, tool: {kind: noop}}\n")
    run.error("a")
    assert run.state.status == "failed"
    assert run.state.error == {
        "kind": "tool",
        "code": "boom",
        "message": "it broke",
        "retryable": False,
        "step": "a",
    }


def test_a_failure_ends_what_else_is_under_way() -> None:
    run = Run(
        """
        - {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: a}, {step: b}]}}
        - {step: a, tool: {kind: noop}}
        - {step: b, tool: {kind: noop}}
        """
    )
    run.done("split")
    run.error("a")
    assert run.state.status == "failed"
    assert not run.state.commands


def test_set_of_a_step_is_seen_by_its_arcs_and_set_of_an_arc_by_its_target() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          set: {ctx.x: "{{ output.data.n }}"}
          next: {arcs: [{step: b, when: "{{ ctx.x == 4 }}", set: {ctx.y: "{{ ctx.x * 2 }}"}}]}
        - {step: b, tool: {kind: python, input: {y: "{{ ctx.y }}"}, code: "result = y"}}
        """
    )
    run.done("a", {"n": 4})
    assert run.issued("b")[0].payload["scope"]["ctx"] == {"y": 8}


def test_a_command_carries_only_what_its_templates_name() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, set: {ctx.x: 1, ctx.z: 2}, next: {arcs: [{step: b}]}}
        - {step: b, tool: {kind: noop}, next: {arcs: [{step: c}]}}
        - {step: c, tool: {kind: python, input: {v: "{{ ctx.x + a.n }}"}, code: "result = v"}}
        """
    )
    run.done("a", {"n": 1})
    run.done("b", {"big": "x" * 1000})
    assert run.issued("c")[0].payload["scope"] == {"ctx": {"x": 1}, "steps": {"a": {"status": "ok", "data": {"n": 1}}}}


def test_a_step_that_is_not_admitted_is_skipped_with_what_follows() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: d}]}}
        - step: b
          tool: {kind: noop}
          spec:
            policy:
              admit: {rules: [{when: "{{ workload.go }}", then: {allow: true}}, {else: {then: {allow: false}}}]}
          next: {arcs: [{step: c}]}
        - {step: c, tool: {kind: noop}}
        - {step: d, tool: {kind: noop}}
        """,
        "workload: {go: false}\n",
    )
    run.done("a")
    assert run.running == {"d"}
    assert run.skipped() == ["b", "c"]
    run.done("d")
    assert run.state.status == "completed"


def test_a_skipped_step_may_be_routed_from() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
        - step: b
          tool: {kind: noop}
          spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}
          next: {arcs: [{step: c, when: "{{ event.name == 'step.skipped' }}"}]}
        - {step: c, tool: {kind: noop}}
        """
    )
    run.done("a")
    assert run.running == {"c"}


def test_the_final_step_runs_when_nothing_else_is_left() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}
        - {step: b, tool: {kind: noop}}
        - {step: c, tool: {kind: noop}}
        - {step: sum, tool: {kind: noop}}
        """,
        "executor: {spec: {final_step: sum}}\n",
    )
    run.done("a")
    run.done("b")
    assert run.running == {"c"}
    run.done("c")
    assert run.running == {"sum"}
    run.done("sum", {"total": 3})
    assert run.state.status == "completed"
    assert run.state.last == "sum"


def test_no_matching_arc_ends_the_branch_or_is_an_error_if_asked_for() -> None:
    workflow = """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ false }}"}]}}
        - {step: b, tool: {kind: noop}}
        """
    run = Run(workflow)
    run.done("a")
    assert run.state.status == "completed"
    run = Run(workflow, "executor: {spec: {no_next_is_error: true}}\n")
    run.done("a")
    assert run.state.status == "failed"
    assert run.state.error is not None
    assert run.failure["code"] == "routing.no_match"


def test_what_comes_after_the_end_changes_nothing() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    run.fact("execution.cancelled", payload={"reason": "enough"})
    assert run.state.status == "cancelled"
    before = run.state.snapshot()
    run.fact("timer.fired", payload={"timer": "x"})
    assert {**run.state.snapshot(), "seq": 0} == {**before, "seq": 0}


def test_a_condition_that_reads_only_what_every_output_has_does_not_recover_a_failed_step() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          next: {arcs: [{step: b, when: "{{ output.meta is defined }}"}]}
        - {step: b, tool: {kind: noop}}
        """
    )
    run.error("a")
    assert (run.state.status, run.failure["code"]) == ("failed", "boom")


def test_a_condition_that_raises_on_a_failed_step_does_not_hide_why_it_failed() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          next: {arcs: [{step: b, when: "{{ error.nothing.here == 1 }}"}]}
        - {step: b, tool: {kind: noop}}
        """
    )
    run.error("a")
    assert run.failure["code"] == "boom", "the tool's own error is what people need"
    assert run.failure["routing"]["code"] == "template.error"


def test_an_end_to_which_no_arc_fitted_has_a_warning_unless_it_is_meant() -> None:
    steps = """
        - step: a
          tool: {{kind: noop}}
          next: {{{spec} arcs: [{{step: b, when: "{{{{ false }}}}"}}]}}
        - {{step: b, tool: {{kind: noop}}}}
        """
    silent = Run(steps.format(spec=""))
    silent.done("a")
    (warning,) = silent.log[-1].payload["warnings"]
    assert (silent.state.status, warning["code"], warning["step"]) == ("completed", "routing.no_match", "a")
    for meant in ("quiet", "complete"):
        run = Run(steps.format(spec=f"spec: {{on_no_match: {meant}}},"))
        run.done("a")
        assert "warnings" not in run.log[-1].payload


def test_what_lies_behind_the_final_step_is_not_skipped_before_it_runs() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}, {step: tidy}]}}
        - {step: b, tool: {kind: noop}}
        - {step: sum, tool: {kind: noop}, next: {arcs: [{step: tidy}]}}
        - {step: tidy, tool: {kind: noop}}
        """,
        "executor: {spec: {final_step: sum}}\n",
    )
    run.done("a")
    assert run.skipped() == []
    run.done("b")
    run.done("sum")
    assert run.running == {"tidy"}


def test_on_leaving_a_cycle_its_other_ways_out_are_skipped() -> None:
    run = Run(
        """
        - {step: head, tool: {kind: noop}, next: {arcs: [{step: out, when: "{{ ctx.n is defined }}"}, {step: turn}]}}
        - step: turn
          tool: {kind: noop}
          set: {ctx.n: 1}
          next: {arcs: [{step: other, when: "{{ false }}"}, {step: head}]}
        - {step: other, tool: {kind: noop}, next: {arcs: [{step: behind}]}}
        - {step: behind, tool: {kind: noop}}
        - {step: out, tool: {kind: noop}}
        """
    )
    run.done("head")
    run.done("turn")
    assert run.skipped() == [], "another turn may take them"
    run.done("head")
    assert run.running == {"out"}
    assert run.skipped() == ["other", "behind"]


def test_a_skipped_step_and_a_loop_have_nothing_of_the_step_that_ended_before_them() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: refused}, {step: nothing}]}}
        - step: refused
          tool: {kind: noop}
          spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}
          next: {arcs: [{step: b, when: "{{ event.name == 'step.skipped' and output.http.status == 200 }}"}]}
        - step: nothing
          loop: {in: "{{ [] }}", iterator: x}
          tool: {kind: noop}
          next: {arcs: [{step: b, when: "{{ output.http.status == 200 or output.meta.worker is defined }}"}]}
        - {step: b, tool: {kind: noop}}
        """
    )
    run.done("a", extra={"http": {"status": 200}}, meta={"worker": "w"})
    assert (run.running, run.state.status) == (set(), "completed")


FAILURE_ONLY = """
    - step: a
      tool: {kind: noop}
      next: {arcs: [{step: mend, when: "{{ event.name == 'call.error' }}"}MORE]}
    - {step: mend, tool: {kind: noop}}
    """


def test_a_step_that_ends_well_and_has_arcs_for_failures_alone_misses_none() -> None:
    run = Run(FAILURE_ONLY.replace("MORE", ""))
    run.done("a")
    assert (run.state.status, run.log[-1].payload.get("warnings")) == ("completed", None)
    run = Run(FAILURE_ONLY.replace("MORE", ", {step: mend, when: '{{ false }}'}"))
    run.done("a")
    assert [warning["step"] for warning in run.log[-1].payload["warnings"]] == ["a"], "one asks about its result"
    run = Run(FAILURE_ONLY.replace("MORE", ""))
    run.error("a")
    run.done("mend")
    assert run.state.status == "completed"


def test_of_the_arcs_of_a_failed_step_those_that_handle_no_failure_are_passed_over() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          next:
            arcs:
              - {step: well}
              - {step: mend, when: "{{ event.name == 'call.error' }}"}
        - {step: well, tool: {kind: noop}}
        - {step: mend, tool: {kind: noop}}
        """
    )
    run.error("a")
    assert (run.running, run.state.status) == ({"mend"}, "running")
