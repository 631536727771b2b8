from __future__ import annotations

import pytest

from noetl_serverless.errors import Fault, InvalidPlaybook
from noetl_serverless.playbook.load import load_playbook

from .playbooks import playbook, step, tool


def only(text: str) -> Fault:
    with pytest.raises(InvalidPlaybook) as caught:
        load_playbook(text)
    assert len(caught.value.faults) == 1, caught.value.faults
    return caught.value.faults[0]


def rules(*lines: str, label: str = "") -> str:
    listed = "".join(f"\n      - {line}" for line in lines)
    return f"kind: noop{label}\nspec:\n  policy:\n    rules:{listed}"


class TestNames:
    def test_steps_are_unique(self) -> None:
        fault = only(playbook("workflow:\n  - {step: a, tool: {kind: noop}}\n  - {step: a, tool: {kind: noop}}\n"))
        assert (fault.line, fault.code, fault.pointer) == (6, "playbook.duplicate_name", "/workflow/1/step")

    @pytest.mark.parametrize(
        "name",
        ["workload", "ctx", "iter", "loop", "results", "step", "execution_id", "_prev", "keychain", "true", "none",
         "not", "loop_index"],
    )  # fmt: skip
    def test_a_step_cannot_take_a_name_that_means_something_else(self, name: str) -> None:
        fault = only(step(f"step: '{name}'\ntool: {{kind: noop}}"))
        assert (fault.line, fault.code) == (5, "playbook.reserved_name")

    @pytest.mark.parametrize("name", ["output", "event", "error", "range", "dict", "namespace"])
    def test_it_can_where_templates_only_cannot_read_it(self, name: str) -> None:
        load_playbook(step(f"step: {name}\ntool: {{kind: noop}}"))

    def test_nor_can_an_iterator_or_a_task(self) -> None:
        loop = "step: a\ntool: {kind: noop}\nloop: {in: [1], iterator: output}"
        assert only(step(loop)).code == "playbook.reserved_name"
        assert only(tool("- {name: output, kind: noop}")).code == "playbook.reserved_name"

    def test_an_iterator_does_not_hide_a_step(self) -> None:
        assert "same name as a step" in only(step("step: a\ntool: {kind: noop}\nloop: {in: [1], iterator: a}")).message

    def test_tasks_of_a_pipeline_are_unique_and_can_be_said(self) -> None:
        fault = only(tool("- {name: t, kind: noop}\n- {name: t, kind: noop}"))
        assert (fault.line, fault.code) == (8, "playbook.duplicate_name")
        assert only(tool("- {name: task_2, kind: noop}\n- {kind: noop}")).code == "playbook.duplicate_name"
        assert "not a valid name" in only(tool("- {name: a-b, kind: noop}")).message
        assert "preceding task" in only(tool("- {name: prev, kind: noop}")).message


