"""Dry runs against the engine itself: with an answer for every tool, both take the same path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.playbooks import book

from noetl_serverless.playbook.plan import Plan
from noetl_serverless.playbook.template import Template, Tree
from noetl_serverless.playbook.template_error import NeedsFetch
from noetl_serverless.testing.answers import Answer, Answers
from noetl_serverless.testing.case_file import BoundCase, read_cases
from noetl_serverless.testing.dry_run import path as playing
from noetl_serverless.testing.dry_run.decider import Choices
from noetl_serverless.testing.dry_run.explore import MAX_PATHS, MAX_STEPS_SHOWN, dry_run
from noetl_serverless.testing.dry_run.path import DryPath
from noetl_serverless.testing.dry_run.pipeline import MAX_CALLS, DryTool
from noetl_serverless.testing.dry_run.recurrence import Recurrence
from noetl_serverless.testing.dry_run.unknown import Unknown, as_document, as_part, render_known
from noetl_serverless.testing.tools import tool_context
from noetl_serverless.tools.plans import load_plan
from noetl_serverless.tools.port import ToolCall
from noetl_serverless.worker.execution import pipeline

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
TEXTS = {file.name: file.read_text() for file in PLAYBOOKS.glob("*.yaml")}


def answered_cases() -> Iterator[Any]:
    """(case, plan) of the examples' cases in which no tool but noop is called itself."""
    for name, text in sorted(TEXTS.items()):
        if name.endswith(".test.yaml"):
            cases = read_cases(text)
            plan = load_plan(TEXTS[cases.test.playbook])
            for case in cases.bind(plan):
                if case.expect.path is not None and not case.run and "runs=True" not in repr(case.answers):
                    yield pytest.param(case, plan, id=f"{plan.name}: {case.name}")


ANSWERED = list(answered_cases())


def test_some_cases_answer_all_tools() -> None:
    assert len(ANSWERED) >= 3


@pytest.mark.parametrize(("case", "plan"), ANSWERED)
async def test_a_dry_run_with_all_answers_takes_the_path_of_the_run(case: BoundCase, plan: Plan) -> None:
    run = await dry_run(plan, case.workload, case.answers)
    assert [[step.step for step in path.steps if not step.skipped] for path in run.paths] == [case.expect.path]


@pytest.mark.parametrize("number", range(0, 320, 8))
async def test_any_playbook_is_followed_to_an_end(number: int) -> None:
    for entry in book(number).entries:
        run = await dry_run(load_plan(entry.content), {}, {})
        assert 1 <= len(run.paths) <= MAX_PATHS
        assert {path.status for path in run.paths} <= {"completed", "failed", "endless", "running"}
        assert run.document()["paths"]


def test_each_choice_is_made_each_way_once() -> None:
    choices, paths = Choices(), []
    while True:
        first = choices.choose(("a", "arc", 0))
        paths.append((first, choices.choose(("b", "arc", 0))) if first else (first,))
        if not choices.begin_next():
            break
    assert paths == [(True, True), (False,), (True, False)]


def test_a_choice_that_comes_again_is_made_the_other_way() -> None:
    choices = Choices()
    assert [choices.choose(("a", "arc", 0)) for _ in range(4)] == [True, False, True, False]
    assert choices.begin_next()
    assert [choices.choose(("a", "arc", 0)) for _ in range(3)] == [False, True, True]
    assert not choices.begin_next()


def test_an_unknown_value_makes_the_templates_unknown_that_read_it() -> None:
    scope = {"a": Unknown("a"), "n": 2}
    tree: Tree = {"both": Template("{{ a.x }} {{ n }}"), "one": Template("{{ n }}"), "either": Template("{{ n or a }}")}
    assert as_document(render_known(tree, scope)) == {"both": {"$unknown": "{{ a.x }} {{ n }}"}, "one": 2, "either": 2}
    for template in (
        "{{ a }}",
        "{{ a.x.y }}",
        "{{ a[0] }}",
        "{{ a | default(1) }}",
        "{{ a.x is defined }}",
        "{{ [a] }}",
    ):
        with pytest.raises(NeedsFetch):
            Template(template).render(scope)


async def test_a_result_that_is_given_may_have_unknown_parts(tmp_path: Path) -> None:
    tool = DryTool(Answers({}))
    call = ToolCall("noop", "task", {"result": {"n": 1, "m": Unknown("m")}})
    outcome = await tool.run(call, tool_context(tmp_path))
    assert outcome.stored, "what is unknown has no stored form"
    assert as_part(outcome.data, "it")["ref"]["extracted"] == {"n": 1}


