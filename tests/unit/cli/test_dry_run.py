"""`noetls run --dry-run`: the paths that a playbook can take, shown without calling a tool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.main import app

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"

Dry = Callable[..., Result]


def playbook(*steps: str, head: str = "") -> str:
    return f"{HEAD}{head}workflow:\n" + "".join(f"  - {step}\n" for step in steps)


def http(name: str, rest: str = "", config: str = "") -> str:
    tool = f"tool: {{kind: http, url: 'http://x/{name}'{', ' + config if config else ''}}}"
    return f"{{step: {name}, {tool}{', ' + rest if rest else ''}}}"


@pytest.fixture
def dry(tmp_path: Path) -> Dry:
    def run(text: str, *words: str) -> Result:
        (tmp_path / "a.yaml").write_text(text)
        return CliRunner().invoke(app, ["run", "--dry-run", str(tmp_path / "a.yaml"), *words])

    return run


def document(result: Result, status: int = 0) -> dict[str, Any]:
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def paths(result: Result, status: int = 0) -> list[list[str]]:
    """The steps of each path that are not skipped."""
    return [
        [step["step"] for step in path["steps"] if not step["skipped"]] for path in document(result, status)["paths"]
    ]


def shown(result: Result) -> str:
    return " ".join(result.output.split())


def test_conditions_on_the_workload_alone_are_decided(dry: Dry) -> None:
    arcs = "next: {arcs: [{step: b, when: '{{ workload.n > 1 }}'}, {step: c}]}"
    text = playbook(http("a", arcs), http("b"), http("c"), head="workload: {n: 2}\n")
    assert paths(dry(text, "--json")) == [["a", "b"]]
    assert paths(dry(text, "--json", "--set", "n=1")) == [["a", "c"]]
    done = dry(text)
    assert "path 1 of 1: completed" in shown(done)
    assert "arc b: holds: {{ workload.n > 1 }} (line 6) (workload.n = 2) next b" in shown(done)


def test_a_condition_on_a_result_is_undecided_and_followed_both_ways(dry: Dry) -> None:
    arcs = "next: {arcs: [{step: b, when: '{{ output.data.n > 1 }}'}, {step: c}]}"
    text = playbook(http("a", arcs), http("b"), http("c"))
    done = document(dry(text, "--json"))
    assert [[step["step"] for step in path["steps"] if not step["skipped"]] for path in done["paths"]] == [
        ["a", "b"],
        ["a", "c"],
    ]
    choices = [[(each["step"], each["holds"]) for each in path["choices"]] for path in done["paths"]]
    assert choices == [[("a", True)], [("a", False)]]
    assert "arc b: undecided, taken not to hold: {{ output.data.n > 1 }} (line 5)" in shown(dry(text))


def test_what_does_not_read_the_unknown_part_of_a_condition_is_decided(dry: Dry) -> None:
    arcs = "next: {arcs: [{step: b, when: '{{ workload.n == 2 or output.data.n > 1 }}'}, {step: c}]}"
    text = playbook(http("a", arcs), http("b"), http("c"), head="workload: {n: 2}\n")
    assert paths(dry(text, "--json")) == [["a", "b"]]
    assert paths(dry(text, "--json", "--set", "n=3")) == [["a", "b"], ["a", "c"]]


def test_an_answer_decides_what_depends_on_it(dry: Dry, tmp_path: Path) -> None:
    arcs = "next: {arcs: [{step: b, when: '{{ output.data.n > 1 }}'}, {step: c}]}"
    text = playbook(http("a", arcs), http("b"), http("c"))
    assert paths(dry(text, "--json", "--answer", 'a={"n": 2}')) == [["a", "b"]]
    (tmp_path / "answers.yaml").write_text("a: {n: 1}\n")
    file = ("--answers", str(tmp_path / "answers.yaml"))
    assert paths(dry(text, "--json", *file)) == [["a", "c"]]
    assert paths(dry(text, "--json", *file, "--answer", 'a={"n": 2}')) == [["a", "b"]], "--answer goes before --answers"


def test_an_answer_that_is_an_error_takes_the_arc_for_it(dry: Dry) -> None:
    arcs = "next: {arcs: [{step: b, when: \"{{ event.name == 'call.error' }}\"}, {step: c}]}"
    text = playbook(http("a", arcs), http("b"), http("c"))
    assert paths(dry(text, "--json")) == [["a", "c"]], "each tool is taken to succeed"
    assert paths(dry(text, "--json", "--answer", 'a={"error": {"code": "http.timeout"}}')) == [["a", "b"]]
    failed = dry(playbook(http("a")), "--answer", 'a={"error": {"code": "http.timeout", "message": "gone"}}')
    assert failed.exit_code == 1 and "path 1 of 1: failed" in shown(failed)
    assert "error: http.timeout: gone (line 5)" in shown(failed)


def test_inputs_and_configs_are_rendered_as_far_as_they_are_known(dry: Dry) -> None:
    text = playbook(
        http("a", "next: {arcs: [{step: b}]}"),
        "{step: b, input: {n: '{{ workload.n }}', m: '{{ a.m }}'}, "
        "tool: {kind: http, url: 'http://x/{{ workload.n }}', headers: {id: '{{ a.id }}'}, auth: shop}}",
        head="workload: {n: 7}\n",
    )
    (path,) = document(dry(text, "--json"))["paths"]
    (call,) = path["steps"][1]["calls"]
    assert call["input"] == {"n": 7, "m": {"$unknown": "{{ a.m }}"}}
    assert call["config"] == {"url": "http://x/7", "headers": {"id": {"$unknown": "{{ a.id }}"}}, "auth": "shop"}
    assert 'input {"n": 7, "m": unknown ({{ a.m }})}' in shown(dry(text))


SELECTING = http(
    "make",
    "next: {arcs: [{step: late, when: '{{ %s }}'}]}",
    "output: {select: [{path: $.page.next, as: cursor}]}",
)
GIVEN = 'make={"page": {"next": 7}, "o": {"deep": 1}, "n": 2}'


@pytest.mark.parametrize("condition", ["make.cursor == 7 and make.n == 2", "output.data.cursor == 7"])
def test_routing_reads_what_is_selected_of_an_answer(dry: Dry, condition: str) -> None:
    text = playbook(SELECTING % condition, http("late", "input: {deep: '{{ make.o.deep }}', all: '{{ make }}'}"))
    (path,) = document(dry(text, "--json", "--answer", GIVEN))["paths"]
    assert path["status"] == "completed" and [step["step"] for step in path["steps"]] == ["make", "late"]
    whole = {"page": {"next": 7}, "o": {"deep": 1}, "n": 2}
    assert path["steps"][1]["calls"][0]["input"] == {"deep": 1, "all": whole}, "a later step reads all of it"


@pytest.mark.parametrize("condition", ["make.o.deep == 1", "output.data.page.next == 7"])
def test_routing_is_refused_what_is_not_selected_of_an_answer_as_in_a_run(dry: Dry, condition: str) -> None:
    text = playbook(SELECTING % condition, http("late"))
    result = dry(text, "--json", "--answer", GIVEN)
    found = json.loads(result.output)["paths"]
    assert [path["status"] for path in found] == ["failed"], "it is by reference, whatever its size"
    assert "is stored by reference and cannot be read here" in found[0]["error"]["message"]


def test_what_is_selected_of_an_unknown_result_is_undecided(dry: Dry) -> None:
    text = playbook(SELECTING % "make.cursor == 7", http("late"))
    assert paths(dry(text, "--json")) == [["make", "late"], ["make"]]


def test_a_selection_that_a_run_would_refuse_fails_the_step(dry: Dry) -> None:
    text = playbook(http("make", "", "output: {select: [{path: $.text, as: text}]}"))
    result = dry(text, "--json", "--answer", "make=" + json.dumps({"text": "x" * 20_000}))
    (path,) = json.loads(result.output)["paths"]
    assert "output.select: the values of text have more than 16384 bytes" in path["error"]["message"]
    assert (path["error"]["step"], path["error"]["at"]) == ("make", 5), "it names the line of the tool"


def test_a_loop_shows_the_number_of_its_items_if_it_is_known(dry: Dry) -> None:
    def loop(items: str) -> str:
        tool = "tool: {kind: http, url: 'http://x/{{ iter.n }}'}"
        return playbook(
            http("a", "next: {arcs: [{step: b}]}"),
            f"{{step: b, loop: {{in: '{{{{ {items} }}}}', iterator: n}}, {tool}, next: {{arcs: [{{step: c}}]}}}}",
            "{step: c, tool: {kind: http, url: 'http://x', headers: {x: '{{ b.results | length }}'}}}",
            head="workload: {ns: [7, 8]}\n",
        )

    steps = document(dry(loop("workload.ns"), "--json"))["paths"][0]["steps"]
    assert steps[1]["loop"] == {"in": "{{ workload.ns }}", "mode": "sequential", "count": 2}
    assert [call["config"]["url"] for call in steps[1]["calls"]] == ["http://x/7"], "the first item stands for all"
    assert steps[2]["calls"][0]["config"]["headers"] == {"x": {"$unknown": "{{ b.results | length }}"}}
    steps = document(dry(loop("a.ns"), "--json"))["paths"][0]["steps"]
    assert steps[1]["loop"]["count"] is None
    assert steps[1]["calls"][0]["config"]["url"] == {"$unknown": "http://x/{{ iter.n }}"}
    assert "sequential, an unknown number of items of {{ a.ns }}" in shown(dry(loop("a.ns")))
    steps = document(dry(loop("a.ns"), "--json", "--answer", 'a={"ns": [4, 5, 6]}'))["paths"][0]["steps"]
    assert steps[1]["loop"]["count"] == 3


def test_what_depends_on_the_number_of_unknown_items_is_undecided(dry: Dry) -> None:
    arcs = "next: {arcs: [{step: c, when: '{{ b.stats.failed > 0 }}'}]}"
    text = playbook(
        http("a", "next: {arcs: [{step: b}]}"),
        f"{{step: b, loop: {{in: '{{{{ a.ns }}}}', iterator: n}}, tool: {{kind: http, url: 'http://x'}}, {arcs}}}",
        http("c"),
    )
    assert paths(dry(text, "--json")) == [["a", "b", "c"], ["a", "b"]]


def test_the_results_of_a_loop_are_passed_on_unknown(dry: Dry) -> None:
    text = playbook(
        "{step: a, loop: {in: [1, 2], iterator: n}, tool: {kind: http, url: 'http://x/{{ iter.n }}'}, "
        "set: {ctx.all: '{{ a }}'}, next: {arcs: [{step: b}]}}",
        "{step: b, input: {all: '{{ ctx.all }}'}, tool: {kind: http, url: 'http://x'}}",
    )
    (path,) = document(dry(text, "--json"))["paths"]
    assert path["steps"][0]["set"] == {"ctx.all": {"$unknown": "the results of a"}}
    assert path["steps"][1]["calls"][0]["input"] == {"all": {"$unknown": "{{ ctx.all }}"}}
    (path,) = document(dry(text, "--json", "--answer", 'a=[{"v": 4}, {"v": 5}]'))["paths"]
    assert path["steps"][1]["calls"][0]["input"] == {"all": [{"v": 4}, {"v": 5}]}


def test_a_loop_with_an_answer_for_each_item_is_run_through(dry: Dry) -> None:
    text = playbook(
        "{step: a, loop: {in: [1, 2], iterator: n}, tool: {kind: http, url: 'http://x/{{ iter.n }}'}, "
        "next: {arcs: [{step: b, when: '{{ a.results[1].v == 5 }}'}]}}",
        http("b"),
    )
    done = dry(text, "--json", "--answer", 'a=[{"v": 4}, {"v": 5}]')
    assert paths(done) == [["a", "b"]]
    assert [call["config"]["url"] for call in document(done)["paths"][0]["steps"][0]["calls"]] == [
        "http://x/1",
        "http://x/2",
    ]


def test_the_rules_of_tasks_are_named_and_undecided_ones_are_taken_not_to_hold(dry: Dry) -> None:
    rules = (
        "spec: {policy: {rules: [{when: '{{ output.http.status == 429 }}', then: {do: retry, delay: 60}}, "
        "{when: \"{{ output.status == 'error' }}\", then: {do: fail}}]}}"
    )
    text = playbook(http("a", config=rules))
    ((call,),) = [step["calls"] for step in document(dry(text, "--json"))["paths"][0]["steps"]]
    assert [(rule["do"], rule["holds"]) for rule in call["rules"]] == [("retry", None), ("fail", False)]
    assert "rule retry: undecided, taken not to hold: {{ output.http.status == 429 }} (line 5)" in shown(dry(text))
    retried = dry(text, "--json", "--answer", 'a=[{"error": {}, "http": {"status": 429}}, {"v": 1}]')
    calls = document(retried)["paths"][0]["steps"][0]["calls"]
    assert [(call["attempt"], call["waits"], call["answered"]) for call in calls] == [(1, 60, True), (2, None, True)]


def test_what_a_rule_sets_to_an_unknown_value_stays_unknown(dry: Dry) -> None:
    rules = "{rules: [{else: {then: {do: continue, set: {ctx.n: '{{ output.data.n }}', ctx.m: 2}}}}]}"
    text = playbook(
        http("a", "next: {arcs: [{step: b, when: '{{ ctx.m == 2 }}'}]}", config=f"spec: {{policy: {rules}}}"),
        http("b", "next: {arcs: [{step: c, when: '{{ ctx.n == 2 }}'}]}"),
        http("c"),
    )
    done = document(dry(text, "--json"))
    assert done["paths"][0]["steps"][0]["set"] == {"ctx.n": {"$unknown": "{{ output.data.n }}"}, "ctx.m": 2}
    assert paths(dry(text, "--json")) == [["a", "b", "c"], ["a", "b"]]


def test_a_pipeline_shows_each_task(dry: Dry) -> None:
    text = playbook(
        "{step: a, tool: [{name: get, kind: http, url: 'http://x'}, "
        "{name: put, kind: http, url: 'http://y/{{ get.id }}'}]}"
    )
    (step,) = document(dry(text, "--json"))["paths"][0]["steps"]
    assert [(call["name"], call["config"]["url"]) for call in step["calls"]] == [
        ("a.get", "http://x"),
        ("a.put", {"$unknown": "http://y/{{ get.id }}"}),
    ]
    known = dry(text, "--json", "--answer", 'a.get={"id": 5}')
    assert document(known)["paths"][0]["steps"][0]["calls"][1]["config"]["url"] == "http://y/5"


def test_inclusive_arcs_and_admission_are_followed_each_way(dry: Dry) -> None:
    admit = (
        "spec: {policy: {admit: {rules: [{when: '{{ a.n > 1 }}', then: {allow: true}}, "
        "{else: {then: {allow: false}}}]}}}"
    )
    arcs = "next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c, when: '{{ output.data.m }}'}]}"
    text = playbook(http("a", arcs), http("b", f"{admit}, next: {{arcs: [{{step: d}}]}}"), http("c"), http("d"))
    assert paths(dry(text, "--json")) == [["a", "b", "c", "d"], ["a", "b", "d"], ["a", "c"]]


def test_a_cycle_that_a_result_ends_is_left(dry: Dry) -> None:
    arcs = "next: {arcs: [{step: a, when: '{{ output.data.more }}'}, {step: b}]}"
    assert paths(dry(playbook(http("a", arcs), http("b")), "--json")) == [["a", "a", "b"], ["a", "b"]]


def test_a_cycle_that_nothing_ends_is_shown_until_it_repeats_itself(dry: Dry) -> None:
    text = playbook(http("a", "next: {arcs: [{step: b}]}"), http("b", "next: {arcs: [{step: a}]}"))
    assert paths(dry(text, "--json"), 1) == [["a", "b", "a", "b"]]
    done = dry(text)
    assert done.exit_code == 1 and "path 1 of 1: endless" in shown(done)
    assert "error: turns.exceeded: step 4 leads back to step 3 and nothing has changed" in shown(done)


def test_a_cycle_that_changes_without_an_end_is_not_followed_for_ever(dry: Dry) -> None:
    text = playbook(http("a", "set: {ctx.n: '{{ (ctx.n | default(0)) + 1 }}'}, next: {arcs: [{step: a}]}"))
    done = dry(text)
    assert done.exit_code == 1 and "path 1 of 1: too long, and not followed to its end" in shown(done)
    assert "set ctx.n = 100 next a and 1,902 more steps" in shown(done)


def test_a_missing_name_fails_the_path_with_its_place(dry: Dry) -> None:
    done = dry(playbook(http("a", "set: {ctx.n: '{{ workload.missing }}'}")))
    assert done.exit_code == 1 and "there is no 'missing'" in shown(done) and "(line 5)" in shown(done)


def test_what_the_tool_would_refuse_fails_the_path(dry: Dry) -> None:
    text = playbook("{step: a, tool: {kind: http, url: 'http://x', timeout: '{{ workload.t }}'}}")
    assert "http.config" in shown(dry(text.replace("workflow:", "workload: {t: soon}\nworkflow:")))


def test_a_playbook_with_errors_is_refused_with_all_of_them(dry: Dry) -> None:
    done = dry(playbook("{step: a, tool: {kind: http, urll: x}}", "{step: b, tool: {kind: nop}}"))
    assert done.exit_code == 1
    assert "a.yaml:5:" in done.stderr.replace("\n", "") and "a.yaml:6:" in done.stderr.replace("\n", "")


def test_an_older_form_is_warned_of_and_refused_if_strict(dry: Dry) -> None:
    text = playbook("{step: a, args: {n: 1}, tool: {kind: http, url: 'http://x'}}")
    done = dry(text)
    assert done.exit_code == 0 and "a.yaml:5:" in done.stderr.replace("\n", "") and "warning: " in done.stderr
    assert dry(text, "--strict").exit_code == 1


def test_a_number_of_a_rule_that_is_unknown_does_not_fail_the_path(dry: Dry) -> None:
    rules = "{rules: [{when: '{{ error }}', then: {do: retry, attempts: '{{ a.n }}', delay: '{{ a.d }}'}}]}"
    text = playbook(
        http("a", "next: {arcs: [{step: b}]}"), http("b", config=f"spec: {{policy: {rules}, timeout: '{{{{ a.t }}}}'}}")
    )
    assert paths(dry(text, "--json")) == [["a", "b"]]
    (path,) = document(dry(text, "--json", "--answer", 'b=[{"error": {}}, {}]'))["paths"]
    assert [(call["attempt"], call["waits"]) for call in path["steps"][1]["calls"]] == [(1, None), (2, None)]


def test_what_an_unknown_result_must_have_is_not_checked_and_of_an_answer_it_is(dry: Dry) -> None:
    config = "assert: {expects: [n.m], returns: [v]}, input: {n: '{{ workload }}'}"
    limits = "executor: {spec: {policy: {limits: {max_payload_bytes: 10}}}}\n"
    text = playbook(http("a", config=config), head=f"{limits}workload: {{m: 1}}\n")
    assert paths(dry(text, "--json")) == [["a"]]
    assert paths(dry(text, "--json", "--answer", 'a={"v": 1}')) == [["a"]]
    for answer, code in (('{"w": 1}', "assert.returns"), ('{"v": "0123456789"}', "value.too_large")):
        assert code in shown(dry(text, "--answer", f"a={answer}"))


def test_what_is_collected_of_unknown_results_is_unknown(dry: Dry) -> None:
    text = playbook(
        http("a", "next: {arcs: [{step: b, when: '{{ a.items | length > 2 }}'}]}", "output: {accumulate: ACCUMULATE}"),
        http("b"),
    ).replace("ACCUMULATE", "{strategy: concat, merge_path: $.items, manifest_as: items}")
    assert paths(dry(text, "--json")) == [["a", "b"], ["a"]]
    assert paths(dry(text, "--json", "--answer", 'a={"items": [1, 2, 3]}')) == [["a", "b"]]


def test_more_calls_than_answers_fail_the_path(dry: Dry) -> None:
    text = playbook(http("a", "next: {arcs: [{step: a, when: '{{ output.data.more }}'}]}"))
    done = dry(text, "--answer", 'a=[{"more": true}]')
    assert done.exit_code == 1 and "step 'a' was called 2 times, and there is 1 answer" in shown(done)


def test_a_step_without_a_tool_is_passed(dry: Dry) -> None:
    assert paths(dry(playbook(http("a", "next: {arcs: [{step: end}]}"), "{step: end}"), "--json")) == [["a", "end"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--answer", "b={}"), "there is no step 'b'"),
        (("--answer", "a"), "expected step=JSON"),
        (("--answer", "a={"), "--answer a: invalid JSON"),
        (("--answer", 'a="run"'), "no tool is called here"),
        (("--no-wait",), "--no-wait does not work with --dry-run"),
        (("--answers", "missing.yaml"), "missing.yaml: No such file"),
    ],
)
def test_wrong_use_is_refused(dry: Dry, words: tuple[str, ...], message: str) -> None:
    done = dry(playbook(http("a")), *words)
    assert done.exit_code == 2 and message in " ".join(done.stderr.split())


def test_answers_are_for_dry_runs_only() -> None:
    done = CliRunner().invoke(app, ["run", "playbooks/hello.yaml", "--answer", "greet=1"])
    assert done.exit_code == 2 and "work only with --dry-run" in " ".join(done.stderr.split())


def test_secrets_in_a_workload_are_masked(dry: Dry) -> None:
    text = playbook("{step: a, input: {password: '{{ workload.password }}'}, tool: {kind: http, url: 'http://x'}}")
    done = dry(text, "--json", "--set", "password=hunter22", "--set", "other=1")
    assert "hunter22" not in done.output and '"password": "***"' in done.output


@pytest.mark.parametrize(
    "file",
    [path for path in sorted((ROOT / "playbooks").glob("*.yaml")) if ".test." not in path.name],
    ids=lambda p: p.stem,
)
def test_every_example_is_followed_to_its_ends(file: Path) -> None:
    done = document(CliRunner().invoke(app, ["run", "--dry-run", str(file), "--json"]))
    assert done["complete"] and {path["status"] for path in done["paths"]} == {"completed"}


def test_limits_of_the_deployment_are_shown_with_their_keys(dry: Dry) -> None:
    spec = "{concurrency: {key: 'w {{ workload.n }}', limit: 2}, rate: {key: weather, per: 5s, limit: 3}}"
    text = playbook(f"{{step: a, tool: {{kind: noop}}, spec: {spec}, next: {{arcs: [{{step: b}}]}}}}", "{step: b}")
    text = text.replace(
        "workflow:", "workload: {n: 1}\nexecutor: {spec: {concurrency: {key: all, limit: 1}}}\nworkflow:", 1
    )
    found = document(dry(text, "--json"))
    assert found["limits"] == {"concurrency": {"key": "all", "limit": 1}}
    assert [step["limits"] for step in found["paths"][0]["steps"]] == [
        {
            "concurrency": {"key": "w {{ workload.n }}", "limit": 2},
            "rate": {"key": "weather", "limit": 3, "per": 5.0},
        },
        {},
    ]
    shown = dry(text).output
    assert "\nlimit  1 execution at once, by key all\n" in shown
    assert "       limit  2 calls at once, by key w {{ workload.n }}\n" in shown
    assert "       limit  3 calls within 5 s, by key weather\n" in shown


def test_the_pool_of_a_step_is_shown_where_it_names_one(dry: Dry) -> None:
    text = playbook("{step: a, pool: gpu, tool: {kind: noop}, next: {arcs: [{step: b}]}}", "{step: b}")
    assert [step["pool"] for step in document(dry(text, "--json"))["paths"][0]["steps"]] == ["gpu", None]
    assert "1. a  noop  in pool gpu" in dry(text).output


def test_the_answer_of_an_approval_is_the_data_of_its_signal(dry: Dry) -> None:
    on_error = "{step: c, when: \"{{ output.status == 'error' }}\"}"
    arcs = f"next: {{arcs: [{on_error}, {{step: b}}]}}"
    text = playbook(f"{{step: a, tool: {{kind: wait, approval: manager}}, {arcs}}}", http("b"), http("c"))
    assert paths(dry(text, "--json", "--answer", 'a={"approved": true}')) == [["a", "b"]]
    rejected = dry(text, "--json", "--answer", 'a={"approved": false, "comment": "too dear"}')
    assert paths(rejected) == [["a", "c"]]
    error = document(rejected)["paths"][0]["steps"][0]["error"]
    assert (error["code"], error["message"]) == ("wait.rejected", "'manager' was not approved: too dear")
    assert "answer with a decision" in dry(text, "--answer", 'a={"approvd": true}').output.replace("\n", " ")


def test_what_undoes_a_step_can_be_answered(dry: Dry) -> None:
    text = playbook(
        http("a", "compensate: {tool: {kind: http, url: 'http://x/undo'}}, next: {arcs: [{step: b}]}"), http("b")
    )
    failed, gone = '{"error": {"code": "x"}}', '{"error": {"code": "gone"}}'
    done = dry(text, "--json", "--answer", f"b={failed}", "--answer", f"a.compensate={gone}")
    undone = document(done, 1)["paths"][0]["steps"][2]
    assert (undone["step"], undone["error"]["code"]) == ("a.compensate", "gone")