class TestReferences:
    def test_an_arc_to_a_step_that_is_not_there(self) -> None:
        fault = only(playbook("workflow:\n  - {step: load, tool: {kind: noop}, next: {arcs: [{step: laod}]}}\n"))
        assert (fault.line, fault.code) == (5, "playbook.unknown_step")
        assert fault.message == "there is no step 'laod'; did you mean 'load'?"
        assert fault.pointer == "/workflow/0/next/arcs/0/step"

    def test_an_unknown_kind(self) -> None:
        assert only(tool("kind: pyton")).message == "unknown tool kind 'pyton'; did you mean 'python'?"

    @pytest.mark.parametrize("alias", ["previous", "prev", "_previous", "@previous"])
    def test_a_jump_back_from_the_first_task(self, alias: str) -> None:
        fault = only(tool(rules(f"{{else: {{then: {{do: jump, to: '{alias}'}}}}}}")))
        assert fault.message == "there is no task before the first one"
        assert fault.line == 11

    def test_a_jump_to_nowhere(self) -> None:
        text = """
- {name: page, kind: noop}
- name: b
  kind: noop
  spec: {policy: {rules: [{else: {then: {do: jump, to: pag}}}]}}
"""
        fault = only(tool(text))
        assert (fault.line, fault.code) == (10, "playbook.unknown_task")
        assert "did you mean 'page'?" in fault.message

    def test_a_workbook_task_that_is_not_there(self) -> None:
        text = (
            "workbook: [{name: square, tool: {kind: noop}}]\n"
            "workflow: [{step: a, tool: {kind: workbook, name: sqare}}]\n"
        )
        fault = only(playbook(text))
        assert (fault.line, fault.code) == (5, "playbook.unknown_task")
        assert "did you mean 'square'?" in fault.message

    def test_a_workbook_reference_without_a_name(self) -> None:
        assert only(tool("kind: workbook")).code == "playbook.missing_field"

    def test_what_belongs_into_the_workbook(self) -> None:
        text = (
            "workbook: [{name: w, tool: {kind: python, code: x = 1}}]\n"
            "workflow: [{step: a, tool: {kind: workbook, name: w, code: y = 1}}]\n"
        )
        assert "'code' belongs in the task" in only(playbook(text)).message

    def test_the_workbook_does_not_refer_to_itself(self) -> None:
        text = (
            "workbook: [{name: a, tool: {kind: workbook, name: b}}, {name: b, tool: {kind: noop}}]\n"
            "workflow: [{step: x, tool: {kind: workbook, name: b}}]\n"
        )
        assert "cannot refer to another" in only(playbook(text)).message

    def test_workbook_names_are_unique(self) -> None:
        text = (
            "workbook: [{name: a, tool: {kind: noop}}, {name: a, tool: {kind: noop}}]\n"
            "workflow: [{step: x, tool: {kind: noop}}]\n"
        )
        assert only(playbook(text)).code == "playbook.duplicate_name"


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            ("{then: {do: fail}}", "'when' is required"),
            ("{when: '{{ 1 }}'}", "'then' is required"),
            ("{when: '{{ 1 }}', else: {then: {do: fail}}}", "not both"),
            ("{else: {then: {do: jump}}}", "'to' is required"),
            ("{else: {then: {do: fail, to: x}}}", "'to' requires do: jump"),
            ("{else: {then: {do: fail, attempts: 3}}}", "'attempts' requires do: retry"),
            ("{else: {then: {do: break, backoff: none}}}", "'backoff' requires do: retry"),
            ("{else: {then: {do: continue, delay: 1}}}", "'delay' requires do: retry"),
            ("{else: {then: {do: continue, set: {x: 1}}}}", "write ctx.x"),
            ("{else: {then: {do: continue, set: {workload.x: 1}}}}", "write ctx.x"),
            ("{else: {then: {do: continue, set: {ctx.a.b: 1}}}}", "'a.b' is not a valid name"),
            ("{when: output.status == 'ok', then: {do: fail}}", "write {{ output.status == 'ok' }}"),
            ("{when: '{{ a }} and {{ b }}', then: {do: fail}}", "always true"),
        ],
    )
    def test_faults(self, rule: str, message: str) -> None:
        fault = only(tool(rules(rule)))
        assert message in fault.message
        assert fault.line == 11

    def test_else_is_the_last(self) -> None:
        fault = only(tool(rules("{else: {then: {do: fail}}}", "{when: '{{ 1 }}', then: {do: fail}}")))
        assert (fault.line, fault.message) == (11, "the rules after 'else' are never reached: put 'else' last")

    def test_admit_rules_have_the_same_shape(self) -> None:
        text = "step: a\ntool: {kind: noop}\nspec: {policy: {admit: {rules: [{then: {allow: false}}]}}}"
        assert "'when' is required" in only(step(text)).message

    @pytest.mark.parametrize("loop", ["", "    loop: {in: [1], iterator: i}\n"])
    def test_iter_may_be_set_in_any_rule(self, loop: str) -> None:
        load_playbook(tool(rules("{else: {then: {do: continue, set: {iter.a: 1, step.b: 2}}}}")) + loop)


