from __future__ import annotations

import pytest

from noetl_serverless.errors import Fault, InvalidPlaybook
from noetl_serverless.playbook.load import load_plan, load_playbook

from .playbooks import playbook, step, tool


def faults(text: str) -> tuple[Fault, ...]:
    with pytest.raises(InvalidPlaybook) as caught:
        load_playbook(text)
    return caught.value.faults


def only(text: str) -> Fault:
    found = faults(text)
    assert len(found) == 1, found
    return found[0]


CURSOR = "{kind: postgres, auth: a, claim: SELECT 1}"
MINIMAL = step("step: a\ntool: {kind: noop}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (step("step: a\ntool: {kind: noop}\ncompensate: nothing"), "this must be an object or none, not 'nothing'"),
        (
            f"{MINIMAL}triggers: [{{name: t, kind: cron}}]\n",
            "set times are no part of a playbook: noetls schedule create",
        ),
        (f"{MINIMAL}triggers: [{{name: t, kind: object, url: /tmp/x}}]\n", "or file:///PATH of a folder"),
    ],
)
def test_a_fault_says_what_to_write_instead(text: str, message: str) -> None:
    assert message in only(text).message


class TestRoot:
    def test_the_least_there_is(self) -> None:
        parsed = load_playbook(MINIMAL).playbook
        assert parsed.workflow[0].step == "a"

    def test_both_version_labels_mean_the_same_playbook(self) -> None:
        old, new = load_plan(MINIMAL), load_plan(MINIMAL.replace("v2", "v10"))
        assert old.hash == new.hash

    @pytest.mark.parametrize(
        ("text", "line", "code", "message"),
        [
            (MINIMAL.replace("v2", "v1"), 1, "playbook.invalid_value", "this must be noetl.io/v2"),
            (MINIMAL.replace("Playbook", "Playbok"), 2, "playbook.invalid_value", "did you mean 'Playbook'"),
            (MINIMAL.replace("{name: x}", "{nam: x}"), 3, "playbook.missing_field", "'name' is required"),
            (MINIMAL.replace("{name: x}", "{name: 5}"), 3, "playbook.invalid_value", "a string, not a number"),
            (
                MINIMAL.replace("{name: x}", "{name: x, path: ../x}"),
                3,
                "playbook.invalid_value",
                "is not a path of the catalog",
            ),
            (MINIMAL + "vars: {a: 1}\n", 7, "playbook.legacy", "'workload'"),
            (MINIMAL + "workloads: {}\n", 7, "playbook.unknown_key", "did you mean 'workload'?"),
            (MINIMAL + "workload: []\n", 7, "playbook.invalid_value", "a mapping, not a list"),
            (MINIMAL + "apiVersion: noetl.io/v10\n", 7, "playbook.duplicate_key", "duplicate key"),
            (playbook("workflow: []"), 4, "playbook.invalid_value", "at least 1 item"),
            (playbook("workload: {}"), 1, "playbook.missing_field", "'workflow' is required"),
            (
                "\n".join(MINIMAL.splitlines()[1:]),
                1,
                "playbook.missing_field",
                "'apiVersion' is required: write apiVersion: noetl.io/v2",
            ),
            ("[1, 2]", 1, "playbook.invalid_value", "a mapping, not a list"),
            ("just text", 1, "playbook.invalid_value", "a mapping, not a string"),
        ],
    )
    def test_faults(self, text: str, line: int, code: str, message: str) -> None:
        fault = only(text)
        assert (fault.line, fault.code) == (line, code)
        assert message in fault.message

    def test_metadata_and_workload_are_free(self) -> None:
        text = MINIMAL.replace("{name: x}", "{name: x, tags: [a], owner: {me: 1}}") + "workload: {any: {thing: [1]}}\n"
        assert load_playbook(text).playbook.workload == {"any": {"thing": [1]}}

    def test_too_many_steps(self) -> None:
        steps = "".join(f"  - {{step: s{n}}}\n" for n in range(10_001))
        assert "at most 10000" in only(playbook("workflow:\n") + steps).message

    def test_all_faults_come_at_once_and_in_order(self) -> None:
        text = playbook(
            """
            vars: {}
            workflow:
              - step: a
                when: x
                tool: {kind: nop}
                next: {arcs: [{step: bb}, {step: a, when: "{{ 1 + }}"}]}
              - step: b
                tool: {kind: shell}
                set: {x: 1}
            """
        )
        codes = [(fault.line, fault.code) for fault in faults(text)]
        assert codes == [
            (4, "playbook.legacy"),
            (7, "playbook.legacy"),
            (8, "playbook.unknown_kind"),
            (9, "playbook.unknown_step"),
            (9, "playbook.template"),
            (11, "playbook.not_supported"),
            (12, "playbook.invalid_value"),
        ]

    def test_the_problem_says_the_first_and_how_many_more(self) -> None:
        with pytest.raises(InvalidPlaybook, match=r"^line 4, column 1: 'vars' .* \(and 1 more\)$"):
            load_playbook(playbook("vars: {}\nworkflow: [{step: a, tool: {kind: nope}}]\n"))