def test_the_known_fields_of_a_value_can_be_read() -> None:
    part = as_part({"status": "ok", "rows": Unknown("rows")}, "it")
    assert part["ref"]["extracted"] == {"status": "ok"}
    assert as_part({"status": "ok"}, "it") == {"data": {"status": "ok"}}
    assert as_part("x" * 100_000, "it")["ref"]["extracted"] == {}


def test_a_document_is_cut_to_a_size() -> None:
    assert as_document(list(range(1000)))[-2:] == [498, "... 501 more"]
    assert as_document({"a": "x" * 5000})["a"].endswith("x... (5,000 characters)")
    nested = as_document([[["deep"] * 100] * 100] * 100)
    assert len(str(nested)) < 20_000


async def test_the_calls_of_an_endless_pipeline_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MAX_VISITS", 1000)
    rules = "{rules: [{else: {then: {do: jump, to: a}}}]}"
    plan = load_plan(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\nworkflow:\n"
        f"  - {{step: s, tool: [{{name: a, kind: noop, spec: {{policy: {rules}}}}}, {{name: b, kind: noop}}]}}\n"
    )
    (path,) = (await dry_run(plan, {}, {})).paths
    assert path.status == "failed" and path.error is not None and path.error["code"] == "rule.endless"
    assert len(path.steps[0].calls) == MAX_CALLS and path.steps[0].more_calls == 1001 - MAX_CALLS


async def test_one_row_stands_for_all_rows_of_a_cursor() -> None:
    plan = load_plan(
        """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t}
workflow:
  - step: drain
    loop:
      iterator: job
      cursor: {kind: postgres, auth: wh, claim: SELECT 1}
      spec: {mode: cursor}
    tool: {kind: http, url: "http://api/{{ iter.job.id }}"}
    next: {arcs: [{step: all}]}
  - {step: all, tool: {kind: python, code: "return context['drain']"}}
"""
    )
    done = await dry_run(plan, {}, {})
    (path,) = done.document()["paths"]
    assert (path["status"], [step["step"] for step in path["steps"]]) == ("completed", ["drain", "all"])
    assert path["steps"][0]["loop"]["in"] == "a postgres cursor"
    assert len(path["steps"][0]["calls"]) == 1


# -- cycles

AGAIN = "next: {arcs: [{step: a}]}"
COUNTS = "set: {ctx.n: '{{ (ctx.n | default(0)) + 1 }}'}"
EITHER = "next: {arcs: [{step: b, when: '{{ output.data.x }}'}, {step: c}]}"
# the steps of a playbook -> those of its first path
ENDLESS = {
    "a step": ([f"{{step: a, tool: {{kind: noop}}, {AGAIN}}}"], "aa"),
    "two steps": (
        ["{step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}", f"{{step: b, tool: {{kind: noop}}, {AGAIN}}}"],
        "abab",
    ),
    "steps before the cycle": (
        [
            "{step: z, tool: {kind: http, url: x}, next: {arcs: [{step: a}]}}",
            f"{{step: a, tool: {{kind: noop}}, {AGAIN}}}",
        ],
        "zaa",
    ),
    "a value that alternates": (
        [f"{{step: a, tool: {{kind: noop}}, set: {{ctx.x: '{{{{ not (ctx.x | default(false)) }}}}'}}, {AGAIN}}}"],
        "aaa",
    ),
    "a value that is bounded": (
        [f"{{step: a, tool: {{kind: noop}}, set: {{ctx.x: '{{{{ [(ctx.x | d(0)) + 1, 3] | min }}}}'}}, {AGAIN}}}"],
        "aaaa",
    ),
    "a loop": ([f"{{step: a, loop: {{in: [1, 2], iterator: x}}, tool: {{kind: http, url: x}}, {AGAIN}}}"], "aa"),
    "a loop of unknown items": (
        [
            "{step: z, tool: {kind: http, url: x}, next: {arcs: [{step: a}]}}",
            f"{{step: a, loop: {{in: '{{{{ z.xs }}}}', iterator: x}}, tool: {{kind: http, url: x}}, "
            f"set: {{ctx.all: '{{{{ a }}}}'}}, {AGAIN}}}",
        ],
        "zaa",
    ),
    "undecided conditions": (
        [
            f"{{step: a, tool: {{kind: http, url: x}}, {EITHER}}}",
            f"{{step: b, tool: {{kind: http, url: x}}, {AGAIN}}}",
            f"{{step: c, tool: {{kind: http, url: x}}, {AGAIN}}}",
        ],
        "abacabac",
    ),
    "a step that is skipped": (
        [
            "{step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}",
            "{step: b, tool: {kind: noop}, spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}, "
            "next: {arcs: [{step: a, when: \"{{ event.name == 'step.skipped' }}\"}]}}",
        ],
        "abab",
    ),
    "a branch that waits": (
        [
            "{step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}",
            "{step: b, tool: {kind: noop}, next: {arcs: [{step: b}, {step: c}]}}",
            "{step: c, tool: {kind: noop}}",
        ],
        "abb",
    ),
}