class TestPlacesOfAKey:
    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ("set: {x: 1}", "write ctx.x"),
            ("set: {iter.x: 1}", "only in a rule of a tool; here: ctx."),
            ("set: {step.x: 1}", "only in a rule of a tool"),
            ("next: {arcs: [{step: a, set: {iter.x: 1}}]}", "only in a rule"),
            ("spec: {policy: {failure: {mode: best_effort}}}", "requires a loop"),
            ("loop: {in: [1], iterator: i, spec: {max_in_flight: 4}}", "mode: parallel"),
            ("loop: {in: [1], iterator: i, spec: {mode: parallel, max_in_flight: 0}}", "from 1 to 10000"),
            ("loop: {in: [1], iterator: i, spec: {mode: parallel, max_in_flight: '10001'}}", "from 1 to 10000"),
            ("loop: {in: [1], iterator: i, spec: {mode: parallel, max_in_flight: many}}", "is not an integer"),
            ("loop: {in: [1], iterator: i, spec: {mode: parallel, max_in_flight: 'x{{ 1 }}'}}", "one {{ expression }}"),
            ("loop: {in: [1], iterator: i, spec: {policy: {exec: remote}}}", "one of distributed, local"),
            (
                "loop: {in: [1], iterator: i, spec: {policy: {failure: {mode: fail_fast}}}}\n"
                "spec: {policy: {failure: {mode: best_effort}}}",
                "write it in one place",
            ),
            ("loop: {in: rows, iterator: i}", "a template or a list"),
            ("loop: {in: 'a {{ rows }}', iterator: i}", "one {{ expression }}"),
            ("loop: {in: ['a{{ x }}'], iterator: i}", "a value or one"),
            ("spec: {timeout: {connect: 1}}", "its parts are for http"),
        ],
    )
    def test_is_checked(self, extra: str, message: str) -> None:
        fault = only(step(f"step: a\ntool: {{kind: noop}}\n{extra}"))
        assert message in fault.message
        assert fault.line in (6, 7)

    def test_a_timeout_of_http_stands_once(self) -> None:
        fault = only(tool("kind: http\nurl: x\ntimeout: 5\nspec: {timeout: {read: 3}}"))
        assert (fault.line, fault.message) == (9, "the timeout is given here and in a spec; give it only once")


def test_a_loop_has_no_output_to_select_from() -> None:
    text = step(
        """
        step: a
        loop: {in: [1], iterator: i}
        tool: {kind: noop, output: {select: [{path: $.n, as: n}]}}
        """
    )
    with pytest.raises(InvalidPlaybook, match="not allowed in a loop") as refused:
        load_playbook(text)
    assert refused.value.faults[0].line == 7


class TestTexts:
    def test_templates_are_compiled_wherever_they_stand(self) -> None:
        text = """
            workbook:
              - {name: unused, tool: {kind: noop, x: "{{ 1 + }}"}}
            workflow:
              - step: a
                input: {deep: [{er: "{{ 2 + }}"}]}
                tool: {kind: http, url: "{{ 3 + }}"}
                loop: {in: "{{ 4 + }}", iterator: i}
                set: {ctx.x: "{{ 5 + }}"}
                spec: {policy: {admit: {rules: [{when: "{{ 6 + }}", then: {allow: true}}]}}}
                next: {arcs: [{step: a, when: "{{ 7 + }}", set: {ctx.y: "{{ 8 | nope }}"}}]}
            """
        with pytest.raises(InvalidPlaybook) as caught:
            load_playbook(playbook(text))
        assert [fault.line for fault in caught.value.faults] == [5, 8, 9, 10, 11, 12, 13, 13]
        assert {fault.code for fault in caught.value.faults} == {"playbook.template"}

    def test_a_fault_in_a_text_of_lines_has_its_own_line(self) -> None:
        fault = only(tool("kind: http\nbody: |\n  a\n  b {{ 1 + }}\n"))
        assert (fault.line, fault.pointer) == (10, "/workflow/0/tool/body")

    def test_python_is_checked_and_never_rendered(self) -> None:
        load_playbook(tool("kind: python\ncode: 'result = {{1: 2}.get(1)}'"))
        fault = only(tool("kind: python\ncode: |\n  x = 1\n  y = = 2\n"))
        assert (fault.line, fault.code) == (10, "playbook.python_syntax")
        fault = only(tool("kind: python\ncode: 'x = ='"))
        assert (fault.line, fault.column) == (8, 13)
        assert "line 1 of the code" in fault.message

    def test_python_in_base64(self) -> None:
        load_playbook(tool("kind: python\ncode_b64: cmVzdWx0ID0gMQ=="))
        assert only(tool("kind: python\ncode_b64: '***'")).message.startswith("code_b64 is not valid base64")
        assert only(tool("kind: python\ncode_b64: eCA9ID0=")).code == "playbook.python_syntax"
        assert only(tool("kind: python\ncode: x = 1\ncode_b64: eCA9IDE=")).message.startswith("give only one of code,")

    def test_a_fault_in_a_template_says_that_it_is_about_the_template(self) -> None:
        fault = only(tool("kind: noop\ninput: {x: '{{ a = 1 }}'}"))
        assert fault.message.startswith("template: expected token")

    @pytest.mark.parametrize("kind", ["postgres", "duckdb"])
    @pytest.mark.parametrize("key", ["command", "query", "script"])
    def test_a_placeholder_in_double_quotes_of_sql(self, kind: str, key: str) -> None:
        fault = only(tool(f'kind: {kind}\n{key}: |\n  SELECT 1\n  , "{{{{ x }}}}"\n'))
        assert (fault.line, fault.code) == (10, "playbook.template")
        assert "| identifier" in fault.message
        assert only(tool(f"kind: {kind}\ncommands: [SELECT 1, 'SELECT \"{{{{ x }}}}\"']")).line == 8

    @pytest.mark.parametrize("when", ["true", "false", "'yes'", "'{% if x %}1{% endif %}'", "'{{ x }}'"])
    def test_conditions_that_are_fine(self, when: str) -> None:
        load_playbook(step(f"step: a\ntool: {{kind: noop}}\nnext: {{arcs: [{{step: a, when: {when}}}]}}"))