class TestExecutor:
    @pytest.mark.parametrize(
        ("executor", "message"),
        [
            ("{profile: cloud}", "one of auto, distributed, local"),
            ("{version: noetl-runtime/2}", "noetl-runtime/1"),
            ("{requires: {tools: [http, shell]}}", "the tool kind 'shell' is not supported yet"),
            ("{requires: {tools: [htp]}}", "did you mean 'http'?"),
            ("{requires: {features: [cursor_loops]}}", "'cursor_loops' is not supported yet"),
            ("{spec: {entry_step: aa}}", "no step 'aa'"),
            ("{spec: {final_step: zz}}", "no step 'zz'"),
            ("{spec: {timeout: 0}}", "more than 0"),
            ("{spec: {policy: {limits: {max_payload_bytes: 0}}}}", "at least 1"),
            ("{spec: {policy: {defaults: {timeout: 0}}}}", "more than 0"),
            ("{spec: {policy: {defaults: {retry: 1}}}}", "unknown key 'retry'"),
        ],
    )
    def test_what_is_refused(self, executor: str, message: str) -> None:
        fault = only(MINIMAL + f"executor: {executor}\n")
        assert fault.line == 7
        assert message in fault.message

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("{concurrency: {limit: 0}}", "limit: this must be at least 1: 0"),
            (
                "{concurrency: {limit: '{{ workload.n }}'}}",
                'limit: this must be an integer, not a string: "{{ workload.n }}"',
            ),
            ("{concurrency: {limit: []}}", "limit: this must be an integer, not a list"),
            ("{rate: {per: 0, limit: 1}}", "per: this must be more than 0: 0"),
            ("{rate: {per: 1s, limit: 1.5}}", "limit: this must be an integer, not a number: 1.5"),
            ("{rate: {per: 1s}}", "'limit' is required"),
        ],
    )
    def test_a_limit_that_is_refused_is_named(self, spec: str, message: str) -> None:
        assert only(MINIMAL + f"executor: {{spec: {spec}}}\n").message == message

    @pytest.mark.parametrize(
        ("weight", "message"),
        [
            ("0", "at least 1"),
            ("-5", "at least 1"),
            ("101", "at most 100"),
            ("1.5", "must be an integer"),
            ("heavy", "must be an integer"),
            ("true", "must be an integer"),
        ],
    )
    def test_a_weight_that_is_none(self, weight: str, message: str) -> None:
        fault = only(MINIMAL + f"executor:\n  spec:\n    weight: {weight}\n")
        assert (fault.line, fault.pointer) == (9, "/executor/spec/weight")
        assert message in fault.message

    def test_what_is_accepted(self) -> None:
        text = """executor:
  profile: distributed
  version: noetl-runtime/1
  requires: {tools: [noop, http], features: [loops]}
  spec: {entry_step: a, final_step: a, no_next_is_error: true, policy: {defaults: {timeout: 5}}}
"""
        spec = load_playbook(MINIMAL + text).playbook.executor_spec
        assert (spec.entry_step, spec.no_next_is_error) == ("a", True)


