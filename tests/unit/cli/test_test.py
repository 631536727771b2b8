"""`noetls test`: cases of every construct, what is reported of wrong ones, and that a changed playbook is noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.main import app
from noetl_serverless.testing.case_file import Expect

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"

Test = Callable[..., Result]


def playbook(*steps: str, head: str = "") -> str:
    return f"{HEAD}{head}workflow:\n" + "".join(f"  - {step}\n" for step in steps)


def http(name: str, rest: str = "") -> str:
    return f"{{step: {name}, tool: {{kind: http, url: 'http://x/{name}'}}{', ' + rest if rest else ''}}}"


@pytest.fixture
def test(tmp_path: Path) -> Test:
    def run(text: str, cases: str, *words: str, head: str = "") -> Result:
        """`cases`: YAML of the list of cases; `head`: of keys before it."""
        (tmp_path / "a.yaml").write_text(text)
        (tmp_path / "a.test.yaml").write_text(f"kind: PlaybookTest\nplaybook: a.yaml\n{head}cases:\n{cases}")
        return CliRunner().invoke(app, ["test", str(tmp_path), *words])

    return run


def shown(result: Result) -> str:
    return " ".join(result.output.split())


# -- the examples


def test_the_tests_of_the_examples_pass() -> None:
    done = CliRunner().invoke(app, ["test", str(ROOT / "playbooks"), "--json"])
    files = json.loads(done.output)["files"]
    failed = [(file["file"], case) for file in files for case in file["cases"] if not case["passed"]]
    assert (done.exit_code, failed) == (0, []), done.output
    assert {Path(file["file"]).name.removesuffix(".test.yaml") for file in files} >= {
        *("routing", "loop", "pipeline", "recovery", "factorial", "fan_out", "poll", "timer", "admission", "hello")
    }


@pytest.mark.parametrize(
    ("name", "before", "after", "what"),
    [
        ("routing", ">= workload.hot_from", "> workload.hot_from", "path"),
        ("fan_out", "spec: {mode: inclusive}", "spec: {mode: exclusive}", "path"),
        ("loop", "when: \"{{ event.name == 'loop.done' }}\"", "when: \"{{ event.name == 'call.error' }}\"", "path"),
        ("pipeline", 'ctx.page: "{{ ctx.page + 1 }}"', 'ctx.page: "{{ ctx.page + 2 }}"', "result"),
        ("pipeline", "attempts: 3, backoff", "attempts: 2, backoff", "status"),
        ("factorial", '{n: "{{ workload.n - 1 }}"}', '{n: "{{ workload.n }}"}', "input in the call of smaller"),
        ("recovery", "{mode: best_effort}", "{mode: fail_fast}", "status"),
        ("poll", "ctx.asks < workload.most_asks", "ctx.asks <= workload.most_asks", None),
        ("timer", "delay: 6", "delay: 7", "waited"),
        ("admission", ">= workload.review_from", "> workload.review_from", "path"),
    ],
)
def test_a_change_of_an_example_is_noticed(
    tmp_path: Path, name: str, before: str, after: str, what: str | None
) -> None:
    text = (ROOT / f"playbooks/{name}.yaml").read_text()
    assert before in text
    (tmp_path / f"{name}.yaml").write_text(text.replace(before, after))
    (tmp_path / f"{name}.test.yaml").write_text((ROOT / f"playbooks/{name}.test.yaml").read_text())
    done = CliRunner().invoke(app, ["test", str(tmp_path), "--json"])
    assert done.exit_code == 1, done.output
    cases = [case for file in json.loads(done.output)["files"] for case in file["cases"]]
    found = [each["what"] for case in cases for each in case["mismatches"]]
    # without one, the changed playbook calls a tool that the case has no answer for
    assert what in found if what else any("there" in (case["problem"] or "") for case in cases), done.output


# -- the page


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The folder with the files of the page, each of which stands below a comment with its name."""
    text = (ROOT / "playbooks/TESTING.md").read_text()
    files = re.findall(r"<!-- (\S+) -->\n```yaml\n(.*?)```", text, re.S)
    assert [name for name, _ in files] == ["order.yaml", "order.test.yaml"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_cases_of_the_page_pass_as_it_shows(page: Path) -> None:
    done = CliRunner().invoke(app, ["test", str(page)])
    assert done.exit_code == 0, done.output
    claimed = re.findall(r"^      ok    (.*?)  \(", (ROOT / "playbooks/TESTING.md").read_text(), re.M)
    assert re.findall(r"ok    (.*?)  \(", done.output) == claimed
    assert done.output.splitlines()[-1] == "3 cases: 3 passed, 0 failed"


def test_the_playbook_of_the_page_can_be_dry_run_as_it_says(page: Path) -> None:
    words = ["run", "--dry-run", str(page / "order.yaml"), "--set", "customer=9"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "path 2 of 2: completed" in done.output, done.output
    assert 'url    "https://shop.example/orders/9"' in done.output
    done = CliRunner().invoke(app, [*words, "--answer", 'fetch={"data": {"total": 5}}'])
    assert done.exit_code == 0 and "path 1 of 1: completed" in done.output and "ship  playbook" in done.output


@pytest.mark.parametrize("name", ["status", "path", "result", "error", "values", "calls", "waited"])
def test_the_page_explains_all_that_can_be_expected(name: str) -> None:
    assert set(Expect.model_fields) == {"status", "path", "result", "error", "values", "calls", "waited"}
    assert f"| `{name}` |" in (ROOT / "playbooks/TESTING.md").read_text()


# -- constructs


def test_exclusive_arcs_depend_on_the_answer(test: Test) -> None:
    text = playbook(
        http("a", "next: {arcs: [{step: b, when: '{{ output.data.n > 1 }}'}, {step: c}]}"), http("b"), http("c")
    )
    done = test(
        text,
        "  - {name: more, tools: {a: {n: 2}, b: {}}, expect: {path: [a, b], calls: {c: 0}}}\n"
        "  - {name: less, tools: {a: {n: 1}, c: {}}, expect: {path: [a, c], calls: {b: 0}}}\n",
    )
    assert done.exit_code == 0, done.output


def test_a_workload_that_does_not_fit_is_a_run_that_has_failed(test: Test) -> None:
    text = playbook(http("a"), head="schemas: {input: {required: [n]}, result: {type: integer}}\n")
    expected = (
        "  - {name: fits, workload: {n: 1}, tools: {a: {result: 1}}, expect: {result: 1}}\n"
        "  - {name: input, expect: {error: {code: input.invalid}, calls: {a: 0}}}\n"
        "  - {name: result, workload: {n: 1}, tools: {a: {result: x}}, "
        "expect: {error: {code: result.invalid, step: a}}}\n"
    )
    done = test(text, expected)
    assert done.exit_code == 0, done.output
    assert "input.invalid" in shown(test(text, "  - {name: unexpected, expect: {result: 1}}\n"))


def test_inclusive_arcs_lead_to_a_join_that_runs_once(test: Test) -> None:
    arcs = "next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c, when: '{{ output.data.n > 1 }}'}]}"
    to_join = "next: {arcs: [{step: d}]}"
    text = playbook(http("a", arcs), http("b", to_join), http("c", to_join), http("d"))
    done = test(
        text,
        "  - {name: both, tools: {a: {n: 2}}, expect: {path: [a, b, c, d]}}\n"
        "  - {name: one, tools: {a: {n: 1}}, expect: {path: [a, b, d], values: {c.status: skipped}}}\n",
        head="tools: {b: {}, c: {}, d: {}}\n",
    )
    assert done.exit_code == 0, done.output


def test_a_sequential_loop_takes_an_answer_for_each_item_and_each_call_of_it(test: Test) -> None:
    rules = "spec: {policy: {rules: [{when: \"{{ output.status == 'error' }}\", then: {do: retry, delay: 60}}]}}"
    text = playbook(
        "{step: each, loop: {in: '{{ workload.ns }}', iterator: n}, "
        f"tool: {{kind: http, url: 'http://x/{{{{ iter.n }}}}', {rules}}}}}",
        head="workload: {ns: [7, 8]}\n",
    )
    done = test(
        text,
        "  - name: the second item is retried\n"
        "    tools: {each: [{v: 1}, [{error: {}}, {v: 2}]]}\n"
        "    expect: {values: {each.results: [{v: 1}, {v: 2}]}, waited: 60, calls: {each: 3}}\n"
        "  - {name: too few, tools: {each: [{v: 1}]}, expect: {}}\n",
    )
    assert done.exit_code == 1
    assert "ok the second item is retried" in shown(done)
    assert "item 1 of the loop 'each' has no answer: there is 1 answer for 'each'" in shown(done)


def test_a_parallel_loop_gives_its_results_in_the_order_of_its_items(test: Test) -> None:
    text = playbook(
        "{step: each, loop: {in: [1, 2, 3], iterator: n, spec: {mode: parallel, max_in_flight: 3}}, "
        "spec: {policy: {failure: {mode: best_effort}}}, tool: {kind: http, url: 'http://x'}}"
    )
    done = test(
        text,
        "  - name: one fails\n    tools: {each: [{v: 1}, {error: oh}, {v: 3}]}\n"
        "    expect: {values: {'each.results': [{v: 1}, null, {v: 3}], each.stats.failed: 1}}\n",
    )
    assert done.exit_code == 0, done.output


def test_a_pipeline_jumps_and_breaks_and_its_tasks_are_answered_one_by_one(test: Test) -> None:
    rules = (
        "{rules: [{when: '{{ output.data.more }}', then: {do: jump, to: get, set: {ctx.seen: '{{ output.data.n }}'}}}, "
        "{else: {then: {do: break}}}]}"
    )
    text = playbook(
        "{step: a, tool: [{name: get, kind: http, url: 'http://x'}, "
        f"{{name: look, kind: http, url: 'http://y', spec: {{policy: {rules}}}}}, "
        "{name: never, kind: http, url: 'http://z'}]}"
    )
    done = test(
        text,
        "  - name: twice\n    tools: {a.get: {}, a.look: [{more: true, n: 4}, {more: false}]}\n"
        "    expect: {values: {ctx.seen: 4}, calls: {a.get: 2, a.look: 2, a.never: 0}}\n",
    )
    assert done.exit_code == 0, done.output
    refused = test(text, "  - {name: x, tools: {a: {}}, expect: {}}\n")
    assert "step 'a' has several tasks: name one of a.get, a.look, a.never" in shown(refused)


def test_an_error_takes_the_arc_for_it_and_rules_see_its_parts(test: Test) -> None:
    rules = (
        "spec: {policy: {rules: [{when: '{{ output.http.status == 429 }}', then: {do: retry, attempts: 2, delay: 5}}]}}"
    )
    text = playbook(
        f"{{step: a, tool: {{kind: http, url: 'http://x', {rules}}}, "
        "next: {arcs: [{step: b, when: \"{{ event.name == 'call.error' }}\", set: {ctx.why: '{{ error.code }}'}}]}}",
        http("b"),
    )
    done = test(
        text,
        "  - name: handled\n"
        "    tools: {a: [{error: {code: http.status}, http: {status: 429}}, {error: {code: http.gone}}], b: {}}\n"
        "    expect: {path: [a, b], values: {ctx.why: http.gone}, waited: 5}\n",
    )
    assert done.exit_code == 0, done.output


def test_an_admission_rule_and_set_of_a_step_and_an_arc_are_decided(test: Test) -> None:
    rules = "[{when: '{{ ctx.n > 1 }}', then: {allow: true}}, {else: {then: {allow: false}}}]"
    admit = f"spec: {{policy: {{admit: {{rules: {rules}}}}}}}"
    text = playbook(
        http("a", "set: {ctx.n: '{{ output.data.n }}'}, next: {arcs: [{step: b, set: {ctx.m: '{{ ctx.n + 1 }}'}}]}"),
        http("b", admit),
    )
    done = test(
        text,
        "  - {name: 'yes', tools: {a: {n: 2}, b: {}}, expect: {path: [a, b], values: {ctx.m: 3}}}\n"
        "  - {name: 'no', tools: {a: {n: 1}}, expect: {path: [a], values: {b.status: skipped}}}\n",
    )
    assert done.exit_code == 0, done.output


def test_an_execution_that_takes_too_long_fails_without_taking_any_time(test: Test) -> None:
    rules = "spec: {policy: {rules: [{when: '{{ error }}', then: {do: retry, delay: 60}}]}}"
    text = playbook(
        f"{{step: a, tool: {{kind: http, url: 'http://x', {rules}}}}}", head="executor: {spec: {timeout: 90}}\n"
    )
    done = test(
        text, "  - {name: x, tools: {a: {error: {}}}, expect: {error: {code: execution.timeout}, waited: 90}}\n"
    )
    assert done.exit_code == 0, done.output


def test_a_sub_playbook_is_answered_and_its_payload_compared(test: Test) -> None:
    text = playbook("{step: a, tool: {kind: playbook, path: t/other, input: {n: '{{ workload.n }}'}}}")
    case = (
        "  - {name: x, workload: {n: 3}, tools: {a: {v: 9}}, expect: {result: {v: 9}, calls: {a: {input: {n: N}}}}}\n"
    )
    assert test(text, case.replace("N", "3")).exit_code == 0
    done = test(text, case.replace("N", "4"))
    assert done.exit_code == 1 and 'input in the call of a - {"n": 4} + {"n": 3}' in shown(done)


def test_a_tool_runs_itself_where_it_is_asked_for(test: Test) -> None:
    text = playbook(
        "{step: a, tool: {kind: python, input: {n: 2}, code: 'result = n * 2'}, next: {arcs: [{step: b}]}}",
        "{step: b, tool: {kind: noop}}",
    )
    for asked in ("run: [python]", "tools: {a: run}"):
        done = test(text, f"  - {{name: x, {asked}, expect: {{values: {{a.data: 4}}}}}}\n")
        assert done.exit_code == 0, done.output
    assert test(text, "  - {name: x, run: [http], expect: {}}\n").exit_code == 1
    refused = test(playbook(http("a")), "  - {name: x, tools: {a: run}, expect: {}}\n")
    assert "http has effects outside: give an answer; only duckdb, noop, python can run" in shown(refused)


WAITS = playbook(
    "{step: nap, tool: {kind: wait, for: 10m}, next: {arcs: [{step: ask}]}}",
    "{step: ask, tool: {kind: wait, approval: manager, within: 1h}}",
)


def test_a_wait_for_a_time_takes_none_and_an_answer_is_what_its_signal_brings(test: Test) -> None:
    approved = "  - {name: x, tools: {ask: {approved: true}}, expect: {values: {ask.by.name: test}, waited: 600}}\n"
    ada = "{approved: true, by: {kind: user, name: ada}}"
    by = f"  - {{name: v, tools: {{ask: {ada}}}, expect: {{result: {ada}}}}}\n"
    rejected = "{code: wait.rejected, message: \"'manager' was not approved: no\"}"
    late = "  - {name: z, tools: {ask: {error: {code: wait.timeout}}}, expect: {error: {code: wait.timeout}}}\n"
    for text in (
        approved,
        by,
        f"  - {{name: y, tools: {{ask: {{approved: false, comment: 'no'}}}}, expect: {{error: {rejected}}}}}\n",
        late,
    ):
        done = test(WAITS, text)
        assert done.exit_code == 0, done.output


# -- cases that fail


@pytest.mark.parametrize("answer", ["{approvd: true}", "{approved: 'yes'}", "sure", "{result: {approved: 1}}", "null"])
def test_an_answer_that_is_no_decision_is_refused_for_an_approval(test: Test, answer: str) -> None:
    done = test(WAITS, f"  - {{name: x, tools: {{ask: {answer}}}, expect: {{}}}}\n")
    assert done.exit_code == 1, done.output
    assert 'answer with a decision: {"approved": true or false' in shown(done)


def test_a_wait_for_a_signal_without_an_answer_fails_the_case(test: Test) -> None:
    done = test(WAITS, "  - {name: x, expect: {}}\n")
    assert done.exit_code == 1
    assert "there is no answer for 'ask'; add one to 'tools': ask: {approved: true}, or the data of" in shown(done)


SAGA = playbook(
    "{step: charge, tool: {kind: http, method: POST, url: 'http://x/charges'}, compensate: {tool: {kind: http, "
    "method: DELETE, url: 'http://x/charges/{{ charge.data.id }}'}}, next: {arcs: [{step: ship}]}}",
    http(
        "ship",
        "compensate: {tool: [{name: call, kind: http, url: 'http://x/call'}, {name: tell, kind: http, url: 'http://x/tell'}]}"
        ", next: {arcs: [{step: bill}]}",
    ),
    http("bill"),
)


def test_what_undoes_a_step_is_answered_and_its_calls_compared(test: Test) -> None:
    done = test(
        SAGA,
        "  - name: undone\n"
        "    tools: {charge: {data: {id: 7}}, ship: {}, bill: {error: {code: http.connect}},\n"
        "      charge.compensate: {}, ship.compensate.call: {}, ship.compensate.tell: {}}\n"
        "    expect: {status: failed, path: [charge, ship, bill, ship.compensate, charge.compensate],\n"
        "      calls: {charge.compensate: {method: DELETE, url: 'http://x/charges/7'}, ship.compensate.tell: 1}}\n",
    )
    assert done.exit_code == 0, done.output
    missing = test(SAGA, "  - {name: b, tools: {charge: {}, ship: {}, bill: {error: {}}}, expect: {status: failed}}\n")
    assert "add one to 'tools': ship.compensate.call: {...}" in shown(missing)


def test_an_answer_for_what_undoes_nothing_is_refused(test: Test) -> None:
    def refused(name: str) -> str:
        return shown(test(SAGA, f"  - {{name: a, tools: {{{name}: {{}}}}, expect: {{status: completed}}}}\n"))

    assert "step 'bill' has no compensate" in refused("bill.compensate")
    several = "step 'ship.compensate' has several tasks: name one of ship.compensate.call, ship.compensate.tell"
    assert several in refused("ship.compensate")
    assert "step 'ship.compensate' has no task 'cal'; did you mean 'call'?" in refused("ship.compensate.cal")


def test_a_tool_without_an_answer_fails_the_case_and_names_what_to_add(test: Test) -> None:
    done = test(playbook(http("fetch")), "  - {name: x, expect: {}}\n")
    assert done.exit_code == 1
    assert "a.test.yaml:4: there is no answer for 'fetch'; add one to 'tools': fetch: {...}" in shown(done)


def test_more_calls_than_answers_fail_the_case(test: Test) -> None:
    rules = "spec: {policy: {rules: [{when: \"{{ output.status == 'error' }}\", then: {do: retry, attempts: 3}}]}}"
    text = playbook(f"{{step: a, tool: {{kind: http, url: 'http://x', {rules}}}}}")
    done = test(text, "  - {name: x, tools: {a: [{error: {}}]}, expect: {}}\n")
    assert done.exit_code == 1 and "'a' was called 2 times, and there is 1 answer" in shown(done)


def test_a_difference_is_shown_with_the_line_of_what_was_expected(test: Test) -> None:
    done = test(
        playbook(http("a", "set: {ctx.n: '{{ output.data.n }}'}")),
        "  - name: x\n    tools: {a: {n: 1}}\n    expect:\n      path: [a, a]\n      values:\n        ctx.n: true\n",
    )
    assert done.exit_code == 1
    text = shown(done)
    assert 'a.test.yaml:7: path - ["a", "a"] + ["a"]' in text
    assert "a.test.yaml:9: ctx.n - true + 1" in text, "1 is not true"
    assert text.endswith("1 case: 0 passed, 1 failed")


def test_of_longer_values_only_the_lines_that_differ_are_marked(test: Test) -> None:
    result = ", ".join(f"k{n}: {'x' * 20}" for n in range(8))
    done = test(
        playbook(http("a")),
        f"  - {{name: x, tools: {{a: {{{result}}}}}, expect: {{result: {{{result.replace('k3: x', 'k3: y')}}}}}}}\n",
    )
    marked = [line.strip() for line in done.output.splitlines() if line.strip().startswith(("- ", "+ "))]
    assert marked == [f'-   "k3": "y{"x" * 19}",', f'+   "k3": "{"x" * 20}",']


def test_a_run_that_fails_is_not_taken_for_one_that_completes(test: Test) -> None:
    done = test(
        playbook(http("a")), "  - {name: x, tools: {a: {error: {code: http.gone, message: lost}}}, expect: {}}\n"
    )
    assert done.exit_code == 1 and "+ \"failed in step 'a': http.gone: lost\"" in shown(done)


def test_what_the_tool_itself_would_refuse_fails(test: Test) -> None:
    text = playbook("{step: a, tool: {kind: http, url: 'http://x', timeout: '{{ workload.t }}'}}")
    done = test(text, "  - {name: x, workload: {t: soon}, tools: {a: {}}, expect: {}}\n")
    assert done.exit_code == 1 and "http.config" in done.output, done.output


def test_a_case_ends_in_time_whatever_its_code_does(test: Test) -> None:
    text = playbook("{step: a, tool: {kind: python, code: 'while True: pass'}}")
    done = test(text, "  - {name: x, run: [python], expect: {}}\n", "--timeout", "1")
    assert done.exit_code == 1 and "it did not end within 1 s" in shown(done)


def test_a_cycle_without_an_end_ends_in_time(test: Test) -> None:
    text = playbook(
        "{step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}",
        "{step: b, tool: {kind: noop}, next: {arcs: [{step: a}]}}",
    )
    done = test(text, "  - {name: x, expect: {}}\n", "--timeout", "0.5")
    assert done.exit_code == 1 and "it did not end within 0.5 s" in shown(done)


# -- files that are wrong


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("{name: x, tool: {a: {}}, expect: {}}", "4:15: unknown key 'tool'; did you mean 'tools'?"),
        ("{name: x, payload: {}, expect: {}}", "4:15: 'payload' is not part of the language: use 'workload'"),
        ("{name: x, expect: {stats: failed}}", "unknown key 'stats'; did you mean 'status'?"),
        ("{name: x, expect: {status: ok}}", "this must be one of completed, failed"),
        ("{name: x}", "'expect' is required"),
        ("{name: x, tools: {aa: {}}, expect: {}}", "4:23: there is no step 'aa'; did you mean 'a'?"),
        ("{name: x, tools: {a: [[1]]}, expect: {}}", "a result that is a list is written as {result: [...]}"),
        ("{name: x, tools: {a: {error: 5}}, expect: {}}", "an error is an object"),
        ("{name: x, tools: {a: {error: {message: off}}}, expect: {}}", "the message of an error is a string"),
        ("{name: x, expect: {path: [b]}}", "there is no step 'b'"),
        ("{name: x, expect: {values: {'ctx.': 1}}}", "'ctx.' is no expression"),
        ("{name: x, expect: {calls: {a: {urls: x}}}}", "http is not given 'urls' here; did you mean 'url'?"),
        ("{name: x, expect: {calls: {b: 1}}}", "there is no step 'b'"),
        ("{name: x, workload: {un: 1}, expect: {}}", "4:26: the playbook does not use 'un'"),
        ("{name: x, run: [pyton], expect: {}}", "not 'pyton'; did you mean 'python'?"),
        ("{name: x, expect: {status: completed, error: {}}}", "a run that is completed has no error"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_what_was_meant(test: Test, case: str, message: str) -> None:
    done = test(playbook(http("a")), f"  - {case}\n")
    assert done.exit_code == 1 and message in shown(done), done.output
    assert "0 cases: 0 passed, 0 failed, 1 file with errors" in shown(done)


def test_two_cases_of_one_name_are_refused(test: Test) -> None:
    done = test(playbook(http("a")), "  - {name: x, expect: {}}\n  - {name: x, expect: {}}\n")
    assert done.exit_code == 1 and "5:12: there is another case named 'x'" in shown(done)


def test_the_mistakes_of_a_playbook_are_named_with_its_file(test: Test) -> None:
    done = test(playbook("{step: a, tool: {kind: http, urll: x}}"), "  - {name: x, expect: {}}\n")
    assert done.exit_code == 1 and "a.yaml:5:" in shown(done) and "urll" in shown(done), done.output


def test_a_playbook_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.test.yaml").write_text("kind: PlaybookTest\nplaybook: b.yaml\ncases: [{name: x, expect: {}}]\n")
    done = CliRunner().invoke(app, ["test", str(tmp_path)])
    assert done.exit_code == 1 and "a.test.yaml:2: " in shown(done) and "b.yaml: No such file" in shown(done)


def test_a_folder_without_tests_is_wrong_use(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["test", str(tmp_path)])
    assert done.exit_code == 2 and "ends in .test.yaml" in done.stderr


def test_a_playbook_stands_for_the_tests_beside_it(test: Test, tmp_path: Path) -> None:
    test(playbook(http("a")), "  - {name: x, tools: {a: {}}, expect: {}}\n")
    done = CliRunner().invoke(app, ["test", str(tmp_path / "a.yaml")])
    assert done.exit_code == 0 and "1 case: 1 passed, 0 failed" in shown(done)
    both = [str(tmp_path / "a.yaml"), str(tmp_path / "a.test.yaml"), str(tmp_path)]
    assert "1 case: 1 passed, 0 failed" in shown(CliRunner().invoke(app, ["test", *both])), "once is enough"


# -- reports


def test_the_results_are_written_for_ci(test: Test, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    good, bad = (
        "{name: good, tools: {a: {}}, expect: {}}",
        '{name: bad, tools: {a: {}}, expect: {result: {v: "\\x01"}}}',
    )
    done = test(playbook(http("a")), f"  - {good}\n  - {bad}\n", "--junit", str(report))
    assert done.exit_code == 1
    root = ElementTree.fromstring(report.read_text())
    assert [root.get(name) for name in ("tests", "failures", "errors")] == ["2", "1", "0"]
    passed, failed = root.iter("testcase")
    assert (passed.get("name"), passed.find("failure")) == ("good", None)
    failure = failed.find("failure")
    assert failure is not None and failure.get("message") == "unexpected: result"
    assert f"{tmp_path / 'a.test.yaml'}:5: result" in str(failure.text)


def test_the_results_as_json_name_each_difference(test: Test) -> None:
    done = test(playbook(http("a")), "  - {name: x, tools: {a: {v: 1}}, expect: {result: {v: 2}}}\n", "--json")
    document: dict[str, Any] = json.loads(done.output)
    ((case,),) = [file["cases"] for file in document["files"]]
    assert (document["ok"], case["passed"], case["problem"]) == (False, False, None)
    assert case["mismatches"] == [{"what": "result", "line": 4, "expected": {"v": 2}, "actual": {"v": 1}}]


def test_lint_and_register_leave_out_the_tests_in_a_folder() -> None:
    done = CliRunner().invoke(app, ["lint", str(ROOT / "playbooks"), "--json"])
    errors = [finding for finding in json.loads(done.output) if finding["severity"] == "error"]
    assert (done.exit_code, errors) == (0, []), done.output


@pytest.mark.parametrize("kind", ["kind: Playbook", "kind: 'Playbook'  # one"])
def test_a_playbook_without_tests_is_shown_where_they_belong(tmp_path: Path, kind: str) -> None:
    text = playbook("{step: a, tool: {kind: noop}}").replace("kind: Playbook", kind)
    (tmp_path / "loops.yaml").write_text(text)
    done = CliRunner().invoke(app, ["test", str(tmp_path / "loops.yaml")])
    assert done.exit_code == 1
    assert "loops.yaml:1: this is a playbook without tests: they belong beside it, in loops.test.yaml" in shown(done)
    assert "'playbook' is required" not in done.output
    (tmp_path / "loops.test.yaml").write_text(
        "kind: PlaybookTest\nplaybook: loops.yaml\ncases: [{name: a, expect: {status: completed}}]\n"
    )
    done = CliRunner().invoke(app, ["test", str(tmp_path / "loops.yaml")])
    assert done.exit_code == 0, done.output


def test_a_file_of_tests_that_names_itself_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "a.test.yaml").write_text(playbook("{step: a, tool: {kind: noop}}"))
    done = CliRunner().invoke(app, ["test", str(tmp_path)])
    assert done.exit_code == 1
    assert "a.test.yaml:1: this is a playbook; a file of tests has 'kind: PlaybookTest'" in shown(done)
