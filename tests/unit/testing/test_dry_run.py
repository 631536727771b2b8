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
from noetl_serverless.testing.answers import Answers
from noetl_serverless.testing.case_file import BoundCase, read_cases
from noetl_serverless.testing.dry_run.decider import Choices
from noetl_serverless.testing.dry_run.explore import MAX_PATHS, dry_run
from noetl_serverless.testing.dry_run.pipeline import MAX_CALLS, DryTool
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
        assert {path.status for path in run.paths} <= {"completed", "failed", "running"}
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