class TestLegacy:
    @pytest.mark.parametrize(
        ("extra", "hint"),
        [
            ('when: "{{ x }}"', "on the arc"),
            ("case: []", "arcs"),
            ("type: http", "tool: {kind: ...}"),
            ("result: {}", "'set'"),
            ("outcome: {}", "spec.policy.rules"),
            ("set_ctx: {}", "ctx."),
            ("set_iter: {}", "iter."),
            ("vars: {}", "ctx."),
            ("save: {}", "postgres"),
            ("sink: {}", "postgres"),
            ("iterator: {}", "loop"),
            ("next: [{step: a}, {step: a}]", "with spec: {mode: inclusive} each of them"),
            ("next: [a, a]", "write next: {arcs: [{step: ...}]}"),
            ("next: [{when: '{{ ctx.x }}'}]", "arcs"),
            ("next: {arcs: [{step: a, args: {}}]}", "ctx."),
            ("next: {arcs: [{step: a, then: b}]}", "'step'"),
            ("spec: {next_mode: exclusive}", "next: {spec: {mode"),
            ("depends_on: [b]", "put an arc to this step at each step that it follows"),
            # what could mean two things
            ("input: {}\nargs: {}", "'input'"),
            ("spec: {timeout: 5}\ntimeout: 6", "spec: {timeout: ...}"),
            ("loop: {in: '{{ x }}', iterator: i, spec: {mode: parallel}, mode: parallel}", "'spec'"),
            ("loop: {in: '{{ x }}', iterator: i, spec: {policy: {rules: []}}}", "belong in the tool"),
        ],
    )
    def test_older_forms_of_a_step_are_refused_with_what_to_write(self, extra: str, hint: str) -> None:
        fault = only(step(f"step: a\ntool: {{kind: noop}}\n{extra}"))
        assert (fault.line, fault.code) == (7 + extra.count("\n"), "playbook.legacy")
        assert hint in fault.message

    @pytest.mark.parametrize("key", ["eval", "expr", "save", "set", "policy", "when"])
    def test_older_forms_of_a_tool(self, key: str) -> None:
        fault = only(tool(f"kind: noop\n{key}: 1"))
        assert (fault.line, fault.code, fault.pointer) == (8, "playbook.legacy", f"/workflow/0/tool/{key}")


class TestPython:
    @pytest.mark.parametrize(
        ("libs", "line", "column", "message"),
        [
            ("libs: json", 9, 13, "libs is an object of module names, {np: numpy, json: json}, or a list of them"),
            ("libs: {np: numpy, json: 1}", 9, 31, "a module is named by a string"),
            ("libs:\n  ok: os\n  class: os", 11, 16, "'class' cannot be a name in Python code"),
            ("libs: {result: os}", 9, 22, "'result' is what the code leaves as its result"),
            ("libs: {a.b: os}", 9, 19, "'a.b' cannot be a name in Python code"),
            ("libs: [json, {np: numpy}]", 9, 20, "a module is named by a string"),
            ("libs: [json, 'from x import y']", 9, 20, "'from x import y' is not the name of a module, such as"),
            ("libs: {d: 'datetime:date'}", 9, 17, "'datetime:date' is not the name of a module, such as"),
            ("libs: {a: '{{ workload.module }}'}", 9, 17, "a module cannot be named by a template"),
            ("libs: '{{ workload.libs }}'", 9, 13, "libs is an object of module names"),
            (f"libs: {[f'm{n}' for n in range(101)]}", 9, 13, "libs names 101 modules, more than 100"),
            (f"libs: [{'m' * 201}]", 9, 14, f"'{'m' * 200}' is not the name of a module"),
        ],
    )
    def test_wrong_libs_are_refused_where_they_are_wrong(self, libs: str, line: int, column: int, message: str) -> None:
        fault = only(tool(f"kind: python\ncode: x = 1\n{libs}"))
        assert (fault.line, fault.column) == (line, column)
        assert fault.message.startswith(message)

    def test_a_credential_is_refused_with_what_to_write(self) -> None:
        fault = only(tool("kind: python\ncode: x = 1\nauth: warehouse"))
        assert (fault.line, fault.column) == (9, 7)
        assert fault.message == (
            "'auth' of python: code is given no credential; pass it what it needs in 'input', "
            'as in input: {token: "{{ keychain.NAME.token }}"}'
        )