def plan_of(*steps: str, head: str = "") -> Plan:
    listed = "".join(f"  - {step}\n" for step in steps)
    return load_plan(f"apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: t}}\n{head}workflow:\n{listed}")


def names(path: DryPath) -> str:
    return "".join(step.step for step in path.steps)


@pytest.mark.parametrize(("steps", "turns"), ENDLESS.values(), ids=ENDLESS)
async def test_an_endless_cycle_is_followed_until_it_repeats_itself(steps: list[str], turns: str) -> None:
    run = await dry_run(plan_of(*steps), {}, {})
    path = run.paths[0]
    assert (path.status, names(path)) == ("endless", turns) and not run.ends_well
    assert path.error is not None and path.error["code"] == "turns.exceeded"


@pytest.mark.parametrize("steps", [steps for steps, _ in ENDLESS.values()], ids=ENDLESS)
async def test_what_is_said_to_be_repeated_is_what_would_follow(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(*steps)
    found = (await dry_run(plan, {}, {})).paths
    monkeypatch.setattr(Recurrence, "of", lambda self, state: None)
    monkeypatch.setattr(playing, "MAX_STEPS", 60)
    for path, followed in zip(found, (await dry_run(plan, {}, {})).paths, strict=True):
        assert path.error is not None and followed.status == "running"
        first = int(path.error["message"].partition("steps ")[2].split(" ")[0] or 0) or len(path.steps)
        turn = names(path)[first - 1 :]
        assert names(followed) == (names(path) + turn * 100)[: len(followed.steps)]


async def test_a_step_that_ended_beside_the_repeated_one_is_not_the_one_that_leads_back() -> None:
    run = await dry_run(
        plan_of(
            "{step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}",
            "{step: b, tool: {kind: noop}, next: {arcs: ["
            "{step: a, when: '{{ ctx.k is not defined }}', set: {ctx.k: 1}}, {step: b}]}}",
            "{step: c, loop: {in: [], iterator: i}, tool: {kind: noop}}",
        ),
        {},
        {},
    )
    (path,) = run.paths
    assert (path.status, names(path)) == ("endless", "abcabc")
    assert path.error is not None
    assert path.error["message"].startswith("step 5 leads back to itself and nothing has changed: it is repeated")


async def test_an_endless_path_says_which_steps_are_repeated() -> None:
    steps, _ = ENDLESS["steps before the cycle"]
    (path,) = (await dry_run(plan_of(*steps), {}, {})).paths
    assert path.error is not None and path.error["message"] == (
        "step 3 leads back to itself and nothing has changed: it is repeated until executor.spec.max_turns (10,000) "
        "ends the execution"
    )
    steps, _ = ENDLESS["undecided conditions"]
    head = "executor: {spec: {max_turns: 50}}\n"
    paths = (await dry_run(plan_of(*steps, head=head), {}, {})).paths
    assert paths[0].error is not None and paths[0].error["message"] == (
        "step 8 leads back to step 5 and nothing has changed: steps 5 to 8 are repeated until executor.spec.max_turns "
        "(50) ends the execution, unless undecided conditions come out otherwise than here"
    )


async def test_a_cycle_that_a_counter_ends_is_followed_to_its_end() -> None:
    arcs = "next: {arcs: [{step: a, when: '{{ ctx.n < 700 }}'}, {step: b}]}"
    run = await dry_run(
        plan_of(f"{{step: a, tool: {{kind: noop}}, {COUNTS}, {arcs}}}", "{step: b, tool: {kind: noop}}"), {}, {}
    )
    (path,) = run.paths
    assert (path.status, names(path)) == ("completed", "a" * 700 + "b")
    (document,) = run.document()["paths"]
    assert (len(document["steps"]), document["more_steps"]) == (701, 0)


async def test_a_cycle_that_its_answers_end_is_followed_to_its_end() -> None:
    plan = plan_of("{step: a, tool: {kind: http, url: x}, next: {arcs: [{step: a, when: '{{ output.data.more }}'}]}}")
    more, enough = Answer({"more": True}), Answer({"more": False})
    (path,) = (await dry_run(plan, {}, {("a", "a"): (more,) * 6 + (enough,)})).paths
    assert (path.status, names(path)) == ("completed", "a" * 7)
    (path,) = (await dry_run(plan, {}, {("a", "a"): (more,) * 6})).paths
    assert path.status == "failed" and path.error is not None and path.error["code"] == "dry_run.no_answer"
    (path,) = (await dry_run(plan, {}, {("a", "a"): more})).paths
    assert (path.status, names(path)) == ("endless", "aa")


async def test_a_number_that_only_changes_its_type_is_another_value() -> None:
    arcs = "next: {arcs: [{step: a, when: '{{ ctx.x | string != \"1.0\" }}'}]}"
    steps = f"{{step: a, tool: {{kind: noop}}, set: {{ctx.x: '{{{{ 1.0 if ctx.x is defined else 1 }}}}'}}, {arcs}}}"
    (path,) = (await dry_run(plan_of(steps), {}, {})).paths
    assert (path.status, names(path)) == ("completed", "aa")


async def test_of_a_path_that_is_not_followed_to_its_end_the_first_steps_are_shown() -> None:
    run = await dry_run(plan_of(f"{{step: a, tool: {{kind: noop}}, {COUNTS}, {AGAIN}}}"), {}, {})
    (path,) = run.paths
    (document,) = run.document()["paths"]
    assert (path.status, document["more_steps"]) == ("running", len(path.steps) - MAX_STEPS_SHOWN)
    assert [step["generation"] for step in document["steps"]] == list(range(1, MAX_STEPS_SHOWN + 1))


def test_what_further_choices_depend_on() -> None:
    choices, key = Choices(), ("a", "arc", 0)
    assert choices.balances == {}
    for balance in (1, 0, 1):
        choices.choose(key)
        assert choices.balances == {key: balance}
    assert choices.begin_next()
    assert choices.balances is None, "the path begins as the first one did"
    choices.choose(key)
    assert choices.balances == {key: -1}


VARIABLES = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: v, path: t/v}
workflow:
  - step: a
    tool: {kind: http, url: "https://example.com/x"}
    set: {vars.known: 1, vars.unknown: "{{ output.data.n }}"}
    next: {arcs: [{step: b, when: "{{ vars.limit > 3 }}"}, {step: c, when: "{{ vars.known == 1 }}"}]}
  - step: b
    loop: {in: [1, 2], iterator: n, spec: {mode: sequential}}
    tool:
      kind: http
      url: "https://example.com/{{ vars.known }}/{{ vars.sum | default(0) }}"
      params: {u: "{{ vars.unknown }}", limit: "{{ vars.limit }}"}
      spec: {policy: {rules: [{else: {then: {do: continue, set: {vars.sum: "{{ output.data.n }}"}}}}]}}
  - {step: c, tool: {kind: noop}}
