"""What Python code reads of its execution by `context`, in whole playbooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from tests.integration.worker.stack import Stack

from noetl_serverless.results.reader import Resolver
from noetl_serverless.tools import registry

EVERYTHING = ["ctx", "day", "execution_id", "large", "limit", "n", "other", "small", "workload"]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    await stack.worker.close()
    await registry.close()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps whose results by reference were loaded."""
    found = []
    load = Resolver.load

    async def watched(self: Resolver, ref: dict[str, Any]) -> Any:
        found.append(ref["ref"].split("/")[5].split(".")[0])
        return await load(self, ref)

    monkeypatch.setattr(Resolver, "load", watched)
    return found


def steps(code: str, tool: str = "") -> str:
    return f"""
  - step: small
    tool: {{kind: python, code: "result = {{'n': 1}}"}}
    set: {{ctx.n: "{{{{ output.data.n + 1 }}}}", ctx.day: today}}
    next: {{arcs: [{{step: large}}]}}
  - {{step: large, tool: {{kind: python, code: "result = ['x' * 1000] * 100"}}, next: {{arcs: [{{step: other}}]}}}}
  - {{step: other, tool: {{kind: python, code: "result = ['y' * 1000] * 100"}}, next: {{arcs: [{{step: read}}]}}}}
  - step: read
    tool:
      kind: python
      code: |
{indent(code, "        ")}
{tool}
"""


async def read(stack: Stack, code: str, tool: str = "") -> Any:
    state = await stack.run(f"workload: {{limit: 7, day: then}}\nworkflow:{steps(code, tool)}")
    assert state.status == "completed", state.error
    return state.outcomes["read"]["data"]


@pytest.mark.parametrize(
    ("code", "expected", "fetched"),
    [
        ("return context['workload']['limit'] + context['ctx']['n']", 9, []),
        ("result = context.get('workload', {}).get('nope', 'no')", "no", []),
        ("result = [context.get('small'), context.get('day'), context.get('limit')]", [{"n": 1}, "today", 7], []),
        ("result = len(context['large'])", 100, ["large"]),
        ("result = ['ctx' in context, 'iter' in context, 'later' in context]", [True, False, False], []),
        ("def main(context):\n    return context['ctx']", {"n": 2, "day": "today"}, []),
        (
            "result = sorted(context)",
            ["ctx", "day", "execution_id", "large", "limit", "n", "other", "small", "workload"],
            None,
        ),
    ],
)
async def test_code_reads_what_it_names(
    stack: Stack, loaded: list[str], code: str, expected: Any, fetched: list[str] | None
) -> None:
    assert await read(stack, code) == expected
    assert sorted(set(loaded)) == (fetched if fetched is not None else ["large", "other"])


async def test_an_input_of_that_name_is_meant_and_nothing_is_loaded(stack: Stack, loaded: list[str]) -> None:
    code = "result = [context[name] for name in sorted(context)]"
    assert await read(stack, code, "      input: {context: {a: 1}}") == [1]
    assert loaded == []


async def test_a_loop_has_its_iteration_and_a_pipeline_its_tasks(stack: Stack) -> None:
    state = await stack.run(
        """
        workload: {factor: 10}
        workflow:
          - step: each
            loop: {in: [1, 2, 3], iterator: n, spec: {mode: parallel}}
            tool:
              - {name: double, kind: python, code: "return 2 * context['iter']['n']"}
              - name: add
                kind: python
                code: |
                  last = context['iter'].get('_last')
                  return {'sum': context['double'] + context['workload']['factor'], 'n': context['n'], 'last': last}
            next: {arcs: [{step: report}]}
          - step: report
            tool:
              kind: python
              code: "return [[item[key] for key in ('sum', 'n', 'last')] for item in context['each']]"
        """
    )
    assert state.status == "completed", state.error
    assert state.outcomes["report"]["data"] == [[12, 1, False], [14, 2, False], [16, 3, True]]