class TestNotYet:
    @pytest.mark.parametrize(
        ("extra", "name"),
        [
            ("spec: {policy: {emit: {}}}", "'emit'"),
            ("next: {spec: {policy: {}}, arcs: [{step: a}]}", "'policy'"),
            ("next: {arcs: [{step: a, spec: {}}]}", "'spec'"),
        ],
    )
    def test_of_a_step(self, extra: str, name: str) -> None:
        fault = only(step(f"step: a\ntool: {{kind: noop}}\n{extra}"))
        assert (fault.line, fault.code) == (7, "playbook.not_supported")
        assert fault.message == f"{name} is not supported yet"

    @pytest.mark.parametrize("key", ["output_select", "as"])
    def test_of_an_output(self, key: str) -> None:
        fault = only(tool(f"kind: noop\noutput:\n  {key}: 1"))
        assert (fault.line, fault.code) == (9, "playbook.not_supported")

    @pytest.mark.parametrize("key", ["before", "after", "finally", "on_unmatched", "mode"])
    def test_of_a_task_policy(self, key: str) -> None:
        assert only(tool(f"kind: noop\nspec: {{policy: {{{key}: 1}}}}")).code == "playbook.not_supported"

    @pytest.mark.parametrize("key", ["deps"])
    def test_of_python(self, key: str) -> None:
        fault = only(tool(f"kind: python\n{key}: {{}}"))
        assert (fault.line, fault.message) == (8, f"'{key}' of python is not supported yet")

    @pytest.mark.parametrize(
        "kind",
        ["shell", "agent", "mcp", "nats", "snowflake", "container", "artifact", "transfer", "iterator"],
    )
    def test_tool_kinds(self, kind: str) -> None:
        fault = only(tool(f"name: t\nkind: {kind}"))
        assert (fault.line, fault.column, fault.code) == (8, 13, "playbook.not_supported")
        assert fault.message == f"the tool kind '{kind}' is not supported yet"

    def test_kinds_can_be_added(self) -> None:
        text = tool("kind: shell\ncmds: [ls]")
        assert load_playbook(text, kinds={"shell"}).playbook.workflow[0].tools[0].kind == "shell"