"""


async def test_variables_that_steps_set_are_known_and_those_of_users_are_not() -> None:
    document = (await dry_run(load_plan(VARIABLES), {}, {})).document()
    paths = [[step["step"] for step in path["steps"] if not step["skipped"]] for path in document["paths"]]
    assert paths == [["a", "b"], ["a", "c"]], "a condition on what a user sets was not followed both ways"
    a, b = (step for step in document["paths"][0]["steps"] if not step["skipped"])
    assert a["set"] == {"vars.known": 1, "vars.unknown": {"$unknown": "{{ output.data.n }}"}}
    assert b["calls"][0]["config"]["url"] == "https://example.com/1/0"
    assert b["calls"][0]["config"]["params"] == {
        "u": {"$unknown": "{{ vars.unknown }}"},
        "limit": {"$unknown": "{{ vars.limit }}"},
    }
    assert set(b["set"]) == {"vars.sum"}


async def test_a_cycle_that_a_variable_ends_is_followed_to_its_end() -> None:
    count = "{{ vars.n | default(0) + 1 }}"
    text = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: v, path: t/v}}
workflow:
  - step: a
    tool: {{kind: noop}}
    set: {{vars.n: "{count}"}}
    next: {{arcs: [{{step: a, when: "{{{{ vars.n < 4 }}}}"}}]}}
"""
    (path,) = (await dry_run(load_plan(text), {}, {})).paths
    assert (path.status, len(path.steps)) == ("completed", 4)
