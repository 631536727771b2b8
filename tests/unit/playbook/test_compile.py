from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
import yaml

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan, Step, Task
from noetl_serverless.playbook.reads import merge
from noetl_serverless.playbook.template import BoundSql, Place, SqlTemplate, Template, TemplateError, render_tree

from .playbooks import playbook, step, tool


def plan(text: str) -> Plan:
    return load_plan(playbook(text))


def one(text: str) -> Step:
    return next(iter(load_plan(step(text)).steps.values()))


def task(text: str) -> Task:
    return next(iter(load_plan(tool(text)).steps.values())).tasks[0]


GATE = """
    workload: {celsius: 31, limit: 25}
    workflow:
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


class TestPlan:
    def test_set_and_exclusive_routing(self) -> None:
        compiled = plan(GATE)
        start = compiled.steps["start"]
        assert (compiled.name, compiled.path, compiled.entry) == ("x", "x", "start")
        assert compiled.workload == {"celsius": 31, "limit": 25}
        assert [(a.scope, a.key) for a in start.set] == [("ctx", "fahrenheit")]
        assert [(arc.target, arc.index, arc.when is None) for arc in start.arcs] == [
            ("hot", 0, False),
            ("cold", 1, True),
        ]
        assert (start.mode, start.on_no_match) == ("exclusive", "complete")
        assert (start.place.line, start.place.pointer) == (6, "/workflow/0")
        assert start.tasks[0].place.line == 7

    def test_the_hash_is_of_the_document_not_of_its_looks(self) -> None:
        commented = playbook(GATE).replace("workload:", "# a comment\nworkload:").replace("31,", "31 ,")
        assert load_plan(commented).hash == plan(GATE).hash
        assert load_plan(commented.replace("31", "32")).hash != plan(GATE).hash
        assert len(plan(GATE).hash) == 64

    def test_metadata_path_and_executor(self) -> None:
        text = playbook(
            """
            executor: {spec: {entry_step: b, final_step: c, no_next_is_error: true}}
            workflow:
              - {step: a, tool: {kind: noop}}
              - {step: b, tool: {kind: noop}}
              - {step: c, tool: {kind: noop}}
            """
        ).replace("{name: x}", "{name: x, path: demo/x}")
        compiled = load_plan(text)
        assert (compiled.path, compiled.entry, compiled.final_step) == ("demo/x", "b", "c")
        assert compiled.no_next_is_error

    @pytest.mark.parametrize(
        ("spec", "durability"),
        [("{}", "step"), ("{durability: step}", "step"), ("{durability: pipelined}", "pipelined")],
    )
    def test_durability(self, spec: str, durability: str) -> None:
        text = playbook(f"executor: {{spec: {spec}}}\nworkflow: [{{step: a, tool: {{kind: noop}}}}]")
        assert load_plan(text).durability == durability

    def test_another_durability_is_refused(self) -> None:
        text = playbook("executor: {spec: {durability: none}}\nworkflow: [{step: a, tool: {kind: noop}}]")
        with pytest.raises(InvalidPlaybook, match="must be one of step, pipelined"):
            load_plan(text)

    @pytest.mark.parametrize(("spec", "weight"), [("{}", 10), ("{weight: 1}", 1), ("{weight: 100}", 100)])
    def test_weight(self, spec: str, weight: int) -> None:
        text = playbook(f"executor: {{spec: {spec}}}\nworkflow: [{{step: a, tool: {{kind: noop}}}}]")
        assert load_plan(text).weight == weight

    def test_invalid_text_is_refused(self) -> None:
        with pytest.raises(InvalidPlaybook):
            load_plan("a: [")
        with pytest.raises(InvalidPlaybook):
            load_plan("\ud800")


class TestTasks:
    def test_a_single_tool_is_one_task_of_the_steps_name(self) -> None:
        compiled = one("step: a\ntool: {kind: noop}")
        assert [t.name for t in compiled.tasks] == ["a"]
        assert not compiled.is_pipeline
        assert compiled.input is None

    def test_unnamed_tasks_of_a_pipeline_are_numbered(self) -> None:
        compiled = one("step: a\ntool: [{kind: noop}, {name: b, kind: noop}, {kind: noop}]")
        assert [t.name for t in compiled.tasks] == ["task_1", "b", "task_3"]
        assert compiled.is_pipeline

    def test_a_config_is_what_the_kind_takes(self) -> None:
        compiled = task("name: t\nkind: http\nurl: '{{ workload.u }}'\ninput: {k: 1}\nauth: a\noutput: {select: []}")
        assert compiled.name == "t"
        assert isinstance(compiled.config, dict)
        assert set(compiled.config) == {"url", "input", "auth"}
        assert compiled.output == {}
        assert compiled.timeout is None
        assert render_tree(compiled.config, {"workload": {"u": "x"}}) == {"url": "x", "input": {"k": 1}, "auth": "a"}

    def test_output_select(self) -> None:
        compiled = task("kind: noop\noutput: {select: [{path: '$.a.b[0]', as: n}, {path: $, as: all}]}")
        assert compiled.output == {"select": [{"path": "$.a.b[0]", "as": "n"}, {"path": "$", "as": "all"}]}

    @pytest.mark.parametrize("path", ["$..a", "$.a[*]", "$.a[-1]", "$.rows[?@.n > 1].id", '$["a b"].c'])
    def test_a_path_may_name_several_places(self, path: str) -> None:
        compiled = task(f"kind: noop\noutput: {{select: [{{path: '{path}', as: n}}]}}")
        assert compiled.output["select"] == [{"path": path, "as": "n"}]

    @pytest.mark.parametrize(
        ("path", "says"),
        [
            ("a.b", "pattern"),
            ("$a", "not a JSON path: unexpected token 'a'"),
            ("$.a[?", "not a JSON path: unexpected end of expression"),
            ("$.a | $.b", "not a JSON path: unexpected token"),
            ('$.a[?match(@, "x*")]', "not a JSON path"),
        ],
    )
    def test_what_is_no_path(self, path: str, says: str) -> None:
        with pytest.raises(InvalidPlaybook, match=re.escape(says)):
            task(f"kind: noop\noutput: {{select: [{{path: {json.dumps(path)}, as: n}}]}}")

    def test_where_a_result_goes_and_for_how_long(self) -> None:
        store = "{kind: kv, ttl: 2h, compression: zstd}"
        compiled = task(f"kind: noop\noutput: {{store: {store}, scope: workflow, preview_max_bytes: 0}}")
        assert compiled.output == {
            "inline_max_bytes": 0,
            "kind": "kv",
            "ttl": 7200.0,
            "compression": "zstd",
            "scope": "workflow",
            "preview_max_bytes": 0,
        }
        assert task("kind: noop\noutput: {store: {ttl: forever, compression: none}}").output == {}

    @pytest.mark.parametrize("ttl", ["0", "0.5s", "99999d", "soon", "1 fortnight", "-1", "true", "400y", "Forever"])
    def test_what_is_no_time_to_live(self, ttl: str) -> None:
        with pytest.raises(InvalidPlaybook, match=r"^[^\n]*, or forever[^\n]*$"):
            task(f"kind: noop\noutput: {{store: {{ttl: {ttl}}}}}")

    def test_python_is_raw(self) -> None:
        assert task("kind: python\ncode: 'x = {{1: 2}[1]}'").config == {"code": "x = {{1: 2}[1]}"}
        assert task("kind: python\ncode_b64: cmVzdWx0ID0gMQ==").config == {"code": "result = 1"}

    def test_sql_is_bound(self) -> None:
        compiled = task("kind: postgres\nauth: w\ncommands: ['SELECT {{ x }}', SELECT 1]\nparams: {p: '{{ x }}'}")
        assert isinstance(compiled.config, dict)
        assert all(isinstance(sql, SqlTemplate) for sql in compiled.config["commands"])  # type: ignore[union-attr]
        rendered = render_tree(compiled.config, {"x": "it's"})
        assert rendered["commands"] == [BoundSql("SELECT %(__1)s", {"__1": "it's"}), BoundSql("SELECT 1", {})]
        assert rendered["params"] == {"p": "it's"}
        plain = task("kind: duckdb\nquery: SELECT 1").config
        assert isinstance(plain, dict)
        assert isinstance(plain["query"], SqlTemplate)

    def test_rules(self) -> None:
        compiled = task(
            """
            kind: http
            spec:
              policy:
                rules:
                  - when: "{{ output.http.status in [429, 503] }}"
                    then: {do: retry, attempts: 4, backoff: exponential, delay: 0.5}
                  - {when: "{{ error }}", then: {do: retry}}
                  - when: false
                    then: {do: fail}
                  - else: {then: {do: continue, set: {ctx.n: "{{ output.data }}", step.k: 1}}}
            """
        )
        retry, default, never, rest = compiled.rules
        assert (retry.do, retry.attempts, retry.backoff, retry.delay) == ("retry", 4, "exponential", 0.5)
        assert (default.attempts, default.backoff, default.delay) == (3, "none", 1.0)
        assert never.when is not None
        assert never.when.render({}) is False
        assert rest.when is None
        assert [(a.scope, a.key) for a in rest.set] == [("ctx", "n"), ("step", "k")]

    def test_a_fixed_backoff_is_accepted(self) -> None:
        rules = "[{else: {then: {do: retry, backoff: fixed, delay: 2}}}]"
        assert task(f"kind: noop\nspec: {{policy: {{rules: {rules}}}}}").rules[0].backoff == "fixed"

    @pytest.mark.parametrize(
        ("then", "attempts", "backoff", "delay"),
        [
            ("delay: 2", 3, "fixed", 2.0),
            ("delay: 2, attempts: 9", 9, "fixed", 2.0),
            ("attempts: 9", 9, "none", 1.0),
            ("backoff: linear", 3, "linear", 1.0),
            ("backoff: none, delay: 2", 3, "none", 2.0),
        ],
    )
    def test_a_delay_alone_is_the_same_each_time(self, then: str, attempts: int, backoff: str, delay: float) -> None:
        rules = f"[{{else: {{then: {{do: retry, {then}}}}}}}]"
        rule = task(f"kind: noop\nspec: {{policy: {{rules: {rules}}}}}").rules[0]
        assert (rule.attempts, rule.backoff, rule.delay) == (attempts, backoff, delay)

    @pytest.mark.parametrize("alias", ["previous", "prev", "_previous", "@previous"])
    def test_a_jump_back_goes_to_the_task_before(self, alias: str) -> None:
        compiled = one(
            f"""
            step: a
            tool:
              - {{name: x, kind: noop}}
              - {{name: y, kind: noop}}
              - {{kind: noop, spec: {{policy: {{rules: [{{else: {{then: {{do: jump, to: '{alias}'}}}}}}]}}}}}}
            """
        )
        assert compiled.tasks[2].rules[0].to == "y"


class TestTimeouts:
    TEXT = """
        executor: {{spec: {{policy: {{defaults: {{timeout: 1}}}}}}}}
        workflow:
          - step: a
            tool: {{kind: http, spec: {tool}}}
            spec: {step}
            loop: {{in: [1], iterator: i, spec: {loop}}}
          - {{step: b, tool: {{kind: noop}}}}
    """

    @pytest.mark.parametrize(
        ("step", "loop", "tool", "timeout"),
        [
            ("{}", "{}", "{}", 1.0),
            ("{timeout: 2}", "{}", "{}", 2.0),
            ("{timeout: 2}", "{timeout: 3}", "{}", 3.0),
            ("{timeout: 2}", "{timeout: 3}", "{timeout: 4.5}", 4.5),
        ],
    )
    def test_the_nearest_wins(self, step: str, loop: str, tool: str, timeout: float) -> None:
        compiled = plan(self.TEXT.format(step=step, loop=loop, tool=tool))
        assert compiled.steps["a"].tasks[0].timeout == timeout
        assert compiled.steps["b"].tasks[0].timeout == 1.0

    def test_the_parts_of_http_are_merged_and_go_to_the_tool(self) -> None:
        compiled = plan(
            self.TEXT.format(step="{timeout: {connect: 2, read: 9}}", loop="{}", tool="{timeout: {read: 10}}")
        )
        http = compiled.steps["a"].tasks[0]
        assert http.timeout is None
        assert isinstance(http.config, dict)
        assert http.config["timeout"] == {"connect": 2, "read": 10}


class TestWorkbook:
    TEXT = """
        workbook:
          - name: square
            tool:
              kind: python
              input: {x: 2, y: 3, z: 4}
              code: "result = {'y': x * x}"
              spec: {timeout: 7, policy: {rules: [{else: {then: {do: jump, to: square}}}]}}
              output: {select: [{path: $.y, as: y}]}
        workflow:
          - step: sq
            input: {y: "{{ workload.n }}"}
            tool: {kind: workbook, name: square, input: {x: "{{ workload.n }}"}}
          - step: two
            tool:
              - {kind: workbook, name: square, spec: {timeout: 1, policy: {rules: [{else: {then: {do: fail}}}]}}}
    """

    def test_is_inlined_and_what_the_step_gives_wins(self) -> None:
        square = plan(self.TEXT).steps["sq"].tasks[0]
        assert (square.kind, square.name, square.timeout) == ("python", "sq", 7.0)
        assert isinstance(square.config, dict)
        assert square.config["code"] == "result = {'y': x * x}"
        # y comes from the step's own input
        assert square.config["input"] == {"x": Template("{{ workload.n }}"), "z": 4}
        assert square.output == {"select": [{"path": "$.y", "as": "y"}]}
        assert square.place.line == 15
        assert square.rules[0].to == "sq"

    def test_a_spec_of_the_use_lies_over_it(self) -> None:
        square = plan(self.TEXT).steps["two"].tasks[0]
        assert (square.name, square.timeout, square.rules[0].do) == ("square", 1.0, "fail")
        assert isinstance(square.config, dict)
        assert square.config["input"] == {"x": 2, "y": 3, "z": 4}


class TestLoop:
    def test_parallel(self) -> None:
        compiled = one(
            """
            step: a
            loop: {in: "{{ users.rows }}", iterator: user, spec: {mode: parallel, max_in_flight: 8}}
            tool: {kind: noop}
            spec: {policy: {failure: {mode: best_effort}}}
            """
        )
        loop = compiled.loop
        assert loop is not None
        assert (loop.iterator, loop.mode, loop.max_in_flight, loop.best_effort) == ("user", "parallel", 8, True)
        assert loop.items.render({"users": {"rows": [1]}}) == [1]

    def test_defaults(self) -> None:
        loop = one("step: a\ntool: {kind: noop}\nloop: {in: '{{ x }}', iterator: i}").loop
        assert loop is not None
        assert (loop.mode, loop.max_in_flight, loop.best_effort) == ("sequential", 1, False)

    def test_a_width_can_be_a_template(self) -> None:
        spec = "{mode: parallel, max_in_flight: '{{ n }}'}"
        loop = one(f"step: a\ntool: {{kind: noop}}\nloop: {{in: [1], iterator: i, spec: {spec}}}").loop
        assert loop is not None
        assert isinstance(loop.max_in_flight, Template)
        assert loop.max_in_flight.render({"n": 3}) == 3

    @pytest.mark.parametrize("width", ["8", "'8'", "' 8 '"])
    def test_a_width_can_be_a_number_written_as_text(self, width: str) -> None:
        spec = f"{{mode: parallel, max_in_flight: {width}}}"
        loop = one(f"step: a\ntool: {{kind: noop}}\nloop: {{in: [1], iterator: i, spec: {spec}}}").loop
        assert loop is not None
        assert loop.max_in_flight == 8

    @pytest.mark.parametrize(("width", "slots"), [("max_in_flight: 4", 3), ("max_in_flight: 2", 2), ("frame: {}", 3)])
    def test_a_cursor_claims_with_the_smaller_one_of_its_width_and_its_pool(self, width: str, slots: int) -> None:
        cursor = "{kind: postgres, auth: a, claim: SELECT 1, options: {pool_size: 3}}"
        loop = one(f"step: a\nloop: {{cursor: {cursor}, iterator: i, spec: {{mode: cursor, {width}}}}}").loop
        assert loop is not None
        assert loop.max_in_flight == slots

    def test_async_is_parallel(self) -> None:
        loop = one("step: a\ntool: {kind: noop}\nloop: {in: [1], iterator: i, spec: {mode: async}}").loop
        assert loop is not None
        assert (loop.mode, loop.max_in_flight) == ("parallel", 16)

    @pytest.mark.parametrize("exec", ["distributed", "local"])
    def test_where_items_run_is_a_policy_of_the_loop(self, exec: str) -> None:
        spec = f"{{policy: {{exec: {exec}}}}}"
        loop = one(f"step: a\ntool: {{kind: noop}}\nloop: {{in: [1], iterator: i, spec: {spec}}}").loop
        assert loop is not None
        assert (loop.exec, loop.best_effort) == (exec, False)

    def test_the_failure_mode_may_be_a_policy_of_the_loop(self) -> None:
        spec = "{policy: {failure: {mode: best_effort}}}"
        loop = one(f"step: a\ntool: {{kind: noop}}\nloop: {{in: [1], iterator: i, spec: {spec}}}").loop
        assert loop is not None
        assert (loop.exec, loop.best_effort) == (None, True)

    @pytest.mark.parametrize(
        ("items", "value"),
        [
            ("[]", []),
            ("[1, -2.5, true, ~]", [1, -2.5, True, None]),
            ("[0, 1, false, 1.0]", [0, 1, False, 1.0]),
            ("[{a: 'it''s', b: [\"\\\\n\\n\", 'ä😀', '\"']}]", [{"a": "it's", "b": ["\\n\n", "ä😀", '"']}]),
            ("[x, '{{ n + 1 }}']", ["x", 4]),
        ],
    )
    def test_a_list_in_the_document_is_taken_as_it_is(self, items: str, value: list[Any]) -> None:
        loop = one(f"step: a\ntool: {{kind: noop}}\nloop: {{in: {items}, iterator: i}}").loop
        assert loop is not None
        rendered = loop.items.render({"n": 3})
        assert rendered == value
        assert [type(item) for item in rendered] == [type(item) for item in value]


class TestArcs:
    @pytest.mark.parametrize(
        ("when", "handles"),
        [
            ("{{ event.name == 'call.error' }}", True),
            ("{{ error.code == 'x' }}", True),
            ("{{ output.status == 'error' }}", True),
            ("{{ output }}", True),
            ("{{ output.data.n > 1 }}", False),
            ("{{ ctx.n > 1 }}", False),
            ("{{ a.error.code == 'x' }}", False),
        ],
    )
    def test_an_arc_that_asks_about_the_failure_may_be_taken_on_one(self, when: str, handles: bool) -> None:
        compiled = one(f'step: a\ntool: {{kind: noop}}\nnext: {{arcs: [{{step: a, when: "{when}"}}]}}')
        assert compiled.arcs[0].handles_failure is handles

    def test_an_unconditional_arc_may_not(self) -> None:
        assert not one("step: a\ntool: {kind: noop}\nnext: {arcs: [{step: a}]}").arcs[0].handles_failure

    def test_joins_and_back_arcs(self) -> None:
        compiled = plan(
            """
            workflow:
              - step: split
                tool: {kind: noop}
                next: {spec: {mode: inclusive, on_no_match: quiet}, arcs: [{step: left}, {step: right}]}
              - {step: left, tool: {kind: noop}, next: {arcs: [{step: join}]}}
              - {step: right, tool: {kind: noop}, next: {arcs: [{step: join}]}}
              - {step: join, tool: {kind: noop}, next: {arcs: [{step: split, when: "{{ ctx.again }}"}, {step: end}]}}
              - {step: end, tool: {kind: noop}}
            """
        )
        assert compiled.steps["split"].mode == "inclusive"
        assert compiled.steps["split"].on_no_match == "quiet"
        assert [arc.back for arc in compiled.steps["join"].arcs] == [True, False]
        assert compiled.sources["join"] == {"left", "right"}
        assert compiled.sources["split"] == frozenset()
        assert compiled.reach["join"] == {"split", "left", "right", "join", "end"}
        assert compiled.reach_forward["join"] == {"end"}
        assert compiled.reach_forward["split"] == {"left", "right", "join", "end"}
        assert compiled.reach["end"] == frozenset()

    def test_admission(self) -> None:
        text = """
            step: a
            tool: {kind: noop}
            spec:
              policy:
                admit:
                  mode: exclusive
                  rules:
                    - {when: "{{ workload.skip }}", then: {allow: false}}
                    - {else: {then: {allow: true}}}
            """
        first, rest = one(text).admit
        assert first.when is not None
        assert (first.allow, rest.when, rest.allow) == (False, None, True)


class TestReads:
    def reads(self, text: str) -> dict[str, Any]:
        return dict(plan(text).steps["a"].reads)

    def test_what_the_worker_renders_is_read(self) -> None:
        reads = self.reads(
            """
            workflow:
              - step: a
                input: {i: "{{ workload.w1 }}", s: "{{ b.f }}"}
                loop: {in: "{{ b.rows }}", iterator: user}
                tool:
                  - name: first
                    kind: http
                    url: "{{ workload.w2 }}/{{ iter.user.id }}/{{ user.name }}/{{ iter._index }}/{{ loop.first }}"
                  - name: second
                    kind: postgres
                    command: "SELECT {{ ctx.c1 }}, {{ first.data }}, {{ results.first }}, {{ _prev }}, {{ bare }}"
                    spec:
                      policy:
                        rules:
                          - {when: "{{ ctx.c2 }}", then: {do: continue, set: {ctx.x: "{{ ctx.c3 + output.data }}"}}}
                set: {ctx.y: "{{ ctx.not_by_the_worker }}"}
                next: {arcs: [{step: b, when: "{{ ctx.nor_this }}"}]}
              - {step: b, tool: {kind: noop}}
            """
        )
        assert reads == {
            "workload": {"w1", "w2", "bare", "b"},
            "ctx": {"c1", "c2", "c3", "bare", "b"},
            "b": {"f", "rows"},
        }

    def test_whole_scopes_and_whole_results(self) -> None:
        text = """
            workflow:
              - {step: a, input: {x: "{{ ctx }}", y: "{{ b.data.x }}", z: "{{ c }}"}, tool: {kind: noop}}
              - {step: b, tool: {kind: noop}}
              - {step: c, tool: {kind: noop}}
            """
        assert self.reads(text) == {"ctx": None, "workload": {"b", "c"}, "b": None, "c": None}

    def test_a_task_of_a_steps_name_does_not_hide_the_step(self) -> None:
        text = """
            workflow:
              - {step: a, tool: [{name: b, kind: http, url: "{{ b.u }}"}]}
              - {step: b, tool: {kind: noop}}
            """
        assert self.reads(text) == {"b": {"u"}, "ctx": {"b"}, "workload": {"b"}}

    def test_a_step_can_read_what_it_gave_before(self) -> None:
        assert self.reads('workflow: [{step: a, input: {x: "{{ a.n }}"}, tool: {kind: noop}}]') == {
            "a": {"n"},
            "ctx": {"a"},
            "workload": {"a"},
        }

    def test_what_code_reads_of_its_context_is_read(self) -> None:
        code = "result = context['workload']['w'], context.get('b'), context.get('bare'), context['iter']"
        step = {"step": "a", "tool": {"kind": "python", "code": code}}
        text = yaml.safe_dump({"workflow": [step, {"step": "b", "tool": {"kind": "noop"}}]})
        assert self.reads(text) == {"workload": {"w", "b", "bare"}, "ctx": {"b", "bare"}, "b": None}
        assert plan(text).steps["b"].tasks[0].context is None

    def test_code_that_reads_its_context_by_unknown_names_reads_all_of_it(self) -> None:
        code = "return {name: context[name] for name in names}"
        text = yaml.safe_dump(
            {
                "workflow": [
                    {"step": "a", "tool": [{"name": "b", "kind": "python", "code": code}]},
                    {"step": "b", "tool": {"kind": "noop"}},
                    {"step": "c", "tool": {"kind": "noop"}},
                ]
            }
        )
        assert self.reads(text) == dict.fromkeys(["workload", "ctx", "vars", "a", "b", "c"])

    def test_many_steps_that_read_all_of_their_context_share_its_names(self) -> None:
        steps = [{"step": f"s{n}", "tool": {"kind": "python", "code": "return dict(context)"}} for n in range(100)]
        compiled = plan(yaml.safe_dump({"workflow": steps})).steps
        assert len({id(step.reads) for step in compiled.values()}) == 1
        assert compiled["s7"].reads.keys() == {"workload", "ctx", "vars", *compiled}

    def test_variables_are_read_by_name_unless_something_else_is_named_so(self) -> None:
        step = {"step": "a", "tool": {"kind": "python", "input": {"x": "{{ vars.x }}"}, "code": "context['vars']['y']"}}
        text = yaml.safe_dump({"workflow": [step]})
        assert self.reads(text) == {"vars": {"x", "y"}, "workload": {"vars"}, "ctx": {"vars"}}
        other = yaml.safe_dump({"workflow": [step, {"step": "vars", "tool": {"kind": "noop"}}]})
        assert self.reads(other) == {"vars": None, "workload": {"vars"}, "ctx": {"vars"}}

    @pytest.mark.parametrize(
        "bound",
        [
            {"input": {"context": 1}},
            {"tool": {"input": {"context": "{{ workload.x }}"}}},
            {"tool": {"libs": {"context": "contextlib"}}},
        ],
    )
    def test_code_with_an_input_named_context_reads_that(self, bound: dict[str, Any]) -> None:
        tool = {"kind": "python", "code": "result = context['ctx']", **bound.get("tool", {})}
        step = {"step": "a", "tool": tool, **{key: value for key, value in bound.items() if key != "tool"}}
        compiled = plan(yaml.safe_dump({"workflow": [step]})).steps["a"]
        assert (compiled.tasks[0].context, "ctx" in compiled.reads) == (None, False)

    def test_a_task_of_the_workbook_reads_its_context_in_each_step_that_uses_it(self) -> None:
        text = """
            workbook: [{name: t, tool: {kind: python, code: "return context.get('ctx', {}).get('n')"}}]
            workflow: [{step: a, tool: {kind: workbook, name: t}}]
            """
        assert self.reads(text) == {"ctx": {"n"}}
        assert plan(text).steps["a"].tasks[0].context == {"ctx": {"n"}}

    def test_a_sub_playbook_parks(self) -> None:
        compiled = plan(
            "workflow: [{step: a, tool: [{kind: noop}, {kind: playbook, path: x}]}, {step: b, tool: {kind: noop}}]"
        )
        assert compiled.steps["a"].parks
        assert not compiled.steps["b"].parks


class TestRepeated:
    """A template that stands in many places, by an alias or as it was written."""

    def test_it_is_looked_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each alias of a list of aliases makes ten times as much of it."""
        looked_at: list[str] = []
        init = Template.__init__

        def counted(self: Template, source: str, place: Place | None = None) -> None:
            looked_at.append(source)
            init(self, source, place)

        monkeypatch.setattr(Template, "__init__", counted)
        tens = ["a: &a [" + ", ".join(["'{{ ctx.x + 1 }}'"] * 10) + "]"]
        tens += [f"{name}: &{name} [" + ", ".join([f"*{of}"] * 10) + "]" for of, name in zip("abc", "bcd", strict=True)]
        given = one("step: s\ntool: {kind: noop}\ninput:\n  " + "\n  ".join(tens)).input
        assert isinstance(given, dict)
        assert render_tree(given, {"ctx": {"x": 1}})["d"] == [[[[2] * 10] * 10] * 10] * 10
        assert looked_at.count("{{ ctx.x + 1 }}") == 1, "a few hundred characters take a quarter of a minute"

    def test_each_is_reported_where_it_stands(self) -> None:
        given = one("step: s\ntool: {kind: noop}\ninput:\n  a: '{{ ctx.x.y }}'\n  b: '{{ ctx.x.y }}'").input
        assert isinstance(given, dict)
        lines = []
        for template in given.values():
            with pytest.raises(TemplateError) as caught:
                render_tree(template, {"ctx": {"x": {}}})
            lines.append((caught.value.line, caught.value.column))
        assert lines == [(8, 20), (9, 20)]

    def test_each_fault_is_reported_where_it_stands(self) -> None:
        block = "|\n    first\n    {{ a b }}\n"
        given = f"  a: {block}  b: {block}  c: '{{{{ a b }}}}'\n  d: '{{{{ a b }}}}'"
        with pytest.raises(InvalidPlaybook) as error:
            one("step: s\ntool: {kind: noop}\ninput:\n" + given)
        assert [(fault.line, fault.column, fault.pointer) for fault in error.value.faults] == [
            (10, 9, "/workflow/0/input/a"),
            (13, 9, "/workflow/0/input/b"),
            (14, 11, "/workflow/0/input/c"),
            (15, 11, "/workflow/0/input/d"),
        ]

    def test_what_many_templates_read_is_put_together_once(self) -> None:
        """Not anew for each: of a megabyte of them that took half a minute."""
        names = [f"n{number}" for number in range(20_000)]
        began = time.process_time()
        found = merge({"ctx": frozenset({name})} for name in names)
        assert found == {"ctx": frozenset(names)}
        assert time.process_time() - began < 1, "it takes the square of how many there are"
        assert merge([{"ctx": None}, {"ctx": frozenset({"a"})}]) == {"ctx": None}