class TestShape:
    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("tool: {kind: noop}", 5, "'step' is required"),
            ("step: a\ntool: {}", 6, "'kind' is required"),
            ("step: a\ntool: []", 6, "at least 1 item"),
            ("step: a\ntool: 5", 6, "a mapping, not a number"),
            ("step: 5\ntool: {kind: noop}", 5, "a string, not a number; put it in quotes"),
            ("step: yes\ntool: {kind: noop}", 5, "a string, not true or false; put it in quotes"),
            ("step: my step\ntool: {kind: noop}", 5, "'my step' is not a valid name: use letters, digits and _"),
            ("step: 1/h\ntool: {kind: noop}", 5, "'1/h' is not a valid name: use letters, digits and _"),
            ("step: a\ntool: {kind: noop}\nfoo: 1", 7, "unknown key 'foo'"),
            ("step: a\ntool: {kind: noop}\nrate: {limit: 1}", 7, "unknown key 'rate'; write it below 'spec'"),
            ("step: a\ntool: {kind: noop}\nsets: {}", 7, "did you mean 'set'?"),
            ("step: a\ntool: {kind: noop}\nnext: {}", 7, "'arcs' is required"),
            ("step: a\ntool: {kind: noop}\nnext: {arcs: []}", 7, "at least 1"),
            ("step: a\ntool: {kind: noop}\nnext: {spec: {mode: all}, arcs: [{step: a}]}", 7, "exclusive, inclusive"),
            ("step: a\ntool: {kind: noop}\nnext: {spec: {on_no_match: x}, arcs: [{step: a}]}", 7, "complete, quiet"),
            ("step: a\ntool: {kind: noop}\nloop: {in: '{{ x }}'}", 7, "'iterator' is required"),
            ("step: a\ntool: {kind: noop}\nloop: {iterator: i}", 7, "'in' is required, or 'cursor'"),
            (f"step: a\nloop: {{iterator: i, cursor: {CURSOR}}}", 6, "'cursor' requires spec: {mode: cursor}"),
            (f"step: a\nloop: {{iterator: i, in: [1], cursor: {CURSOR}}}", 6, "either 'in' or 'cursor'"),
            ("step: a\nloop: {iterator: i, in: [1], spec: {mode: cursor}}", 6, "mode: cursor requires 'cursor'"),
            ("step: a\nloop: {iterator: i, in: [1], spec: {frame: {max_rows: 1}}}", 6, "'frame' requires mode: cursor"),
            ("step: a\nloop: {iterator: i, spec: {frame: {max_rows: 0}}}", 6, "at least 1"),
            ("step: a\nloop: {iterator: i, cursor: {kind: duckdb, auth: a, claim: x}}", 6, "must be one of postgres"),
            ("step: a\ntool: {kind: noop}\nspec: {timeout: -1}", 7, "more than 0"),
            ("step: a\ntool: {kind: noop}\nspec: {timeout: soon}", 7, "'soon' is not a time: write"),
            ("step: a\ntool: {kind: noop}\nspec: {policy: {admit: {rules: []}}}", 7, "at least 1"),
            ("step: a\ntool: {kind: noop}\nspec: {policy: {failure: {mode: never}}}", 7, "fail_fast, best_effort"),
        ],
    )  # fmt: skip
    def test_faults_of_a_step(self, text: str, line: int, message: str) -> None:
        found = faults(step(text))
        assert {fault.line for fault in found} == {line}
        assert any(message in fault.message for fault in found), found

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            ("{when: '{{ x }}', then: {do: stop}}", "continue, retry, jump, break, fail"),
            ("{when: '{{ x }}', then: {do: fail}, do: fail}", "belongs in 'then'"),
            ("{when: '{{ x }}', then: {do: retry, delay: soon}}", "'soon' is not a time"),
            ("{when: '{{ x }}', then: {do: retry, attempts: many}}", "'many' is not an integer"),
            ("{when: '{{ x }}', then: {do: retry, attempts: '{{ 1 +'}}", "template"),
            ("{when: '{{ x }}', then: {do: retry, delay: 'after {{ x }}'}}", "one {{ expression }}"),
            ("{when: '{{ x }}', then: {do: continue, max_delay: 3}}", "'max_delay' requires do: retry"),
            ("{when: '{{ x }}', then: {do: retry, attempts: 0}}", "at least 1"),
            ("{when: '{{ x }}', then: {do: retry, backoff: slow}}", "none, fixed, linear, exponential"),
            ("{when: '{{ x }}', then: {do: retry, delay: -1}}", "at least 0"),
            ("{when: '{{ x }}', then: {do: retry, times: 3}}", "unknown key 'times'"),
            ("{when: '{{ x }}', then: {do: retry, jitter: true}}", "unknown key 'jitter'"),
        ],
    )
    def test_faults_of_a_rule(self, rule: str, message: str) -> None:
        found = faults(tool(f"kind: noop\nspec:\n  policy:\n    rules:\n      - {rule}"))
        assert any(message in fault.message for fault in found)
        assert {fault.line for fault in found} == {11}

    def test_faults_inside_an_alias_point_at_the_text(self) -> None:
        text = playbook(
            """
            workflow:
              - {step: a, tool: &t {kind: noop, save: 1}}
              - {step: b, tool: *t}
            """
        )
        assert {fault.line for fault in faults(text)} == {5}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("keychain: [{name: k, kind: callback, signal: s, ttl: 4000d}]", "this must be at most 366 days"),
        ("keychain: [{name: k, kind: callback, signal: ''}]", "this must not be empty"),
        ("executor: {spec: {rate: {per: 2d, limit: 1}}}", 'per: this must be at most 1 day: "2d"'),
        ("executor: {spec: {rate: {per: 1s, limit: '3'}}}", 'limit: this must be an integer, not a string: "3"'),
        ("executor: {spec: {concurrency: {limit: true}}}", "limit: this must be an integer, not true or false: true"),
        ("triggers: [{name: t, kind: playbook, path: a b}]", "'a b' is not a path of the catalog: letters, digits"),
    ],
)
def test_what_is_out_of_bounds_is_said_in_plain_words(written: str, message: str) -> None:
    assert only(MINIMAL + written + "\n").message.startswith(message)