class TestResults:
    @pytest.mark.parametrize("name", ["workload", "ctx", "output", "results", "keychain", "loop_index", "range",
                                      "data", "status", "error", "result", "failed_task"])  # fmt: skip
    def test_what_is_accumulated_cannot_have_a_name_that_means_something_else(self, name: str) -> None:
        fault = only(tool(f"kind: noop\noutput:\n  accumulate:\n    manifest_as: {name}"))
        assert (fault.line, fault.code) == (10, "playbook.reserved_name")
        assert fault.message.startswith(f"'{name}' already has a meaning")

    @pytest.mark.parametrize("key", ["expects", "returns"])
    @pytest.mark.parametrize("name", ["", "a..b", ".a", "a.", "{{ x }}", " a"])
    def test_an_assertion_of_what_is_no_name_is_refused(self, key: str, name: str) -> None:
        fault = only(tool(f"kind: noop\nassert:\n  {key}: [a, '{name}']"))
        assert (fault.line, fault.pointer) == (9, f"/workflow/0/tool/assert/{key}/1")
        assert "is not a name: write a, or a.b for b of a" in fault.message

    def test_names_of_any_keys_can_be_asserted(self) -> None:
        load_playbook(tool("kind: noop\nassert: {expects: [a, a.b, content-type, First Name], returns: [a.0]}"))


class TestFrames:
    LOOP = (
        "{{cursor: {{kind: postgres, auth: db, claim: SELECT 1}}, iterator: x, spec: {{mode: cursor, frame: {frame}}}}}"
    )

    def test_a_sub_playbook_for_each_row_requires_frames_of_one_row(self) -> None:
        loop = self.LOOP.format(frame="{max_rows: 3}")
        fault = only(step(f"step: a\nloop: {loop}\ntool: {{kind: playbook, path: t/b}}"))
        assert (fault.line, fault.pointer) == (6, "/workflow/0/loop/spec/frame/max_rows")
        assert fault.message == "a sub-playbook or a wait for each row requires frames of one row: write max_rows: 1"
        in_a_workbook = f"""
            workbook: [{{name: call, tool: {{kind: playbook, path: t/b}}}}]
            workflow: [{{step: a, loop: {loop}, tool: [{{kind: noop}}, {{kind: workbook, name: call}}]}}]
            """
        assert "max_rows: 1" in only(playbook(in_a_workbook)).message

    @pytest.mark.parametrize("frame", ["{max_rows: 1}", "{max_rows: 3, process: frame}"])
    def test_with_one_call_for_each_frame_it_is_accepted(self, frame: str) -> None:
        load_playbook(step(f"step: a\nloop: {self.LOOP.format(frame=frame)}\ntool: {{kind: playbook, path: t/b}}"))

    @pytest.mark.parametrize(("seconds", "right"), [("1", True), ("0.5", False), ("'0.000001'", False)])
    def test_heartbeats_are_at_least_a_second_apart(self, seconds: str, right: bool) -> None:
        loop = self.LOOP.format(frame=f"{{heartbeat_seconds: {seconds}}}")
        text = step(f"step: a\nloop: {loop}\ntool: {{kind: noop}}")
        if right:
            load_playbook(text)
        else:
            assert only(text).message == "this must be at least 1"

    def test_the_workload_cannot_be_set(self) -> None:
        fault = only(step("step: a\ntool: {kind: noop}\nset: {workload.x: 1}"))
        assert fault.message == "the workload cannot be changed: write ctx.x"
